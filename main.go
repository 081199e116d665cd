// Command callbridge shares analysed sales calls with Salesforce, Slack and
// webhooks: only what an admin allowed, never lost, never twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/optiwe/callbridge/hub/server"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // wrong flags, arguments or settings
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is what the commands share.
type program struct {
	getenv func(string) string
	stdout io.Writer
	stderr io.Writer
	flags  map[string]*string // of settings, by variable name; those given override the environment
}

// usageError is a mistake in flags, arguments or settings.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// run is the whole program but for the process: it returns the exit status.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	p := &program{getenv: getenv, stdout: stdout, stderr: stderr, flags: map[string]*string{}}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintln(stderr, "callbridge:", err) // there is nowhere else to say it
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*server.SettingError](err); ok {
		return exitUsage
	}
	return exitFailure
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "callbridge",
		Short: "Share analysed calls with Salesforce and Slack, only as far as an admin allowed",
		Long: "Callbridge takes in analysed sales calls and shares them with Salesforce, Slack and webhooks:\n" +
			"only what an admin allowed, never lost, never twice, and all of it on record.\n\n" +
			"To see it at work: callbridge demo",
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("there is no command %q; callbridge --help lists them", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.AddCommand(p.demo(), p.serve(), p.org(), p.key(), p.keyset(), p.doctor(), p.healthcheck(), p.version())
	return root
}

// settings reads the settings: flags that were given, then the environment.
func (p *program) settings() (server.Settings, error) {
	return server.ReadSettings(func(name string) string {
		if f, ok := p.flags[name]; ok && *f != "" {
			return *f
		}
		return p.getenv(name)
	})
}

// settingFlags gives the command a flag for each setting.
func (p *program) settingFlags(cmd *cobra.Command) {
	for _, v := range server.Variables() {
		help := v.Help + " (" + v.Name + ")"
		if v.Default != "" {
			help += ", by default " + v.Default
		}
		value, ok := p.flags[v.Name]
		if !ok {
			value = new(string)
			p.flags[v.Name] = value
		}
		cmd.Flags().StringVar(value, v.Flag, "", help)
	}
}

// logger writes to standard error, as text for people and as JSON for machines.
func (p *program) logger(s server.Settings) *slog.Logger {
	opts := &slog.HandlerOptions{Level: s.LogLevel}
	format := s.LogFormat
	if format == "" {
		format = "json"
		if f, ok := p.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	if format == "text" {
		return slog.New(slog.NewTextHandler(p.stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, opts))
}

// noArgs refuses arguments as a mistake in usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("%s takes no argument, and %q was given", cmd.CommandPath(), args[0])}
	}
	return nil
}

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print version, commit and Go version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			v, commit := buildVersion()
			_, err := fmt.Fprintf(p.stdout, "callbridge %s, commit %s, %s\n", v, commit, runtime.Version())
			return err //nolint:wrapcheck // says what it is
		},
	}
}

// buildVersion returns what the linker knows of the source.
func buildVersion() (version, commit string) {
	version, commit = "devel", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, commit
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	return version, commit
}
