// Package server builds an instance of Callbridge from its settings: the store,
// the vault, the connectors, the lanes at work and the HTTP server; and takes it
// down again in the reverse order.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/all"
	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/api"
	"github.com/optiwe/callbridge/hub/delivery"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Config configures a Server. Both fields are required.
type Config struct {
	Settings Settings
	Logger   *slog.Logger
	Version  string // of the program, for the API's document
}

// How many orgs' configurations and how many look-ups are kept in memory.
const (
	cachedOrgs    = 10_000
	cachedLookUps = 100_000
)

// Server is an instance. Make it with [New].
type Server struct {
	cfg Config

	store     *store.Store
	sealer    *seal.Sealer
	cache     *directory.Cache
	registry  *connectors.Registry
	accounts  *delivery.Accounts
	transport *outbound.Transport
	vault     *vault.Vault
	delivery  *delivery.Delivery
	intake    *intake.Intake
	admin     *admin.Service
	handler   http.Handler
	metrics   *prometheus.Registry

	listener net.Listener
	closes   []closer // in the order in which they were made
}

type closer struct {
	name  string
	close func(context.Context) error
}

func (s *Server) onClose(name string, f func(context.Context) error) {
	s.closes = append(s.closes, closer{name, f})
}

// New builds an instance. It reads the keyset but makes no request: Redis may
// still be away. What it opened is closed again if it fails.
func New(cfg Config) (_ *Server, err error) {
	s := &Server{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.Background()))
		}
	}()
	if err := s.buildStore(); err != nil {
		return nil, err
	}
	if err := s.buildConnectors(); err != nil {
		return nil, err
	}
	if err := s.buildVault(); err != nil {
		return nil, err
	}
	s.buildHub()
	return s, s.buildHandler()
}

func (s *Server) buildStore() error {
	kek, err := seal.Open(s.cfg.Settings.Keyset)
	if err != nil {
		return &SettingError{"CALLBRIDGE_KEYSET", "cannot be used: " + err.Error()}
	}
	if s.sealer, err = seal.New(seal.Config{KEK: kek}); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	rdb, err := store.Dial(s.cfg.Settings.RedisURL.Reveal())
	if err != nil {
		return &SettingError{"CALLBRIDGE_REDIS_URL", "is not an address: " + err.Error()}
	}
	s.onClose("store", func(context.Context) error { return rdb.Close() })
	if s.store, err = store.New(store.Config{Redis: rdb, Keys: s.sealer}); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.cache = directory.NewCache(s.store, cachedOrgs)
	return nil
}

// buildConnectors takes those connectors whose provider is set up: one with
// OAuth is off while it has no client.
func (s *Server) buildConnectors() error {
	on := map[string]bool{
		"salesforce": s.cfg.Settings.SalesforceClientID != "",
		"slack":      s.cfg.Settings.SlackClientID != "",
	}
	ds := slices.DeleteFunc(all.Descriptors(), func(d connectors.Descriptor) bool {
		return d.OAuth != nil && !on[d.OAuth.Provider]
	})
	var err error
	s.registry, err = connectors.NewRegistry(ds, map[string]connectors.Config{
		"salesforce": {APIVersion: s.cfg.Settings.SalesforceAPIVersion},
	})
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.transport, err = outbound.NewTransport(outbound.Config{AllowPrivate: s.cfg.Settings.AllowPrivateHosts})
	if err != nil {
		return &SettingError{"CALLBRIDGE_ALLOW_PRIVATE_HOSTS", err.Error()}
	}
	s.onClose("connections to providers", func(context.Context) error {
		s.transport.CloseIdleConnections()
		return nil
	})
	return nil
}

