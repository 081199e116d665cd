// Package demo is what `callbridge demo` runs: the real service over an embedded
// Redis, a simulated Salesforce org and a simulated Slack workspace, one org with
// both integrations enabled, and the sample calls posted through the API. It
// keeps nothing: when it ends, all of it is gone.
//
// It may import the fakes of the connectors; nothing else outside the tests
// does.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/server"
	"github.com/optiwe/callbridge/oauth/seal"
)

// Options say how to run the demo. The zero value of every field but Out is
// usable.
type Options struct {
	Out      io.Writer // what people watch; required
	Terminal bool      // Out is a terminal: colours, a progress bar
	Exit     bool      // stop when all is delivered, instead of staying up
	Calls    int       // this many generated calls instead of the samples; 0: the samples
	Listen   string    // of the API; "" is 127.0.0.1:8080
	Version  string
}

// demo is the demo while it runs.
type demo struct {
	o     Options
	s     screen
	crm   *salesforcetest.Server
	slack *slacktest.Server
	srv   *server.Server
	org   admin.NewOrg
	api   *client

	salesforce, slackIntegration hub.IntegrationID
	closes                       []func() error
}

// Run runs the demo until it is done or, without Exit, until ctx is done. It
// returns an error if anything that should have arrived did not, or anything
// else did.
func Run(ctx context.Context, o Options) (err error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8080"
	}
	d := &demo{o: o, s: screen{w: o.Out, colour: o.Terminal}}
	defer func() { err = errors.Join(err, d.close()) }()
	d.s.title("Callbridge demo: nothing to install, nothing is kept")
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.setUp(ctx); err != nil {
		return err
	}
	run := d.samples
	if o.Calls > 0 {
		run = d.generated
	}
	if err := run(ctx); err != nil {
		return err
	}
	if o.Exit {
		return nil
	}
	d.addresses()
	<-ctx.Done()
	d.s.line("")
	return nil
}

func (d *demo) onClose(f func() error) { d.closes = append(d.closes, f) }

func (d *demo) close() error {
	var errs []error
	for _, c := range slices.Backward(d.closes) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// start brings up the embedded Redis, the simulated providers and the service.
func (d *demo) start(ctx context.Context) error {
	redis := miniredis.NewMiniRedis()
	if err := redis.Start(); err != nil {
		return fmt.Errorf("demo: embedded redis: %w", err)
	}
	d.onClose(func() error { redis.Close(); return nil })
	d.tick(ctx, redis)
	if err := d.startProviders(); err != nil {
		return err
	}
	keyset, err := d.keyset()
	if err != nil {
		return err
	}
	id, secret := d.crm.ClientCredentials()
	settings, err := server.ReadSettings(func(name string) string {
		return map[string]string{
			"CALLBRIDGE_REDIS_URL":                "redis://" + redis.Addr(),
			"CALLBRIDGE_LISTEN":                   d.o.Listen,
			"CALLBRIDGE_PUBLIC_URL":               "http://" + d.o.Listen,
			"CALLBRIDGE_KEYSET":                   "file:" + keyset,
			"CALLBRIDGE_SALESFORCE_CLIENT_ID":     id,
			"CALLBRIDGE_SALESFORCE_CLIENT_SECRET": secret,
			"CALLBRIDGE_SALESFORCE_LOGIN_URL":     d.crm.URL,
			"CALLBRIDGE_SLACK_CLIENT_ID":          "1234.5678",
			"CALLBRIDGE_SLACK_CLIENT_SECRET":      "fake-client-secret",
			"CALLBRIDGE_SLACK_API_URL":            d.slack.APIURL() + "/",
			"CALLBRIDGE_ALLOW_PRIVATE_HOSTS":      hostOf(d.crm.URL) + "," + hostOf(d.slack.URL),
			"CALLBRIDGE_ALLOW_VOLATILE_REDIS":     "1",
		}[name]
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	// The demo tells its story itself; what goes wrong ends it with an error.
	log := slog.New(slog.DiscardHandler)
	if d.srv, err = server.New(server.Config{Settings: settings, Logger: log, Version: d.o.Version}); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return d.srv.Close(ctx)
	})
	if err := d.srv.Start(ctx, func(error) {}); err != nil {
		return fmt.Errorf("demo: %w (choose another address with --listen)", err)
	}
	return nil
}

// tick lets time pass for the embedded Redis, whose keys do not expire by
// themselves.
func (d *demo) tick(ctx context.Context, redis *miniredis.Miniredis) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				redis.FastForward(time.Second)
			}
		}
	}()
	d.onClose(func() error { cancel(); <-done; return nil })
}

func (d *demo) keyset() (string, error) {
	dir, err := os.MkdirTemp("", "callbridge-demo-")
	if err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	d.onClose(func() error { return os.RemoveAll(dir) })
	b, err := seal.NewKeyset()
	if err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	path := filepath.Join(dir, "keyset.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	return path, nil
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host
}

// addresses says where to look, and how to post a call of one's own.
func (d *demo) addresses() {
	api := "http://" + d.srv.Addr()
	d.s.title("Look around")
	d.s.pair("Simulated Slack", d.slack.URL)
	d.s.pair("Simulated Salesforce", d.crm.URL)
	d.s.pair("API", api+"  (its description: "+api+"/openapi.json)")
	d.s.title("Post a call of your own")
	d.s.line("  export KEY=" + d.org.Key.Reveal())
	d.s.line(strings.Join([]string{
		"  curl -s " + api + "/v1/calls -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{",
		`    "id": "my-first-call", "title": "Hello from the demo", "started_at": "2026-11-24T10:00:00Z",`,
		`    "duration_seconds": 900, "owner": {"name": "Dana Reyes", "email": "dana@acme.example"},`,
		`    "participants": [{"name": "Priya Shah", "email": "priya@northwind.example", "side": "external"}],`,
		`    "summary": "We said hello. Priya liked it." }'`,
	}, "\n"))
	d.s.line("  curl -s " + api + "/v1/calls/my-first-call -H \"Authorization: Bearer $KEY\"     # why it was shared, or not")
	d.s.line("")
	d.s.line(d.s.dim("Ctrl-C ends the demo and forgets everything."))
}
