package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/redistest"
)

func TestDialParses(t *testing.T) {
	t.Parallel()
	type dialled struct {
		Kind, User, Password, Master string
		Addrs                        []string
		DB                           int
		TLS                          bool
	}
	for address, want := range map[string]dialled{
		"redis://localhost":                     {Kind: "node", Addrs: []string{"localhost:6379"}},
		"redis://localhost:6380/3":              {Kind: "node", Addrs: []string{"localhost:6380"}, DB: 3},
		"redis://localhost/?db=3":               {Kind: "node", Addrs: []string{"localhost:6379"}, DB: 3},
		"redis://[::1]:6380":                    {Kind: "node", Addrs: []string{"[::1]:6380"}},
		"redis://[2001:db8::1]":                 {Kind: "node", Addrs: []string{"[2001:db8::1]:6379"}},
		"redis://:pw@h:1":                       {Kind: "node", Addrs: []string{"h:1"}, Password: "pw"},
		"redis://u:p%40s%2Fs%25@h":              {Kind: "node", Addrs: []string{"h:6379"}, User: "u", Password: "p@s/s%"},
		"redis://u:p@s/s?x#y@h":                 {Kind: "node", Addrs: []string{"h:6379"}, User: "u", Password: "p@s/s?x#y"},
		"rediss://u:p@h":                        {Kind: "node", Addrs: []string{"h:6379"}, User: "u", Password: "p", TLS: true},
		"redis+sentinel://a:1,b/mymaster":       {Kind: "sentinel", Addrs: []string{"a:1", "b:6379"}, Master: "mymaster"},
		"rediss+sentinel://:p@a:1/m?db=2":       {Kind: "sentinel", Addrs: []string{"a:1"}, Master: "m", Password: "p", DB: 2, TLS: true},
		"redis+cluster://a:1":                   {Kind: "cluster", Addrs: []string{"a:1"}},
		"rediss+cluster://u:p@a:1,b:2,[::1]/0":  {Kind: "cluster", Addrs: []string{"a:1", "b:2", "[::1]:6379"}, User: "u", Password: "p", TLS: true},
		"redis+cluster://a:1,b:2":               {Kind: "cluster", Addrs: []string{"a:1", "b:2"}},
		"redis://redis-0.redis.svc.local:65535": {Kind: "node", Addrs: []string{"redis-0.redis.svc.local:65535"}},
	} {
		kind, o, err := parseAddress(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		got := dialled{kind.String(), o.Username, o.Password, o.MasterName, o.Addrs, o.DB, o.TLSConfig != nil}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", address, d)
		}
		if c, err := Dial(address); err != nil {
			t.Errorf("%s: %v", address, err)
		} else if err := c.Close(); err != nil {
			t.Errorf("%s: close: %v", address, err)
		}
	}
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for address, want := range map[string]string{
		"":                                      "want redis://",
		"localhost:6379":                        "want redis://",
		"http://localhost":                      "scheme",
		"redisss://localhost":                   "scheme",
		"redis+tls://localhost":                 "scheme",
		"redis://":                              "host",
		"redis://:6379":                         "host",
		"redis://h:":                            "port",
		"redis://h:0":                           "port",
		"redis://h:65536":                       "port",
		"redis://h:http":                        "port",
		"redis://::1":                           "brackets",
		"redis://[::1":                          "host",
		"redis://a,b":                           "one host",
		"redis://h/x":                           "number",
		"redis://h/-1":                          "number",
		"redis://h/1/2":                         "number",
		"redis://h?db=x":                        "number",
		"redis://h?db=1&db=2":                   "db=n",
		"redis://h?timeout=3":                   "db=n",
		"redis://h?":                            "db=n",
		"redis+sentinel://h":                    "master's name",
		"redis+sentinel://h/":                   "master's name",
		"redis+cluster://h/1":                   "no database",
		"redis+cluster://h/?db=1":               "no database",
		"redis+cluster://h,":                    "host 2",
		"redis://hunter2@h":                     "user:password",
		"redis://u:@h":                          "user:password",
		"redis://u:hunter2%zz@h":                "percent-encoded",
		"redis://u:hunter2@h:99999":             "port",
		"redis://u:hunter2:x/h":                 "host",
		"redis://u:hunter2?x/y@h?hunter2=hunt":  "db=n",
		"redis+sentinel://u:hunter2@":           "host",
		"redis://u:hunter2@h/hunter2":           "number",
		"hunter2://u:hunter2@h":                 "not known",
		"redis+cluster://u:hunter2@h,hunter2::": "host 2",
	} {
		c, err := Dial(address)
		if err == nil {
			t.Errorf("%s: accepted", address)
			_ = c.Close()
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want it to say %q", address, err, want)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds the password: %v", address, err)
		}
	}
}

