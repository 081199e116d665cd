package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/optiwe/callbridge/test/demo"
)

func (p *program) demo() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use: "demo", Short: "See everything at work, with nothing to install", Args: noArgs,
		Long: "Runs the service with an embedded Redis, a simulated Salesforce org and a simulated Slack workspace,\n" +
			"posts sample calls, says what is shared and what is withheld and why, and stays up until Ctrl-C so\n" +
			"that you can look around. Nothing is kept.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Calls < 0 || o.Calls > 100_000 {
				return &usageError{errors.New("--calls must be 1 to 100,000")}
			}
			o.Out = p.stdout
			if f, ok := p.stdout.(*os.File); ok {
				o.Terminal = term.IsTerminal(int(f.Fd())) && p.getenv("NO_COLOR") == ""
			}
			o.Version, _ = buildVersion()
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Exit, "exit", false, "stop when all is delivered; exit 0 only if everything that should arrive did and nothing else")
	cmd.Flags().IntVar(&o.Calls, "calls", 0, "post this many generated calls instead of the samples")
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address of the API")
	return cmd
}
