package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/optiwe/callbridge/hub/server"
)

// stopTimeout is how long a graceful stop may take.
const stopTimeout = 10 * time.Second

func (p *program) serve() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the service", Args: noArgs,
		Long: "Runs the service against the Redis named by CALLBRIDGE_REDIS_URL until it is told to stop.\n" +
			"On SIGTERM it takes no new work and finishes or hands back what it has in hand, within 10 seconds.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.settings()
			if err == nil {
				err = s.Check()
			}
			if err != nil {
				return err
			}
			return p.runServer(cmd.Context(), s)
		},
	}
	p.settingFlags(cmd)
	return cmd
}

func (p *program) runServer(ctx context.Context, s server.Settings) error {
	log := p.logger(s)
	version, _ := buildVersion()
	srv, err := server.New(server.Config{Settings: s, Logger: log, Version: version})
	if err != nil {
		return err //nolint:wrapcheck // says what it is
	}
	failed := make(chan error, 2)
	err = srv.Start(ctx, func(err error) { failed <- err })
	if err == nil {
		log.InfoContext(ctx, "callbridge serves", "address", srv.Addr(), "connectors", srv.Registry().Names(), "version", version)
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	log.InfoContext(ctx, "callbridge stops")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, srv.Close(stop))
}

func (p *program) healthcheck() *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Exit 0 if the service on this machine lives", Args: noArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.settings()
			if err != nil {
				return err
			}
			_, port, err := net.SplitHostPort(s.Listen)
			if err != nil {
				return fmt.Errorf("healthcheck: %w", err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/healthz", nil)
			if err != nil {
				return fmt.Errorf("healthcheck: %w", err)
			}
			resp, err := new(http.Client).Do(req)
			if err != nil {
				return fmt.Errorf("healthcheck: %w", err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("healthcheck: the service answers %s", resp.Status)
			}
			return nil
		},
	}
}