// No error of a client that cannot connect holds the password.
func TestDialErrorsHoldNoPassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"redis://u:hunter2@127.0.0.1:1", "redis+sentinel://u:hunter2@127.0.0.1:1/m", "redis+cluster://u:hunter2@127.0.0.1:1"} {
		h := newHarness(t, connectTo(t, address), sleep)
		for name, err := range map[string]error{
			"write": h.Writable(t.Context()), "load": errOf(h.LoadOrg(t.Context(), "org_a")), "facts": errOf(h.Facts(t.Context())),
		} {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s at %s: %v", name, address, err)
			}
		}
	}
}

func FuzzDial(f *testing.F) {
	for _, s := range []string{
		"redis://localhost", "rediss://u:p@h:1/2", "redis+sentinel://a,b:2/m?db=1", "redis+cluster://[::1]:1,h", "redis://u:p%41@h", "redis://@", "://",
	} {
		f.Add(s, "p@/?#%:")
	}
	f.Fuzz(func(t *testing.T, address, password string) {
		_, o, err := parseAddress(address)
		if err == nil {
			if len(o.Addrs) == 0 || o.DB < 0 {
				t.Errorf("%q gives %+v", address, o)
			}
			return
		}
		// No part of it comes back, whatever a password holds that was not encoded.
		_, _, err = parseAddress("redis://u:hunter2" + password + "@" + address)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error of %q holds the password: %v", address, err)
		}
	})
}

func TestFacts(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	for _, c := range []struct {
		name string
		o    redistest.Options
		want Facts
	}{
		{"always", redistest.Options{}, Facts{Persistent: true, AppendFsync: "always", Eviction: "noeviction", Role: "master"}},
		{"everysec", redistest.Options{AppendFsync: "everysec"}, Facts{Persistent: true, AppendFsync: "everysec", Eviction: "noeviction", Role: "master"}},
		{"nothing kept", redistest.Options{Args: []string{"--appendonly", "no", "--save", ""}}, Facts{Eviction: "noeviction", Role: "master"}},
		{"snapshots", redistest.Options{Args: []string{"--appendonly", "no", "--save", "60", "1"}}, Facts{Persistent: true, Eviction: "noeviction", Role: "master"}},
		{
			"evicting",
			redistest.Options{Args: []string{"--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"}},
			Facts{Persistent: true, AppendFsync: "always", Eviction: "allkeys-lru", Role: "master"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, c.o)
			h := newHarness(t, connectTo(t, s.URL()), sleep)
			got := must(h.Facts(t.Context()))(t)
			if !strings.HasPrefix(got.Version, "7.") && olderVersion(got.Version, "7.0") {
				t.Errorf("version %q", got.Version)
			}
			got.Version = ""
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if got.Evicting() != (c.want.Eviction != "noeviction") {
				t.Errorf("evicting %v with %s", got.Evicting(), got.Eviction)
			}
		})
	}
}