func (s *Server) buildVault() error {
	client := func(base *url.URL) *http.Client { return s.transport.For(base, outbound.Options{}) }
	refreshers := map[string]oauth.Refresher{}
	if c, ok := s.registry.Get("salesforce"); ok {
		r, err := oauth.NewSalesforce(oauth.SalesforceConfig{
			ClientID: s.cfg.Settings.SalesforceClientID, ClientSecret: s.cfg.Settings.SalesforceClientSecret,
			LoginURL: s.cfg.Settings.SalesforceLoginURL, Client: client,
			CheckURL: func(raw string) (*url.URL, error) {
				return outbound.CheckBaseURL(raw, c.Descriptor().HostSuffix, s.cfg.Settings.AllowPrivateHosts)
			},
		})
		if err != nil {
			return fmt.Errorf("server: %w", err)
		}
		refreshers["salesforce"] = r
	}
	if _, ok := s.registry.Get("slack"); ok {
		r, err := oauth.NewSlack(oauth.SlackConfig{
			ClientID: s.cfg.Settings.SlackClientID, ClientSecret: s.cfg.Settings.SlackClientSecret,
			APIURL: s.cfg.Settings.SlackAPIURL, Client: client,
		})
		if err != nil {
			return fmt.Errorf("server: %w", err)
		}
		refreshers["slack"] = r
	}
	var err error
	s.vault, err = vault.New(vault.Config{
		Store: s.store.Tokens("hub"), Refreshers: refreshers, Keys: s.store.Keys, Logger: s.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.onClose("vault", s.vault.Close)
	return nil
}

func (s *Server) buildHub() {
	s.metrics = prometheus.NewRegistry()
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.accounts = &delivery.Accounts{
		Vault: s.vault, Transport: s.transport, Cache: outbound.NewCache(cachedLookUps), Store: s.store,
		Connectors: s.registry, AllowPrivate: s.cfg.Settings.AllowPrivateHosts, Logger: s.cfg.Logger,
	}
	s.delivery = delivery.New(delivery.Config{
		Store: s.store, Cache: s.cache, Connectors: s.registry, Accounts: s.accounts,
		Metrics: delivery.NewMetrics(s.metrics), Logger: s.cfg.Logger, Terms: s.cfg.Settings.Terms,
		Lease: s.cfg.Settings.LaneLease,
	})
	s.intake = intake.New(intake.Config{
		Store: s.store, Cache: s.cache, Connectors: s.registry, Terms: s.cfg.Settings.Terms,
		Limit: s.cfg.Settings.QueueLimit, Retention: s.cfg.Settings.Retention, Wake: s.delivery.Wake,
	})
	s.admin = admin.New(admin.Config{
		Store: s.store, Cache: s.cache, Connectors: s.registry, Accounts: s.accounts, Vault: s.vault,
		Terms: s.cfg.Settings.Terms, Region: s.cfg.Settings.Region, AllowPrivate: s.cfg.Settings.AllowPrivateHosts,
		SlackAPIURL: s.cfg.Settings.SlackAPIURL, SalesforceLoginURL: s.cfg.Settings.SalesforceLoginURL,
		Wake: s.delivery.Wake, Logger: s.cfg.Logger,
	})
}

func (s *Server) buildHandler() error {
	h, err := api.New(api.Config{
		Admin: s.admin, Intake: s.intake, Ready: s.Ready, Logger: s.cfg.Logger, Version: s.cfg.Version,
		RatePerOrg: float64(s.cfg.Settings.CallRate),
	})
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	if s.cfg.Settings.MetricsListen == "" {
		mux.Handle("GET /metrics", s.metricsHandler())
	}
	s.handler = mux
	return nil
}

func (s *Server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})
}

// Admin returns what admins and the operator can do.
func (s *Server) Admin() *admin.Service { return s.admin }

// Store returns the store, for the operator's tools.
func (s *Server) Store() *store.Store { return s.store }

// Registry returns the connectors that are on.
func (s *Server) Registry() *connectors.Registry { return s.registry }

// Handler serves the API.
func (s *Server) Handler() http.Handler { return s.handler }

// Addr returns the address that the server listens on, after [Server.Start].
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Ready returns nil if calls can be accepted.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.store.Writable(ctx); err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	return nil
}

// CheckRedis returns why Redis must not be used as it is, or nil. An instance
// told to allow a volatile Redis takes any.
func (s *Server) CheckRedis(ctx context.Context) error {
	f, err := s.store.Facts(ctx)
	if err != nil {
		if s.cfg.Settings.AllowVolatileRedis {
			s.cfg.Logger.WarnContext(ctx, "redis does not say how it keeps data", "error", err)
			return nil
		}
		return fmt.Errorf("server: %w", err)
	}
	if err := f.Problem(); err != nil && !s.cfg.Settings.AllowVolatileRedis {
		return fmt.Errorf("server: %w; mend it, or set CALLBRIDGE_ALLOW_VOLATILE_REDIS=1 to lose calls with your eyes open", err)
	}
	return nil
}

// Limits of the HTTP server. A handler that takes longer extends its own
// deadline.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	drainTimeout      = 4 * time.Second // for requests in hand when the server stops; the lanes need the rest of 10 s
)

// Start checks Redis, begins to work the lanes and to serve. It returns when
// the server listens. Errors that end serving later go to failed, which is
// called at most once for each listener.
func (s *Server) Start(ctx context.Context, failed func(error)) error {
	if err := s.CheckRedis(ctx); err != nil {
		return err
	}
	// Closed in reverse: first no new requests, then no new claims.
	s.delivery.Start(ctx)
	s.onClose("lanes", s.delivery.Close)
	s.startSweeper(ctx)
	l, err := s.serve(ctx, s.cfg.Settings.Listen, s.handler, failed)
	if err != nil {
		return err
	}
	s.listener = l
	if addr := s.cfg.Settings.MetricsListen; addr != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", s.metricsHandler())
		if _, err := s.serve(ctx, addr, mux, failed); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) serve(ctx context.Context, addr string, h http.Handler, failed func(error)) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("server: listen on %s: %w", addr, err)
	}
	hs := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	s.onClose("http server on "+addr, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		if err := hs.Shutdown(ctx); err != nil {
			return errors.Join(err, hs.Close())
		}
		return nil
	})
	go func() {
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("server: %w", err))
		}
	}()
	return l, nil
}

// Close stops the instance: no new requests and no new claims, work in hand
// finished or handed back until ctx is done, and then abandoned, which the
// leases make safe. Every step runs even if an earlier one failed.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(s.closes) {
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	s.closes = nil
	return errors.Join(errs...)
}
