package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/optiwe/callbridge/hub/server"
	"github.com/optiwe/callbridge/oauth/seal"
)

// finding is one line of the doctor's table.
type finding struct {
	what string
	ok   bool
	text string
}

func (p *program) doctor() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check settings, Redis, keyset and providers", Args: noArgs,
		Long: "Checks the settings, Redis (version, persistence, eviction policy), the keyset and whether the\n" +
			"providers can be reached. Prints a table and exits 1 if anything is at fault.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.settings()
			if err == nil {
				err = s.Check()
			}
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			return p.report(p.examine(ctx, s))
		},
	}
	p.settingFlags(cmd)
	return cmd
}

func (p *program) examine(ctx context.Context, s server.Settings) []finding {
	out := []finding{{"settings", true, "complete"}}
	if _, err := seal.Open(s.Keyset); err != nil {
		out = append(out, finding{"keyset", false, err.Error()})
	} else {
		out = append(out, finding{"keyset", true, "opens"})
	}
	out = append(out, p.examineRedis(ctx, s)...)
	if s.SalesforceClientID == "" {
		out = append(out, finding{"salesforce", true, "off: CALLBRIDGE_SALESFORCE_CLIENT_ID is not set"})
	} else {
		out = append(out, reach(ctx, "salesforce", s.SalesforceLoginURL))
	}
	if s.SlackClientID == "" {
		out = append(out, finding{"slack", true, "off: CALLBRIDGE_SLACK_CLIENT_ID is not set"})
	} else {
		out = append(out, reach(ctx, "slack", s.SlackAPIURL))
	}
	return out
}

func (p *program) examineRedis(ctx context.Context, s server.Settings) []finding {
	srv, err := server.New(server.Config{Settings: s, Logger: p.logger(s)})
	if err != nil {
		return []finding{{"redis", false, err.Error()}}
	}
	defer srv.Close(ctx) //nolint:errcheck // nothing was written that closing could lose
	f, err := srv.Store().Facts(ctx)
	if err != nil {
		return []finding{{"redis", false, "cannot be asked: " + err.Error()}}
	}
	out := []finding{{"redis", true, "version " + f.Version + ", " + f.Role}}
	if err := f.Problem(); err != nil {
		out = append(out, finding{"redis data", s.AllowVolatileRedis, err.Error()})
	} else {
		out = append(out, finding{"redis data", true, durability(f.AppendFsync)})
	}
	if err := srv.Ready(ctx); err != nil {
		out = append(out, finding{"redis write", false, err.Error()})
	} else {
		out = append(out, finding{"redis write", true, "works"})
	}
	return out
}

// durability says what a SIGKILL or a power cut can cost.
func durability(fsync string) string {
	switch fsync {
	case "always":
		return "appendfsync always: what was accepted is kept"
	case "everysec":
		return "appendfsync everysec: a crash of Redis can lose the calls of about a second; always keeps them"
	case "no":
		return "appendfsync no: a crash of the machine can lose many calls; set appendfsync always"
	}
	return "persistence is on; how often it is flushed could not be asked"
}

// reach opens a TCP connection to the address's host.
func reach(ctx context.Context, what, address string) finding {
	u, err := url.Parse(address)
	if err != nil {
		return finding{what, false, "its address cannot be read"}
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return finding{what, false, u.Host + " cannot be reached: " + err.Error()}
	}
	_ = c.Close() // nothing was written
	return finding{what, true, u.Host + " can be reached"}
}

func (p *program) report(fs []finding) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	faults := 0
	for _, f := range fs {
		mark := "ok"
		if !f.ok {
			mark = "FAULT"
			faults++
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.what, strings.ReplaceAll(f.text, "\n", " ")); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if faults > 0 {
		return errors.New("doctor found faults; the table says which")
	}
	return nil
}