// A Cluster is as strong as its weakest node in each respect.
func TestFactsOfACluster(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	c := redistest.StartCluster(t, 3, 0)
	h := newHarness(t, connectTo(t, "redis+cluster://"+strings.Join(c.Addrs(), ",")), sleep)
	want := Facts{Persistent: true, AppendFsync: "always", Eviction: "noeviction", Role: "master"}
	check := func() {
		t.Helper()
		got := must(h.Facts(t.Context()))(t)
		got.Version = ""
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	check()
	set := func(node int, name, value string) {
		t.Helper()
		must(c.Nodes()[node].Do(t.Context(), "CONFIG", "SET", name, value))(t)
	}
	set(0, "maxmemory-policy", "volatile-lru")
	set(1, "appendonly", "no")
	set(1, "save", "")
	want.Persistent, want.AppendFsync, want.Eviction = false, "", "volatile-lru"
	check()
}

func TestWeakest(t *testing.T) {
	t.Parallel()
	good := Facts{Version: "7.2.4", Persistent: true, AppendFsync: "always", Eviction: "noeviction", Role: "master"}
	for _, c := range []struct{ other, want Facts }{
		{good, good},
		{Facts{Version: "7.0.15", Persistent: true, AppendFsync: "no", Role: "master"}, Facts{"7.0.15", true, "no", "noeviction", "master"}},
		{Facts{Version: "7.10.0", Persistent: true, AppendFsync: "everysec", Role: "slave"}, Facts{"7.2.4", true, "everysec", "noeviction", "slave"}},
		{Facts{Version: "8.0.0", Eviction: "allkeys-lfu", Role: "master"}, Facts{"7.2.4", false, "", "allkeys-lfu", "master"}},
	} {
		for _, nodes := range [][]Facts{{good, c.other}, {c.other, good}} {
			got := weakest(nodes)
			if c.other.Eviction == "" && got.Eviction == "" {
				got.Eviction = "noeviction" // not known of one, well with the other
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%+v: %s", nodes, d)
			}
		}
	}
}

// The store works through Sentinels, and goes on with the replica when the
// primary has died.
func TestSentinel(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	s := redistest.StartSentinel(t)
	c := connectTo(t, "redis+sentinel://"+strings.Join(s.Addrs(), ",")+"/"+s.MasterName())
	w := newHarness(t, c, sleep).newWorld("org_a")
	w.acceptOne("c1", "x")
	w.drain()
	if f := must(w.Facts(t.Context()))(t); f.Role != "master" || !f.Persistent {
		t.Errorf("facts %+v", f)
	}
	waiting := w.acceptOne("c2", "x")
	if n := must(c.(*redis.Client).Wait(t.Context(), 1, 5*time.Second).Result())(t); n != 1 {
		t.Fatalf("%d replicas have it", n)
	}
	ok(t, s.KillPrimary())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for w.Writable(ctx) != nil {
		if ctx.Err() != nil {
			t.Fatal("nothing can be written a minute after the primary died")
		}
		sleep(50 * time.Millisecond)
	}
	w.state(waiting, hub.StateWaiting)
	if got := w.drain(); len(got) != 1 || got[0] != waiting { // the new primary has none of the scripts
		t.Errorf("delivered %v, want %s", got, waiting)
	}
	w.consistent()
}

// A Redis that has forgotten the scripts, as after a restart or SCRIPT FLUSH, is
// given them again.
func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	h := backend{"miniredis", openMini}.new(t)
	w := h.newWorld("org_a")
	flush := func() { ok(t, h.rdb.(*redis.Client).ScriptFlush(t.Context()).Err()) }
	flush()
	w.acceptOne("c1", "x")
	flush()
	rs := []AcceptRequest{w.request("c2", "x", w.share(intA)), w.request("c3", "x", w.share(intA))}
	for _, a := range h.AcceptAll(t.Context(), rs) {
		ok(t, a.Err)
	}
	for range 4 {
		flush()
		if got := w.drain(); len(got) > 3 {
			t.Fatal(got)
		}
	}
	w.consistent()
}
