package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/optiwe/callbridge/hub"
)

// check knows, apart from the service, what should have arrived, and compares
// it with what is at the providers.
type check struct {
	d      *demo
	calls  map[hub.CallID]hub.Call // the newest revision of each
	shared map[hub.CallID]bool
	shares int // copies there should be
	wrong  []error
}

func newCheck(d *demo) *check {
	return &check{d: d, calls: map[hub.CallID]hub.Call{}, shared: map[hub.CallID]bool{}}
}

// mayLeave says, in plain Go, what the two integrations permit.
func mayLeave(c hub.Call) bool {
	return c.Visibility != hub.VisibilityPrivate && c.RecordingConsent != hub.ConsentDenied &&
		c.DurationSeconds >= 60 && c.Direction != "internal"
}

// expect compares the service's decisions with those of mayLeave.
func (c *check) expect(call hub.Call, a accepted) {
	may := mayLeave(call)
	if len(a.Shares) != 2 {
		c.wrong = append(c.wrong, fmt.Errorf("call %s was decided for %d integrations, not 2", call.ID, len(a.Shares)))
	}
	for _, sh := range a.Shares {
		if (sh.Decision == "share") != may {
			c.wrong = append(c.wrong, fmt.Errorf("call %s: %s was decided %q", call.ID, sh.Provider, sh.Decision))
		}
	}
	if _, again := c.calls[call.ID]; !again && may {
		c.shares += 2
	}
	c.calls[call.ID] = call
	c.shared[call.ID] = c.shared[call.ID] || may
}

// arrived counts the copies at both providers.
func (c *check) arrived() int { return len(c.d.crm.Tasks()) + len(c.d.slack.All()) }

// verdict returns what is wrong: too many or too few copies, or a trace of a
// call that should not have left.
func (c *check) verdict() error {
	wrong := slices.Clone(c.wrong)
	tasks, messages := c.d.crm.Tasks(), c.d.slack.All()
	if want := c.shares / 2; len(tasks) != want || len(messages) != want {
		wrong = append(wrong, fmt.Errorf("there should be %d records and %d messages, and there are %d and %d",
			want, want, len(tasks), len(messages)))
	}
	if c.d.o.Calls > 0 {
		return errors.Join(wrong...) // generated summaries repeat each other: only counts tell
	}
	var all strings.Builder
	for _, t := range tasks {
		for _, f := range []string{"Subject", "Description"} {
			all.WriteString(t.Text(f) + "\n")
		}
	}
	for _, m := range messages {
		all.WriteString(m.Visible() + "\n")
	}
	arrived := all.String()
	for id, call := range c.calls {
		if !c.shared[id] && call.Summary != "" && strings.Contains(arrived, firstWords(call.Summary)) {
			wrong = append(wrong, fmt.Errorf("call %s left although it should not have", id))
		}
	}
	return errors.Join(wrong...)
}

// firstWords is a piece of a summary long enough to be found again.
func firstWords(summary string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(strings.TrimLeft(summary, "# ")), "\n")
	r := []rune(line)
	return string(r[:min(len(r), 60)])
}

// conclude says how it went.
func (d *demo) conclude(c *check) error {
	shared := 0
	for _, ok := range c.shared {
		if ok {
			shared++
		}
	}
	d.s.title("Done")
	d.s.line(fmt.Sprintf("  %d calls: %d shared with both, %d withheld.", len(c.calls), shared, len(c.calls)-shared))
	if err := c.verdict(); err != nil {
		d.s.line("  " + d.s.bad("Not as it should be:"))
		return fmt.Errorf("demo: %w", err)
	}
	d.s.line("  " + d.s.good("Everything that should arrive did, and nothing else did."))
	return nil
}
