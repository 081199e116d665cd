package connectortest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
)

// mutantVariable names the mutant that a child process runs the suite on.
const mutantVariable = "CALLBRIDGE_TEST_MUTANT"

// TestToy runs the suite on the toy connector, which passes, and in a child
// process of TestMutants on one of its mutants, which must not.
func TestToy(t *testing.T) {
	d := toyDescriptor(os.Getenv(mutantVariable))
	su := &suite{d: d, open: func(tb testing.TB) Harness { return toyHarness(tb, d) }, enough: enough}
	if os.Getenv(mutantVariable) != "" {
		su.enough = 3 * time.Second
	}
	su.run(t)
}

// TestMutants checks that the suite finds what it is for: each mutant of the
// toy does one thing wrong, and the subtest made for that must fail.
func TestMutants(t *testing.T) {
	t.Parallel()
	for mutant, failing := range map[string]string{
		"any destination":          "descriptor",
		"clock in the payload":     "render/pure",
		"matching in the payload":  "render/released only",
		"silent loss":              "render/losses",
		"no overrides":             "render/overrides",
		"no receipt":               "push/one copy",
		"update posts":             "update",
		"update does nothing":      "update",
		"erase does nothing":       "erase",
		"gone is an error":         "erase",
		"out of order":             "batch/in order",
		"one fails all":            "batch/bad message",
		"429 is rejected":          "faults/push/rate limit",
		"a delay of its own":       "faults/push/rate limit",
		"503 is rejected":          "faults/push/outage",
		"500 is transient":         "faults/push/server error",
		"401 is permanent":         "faults/push/bad token",
		"revoked can be refreshed": "faults/push/revoked",
		"400 is transient":         "faults/update/bad message",
		"cut is transient":         "faults/push/cut after",
		"posts again":              "faults/push/cut after",
		"never arrived":            "faults/push/cut after",
		"address in the error":     "faults/push/cut before",
		"token in the error":       "faults/update/cut before",
		"content in the error":     "faults/push/cut before",
		"nonsense is fine":         "faults/push/nonsense",
		"empty is fine":            "faults/push/empty ok",
		"redirect is fine":         "faults/push/redirect",
		"erasure not repeated":     "faults/erase/cut after",
		"outage is absence":        "reconcile faults/outage",
		"empty is absence":         "reconcile faults/empty ok",
		"ignores the context":      "cancel/during",
		"goroutine left":           "",
	} {
		t.Run(mutant, func(t *testing.T) {
			t.Parallel()
			run, want := "^TestToy$", "--- FAIL: TestToy"
			if failing == "" {
				run += "/^push$"
			} else {
				for part := range strings.SplitSeq(failing, "/") {
					run += "/^" + strings.ReplaceAll(part, " ", "_") + "$"
				}
				want += "/" + strings.ReplaceAll(failing, " ", "_")
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run, "-test.v")
			cmd.Env = append(os.Environ(), mutantVariable+"="+mutant)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the suite passes the mutant:\n%s", out)
			}
			if !strings.Contains(string(out), want) {
				t.Errorf("the suite fails, but not %q:\n%s", want, out)
			}
		})
	}
}

// TestHonestlyAmbiguous checks that a connector whose provider offers no way
// to look back passes where the harness says so, and only there.
func TestHonestlyAmbiguous(t *testing.T) {
	if os.Getenv(mutantVariable) != "" {
		t.Fatal("not for a mutant")
	}
	d := toyDescriptor("no capability")
	Run(t, d, func(tb testing.TB) Harness {
		h := toyHarness(tb, d)
		h.CanReconcile = false
		return h
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	delivered := connectors.Done(connectors.Receipt{"id": "1"})
	failed := func(e connectors.Error) connectors.Outcome { return connectors.Failed(&e) }
	for _, c := range []struct {
		name  string
		fault Fault
		out   connectors.Outcome
		s     sight
		ok    bool
	}{
		{"status alone", Huge, delivered, sight{statusConfirms: true, acting: true, acted: true, done: true}, true},
		{"body unread", Huge, delivered, sight{acting: true, acted: true, done: true}, false},
		{"read back", CutAfter, delivered, sight{readsBack: true, acting: true, acted: true, done: true}, true},
		{"look-up failed, went on", Outage, delivered, sight{done: true}, true},
		{"retried", Outage, delivered, sight{acting: true, done: true}, false},
		{"secret refused", BadToken, failed(connectors.Error{Class: connectors.Rejected}), sight{acting: true}, true},
		{"token refused", BadToken, failed(connectors.Error{Class: connectors.Rejected}), sight{acting: true, oauth: true}, false},
		{"no delay", RateLimit, failed(connectors.Error{Class: connectors.RateLimited}), sight{acting: true}, false},
		{"update gone", CutBefore, failed(connectors.Error{Class: connectors.Gone}), sight{acting: true}, false},
		{"empty rejected", EmptyOK, failed(connectors.Error{Class: connectors.Rejected}), sight{acting: true}, false},
	} {
		if err := judge(c.fault, c.out, c.s); (err == nil) != c.ok {
			t.Errorf("%s: judge = %v, want ok %v", c.name, err, c.ok)
		}
	}
}
