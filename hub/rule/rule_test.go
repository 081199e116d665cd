package rule_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/rule"
)

func sampleCall() *hub.Call {
	sentiment := 0.4
	return &hub.Call{
		ID: "call-1", Title: "Discovery with Northwind Traders",
		StartedAt:       time.Date(2026, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600)),
		DurationSeconds: 1860, Direction: "outbound", Medium: "video", Visibility: "normal",
		RecordingConsent: "granted", Language: "en",
		Owner: hub.Person{Name: "Dana Reyes", Email: "dana@acme.example"},
		Participants: []hub.Participant{
			{Name: "Dana Reyes", Email: "dana@acme.example", Side: "internal"},
			{Name: "Priya Shah", Email: "priya@northwind.example", Phone: "+14155550123", Title: "VP Operations", Company: "Northwind Traders", Side: "external"},
		},
		Account:   &hub.Account{Name: "Northwind Traders", Domain: "northwind.example"},
		Summary:   "They compared prices and asked about security.",
		KeyPoints: []string{"Price matters", "Security review in December"},
		NextSteps: []hub.NextStep{{Text: "Send the questionnaire", OwnerEmail: "dana@acme.example", DueOn: "2026-11-27"}},
		Topics:    []string{"pricing", "security"},
		Sentiment: &sentiment,
		TalkRatio: []hub.TalkShare{{Email: "dana@acme.example", Share: 0.46}},
		Tags:      []string{"enterprise"},
		Custom: map[string]json.RawMessage{
			"deal_size": json.RawMessage("120000"), "stage": json.RawMessage(`"closing"`),
			"score": json.RawMessage("0.75"), "renewal": json.RawMessage("true"), "nothing": json.RawMessage("null"),
		},
	}
}

var acme = rule.Org{ID: "acme", Name: "Acme", Region: "us", Language: "en"}

func TestConditionEval(t *testing.T) {
	t.Parallel()
	tests := []struct {
		when string
		want bool
	}{
		{`call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")`, true},
		{`call.duration_seconds < 120`, false},
		{`call.title.contains("Northwind")`, true},
		{`call.title.lowerAscii().startsWith("discovery")`, true},
		{`call.medium in ["video", "demo"]`, true},
		{`call.started_at > timestamp("2026-01-01T00:00:00Z")`, true},
		{`call.started_at.getHours() == 23`, true}, // UTC, because no zone is named
		{`call.started_at.getDayOfWeek("America/Los_Angeles") == 5`, true},
		{`has(call.sentiment) && call.sentiment > 0`, true},
		{`has(call.crm)`, false},
		{`has(call.account) && call.account.domain.endsWith(".example")`, true},
		{`has(call.disposition)`, false},
		{`call.disposition == ""`, true},
		{`call.risks.size() == 0`, true},
		{`has(call.risks)`, false},
		{`has(call.topics)`, true},
		{`call.custom.deal_size >= 100000`, true},
		{`call.custom.deal_size * 2 == 240000`, true},
		{`call.custom["stage"] == "closing"`, true},
		{`call.custom.renewal`, true},
		{`call.custom.score > 0.5`, true},
		{`call.custom.nothing == null`, true},
		{`has(call.custom.unknown)`, false},
		{`"unknown" in call.custom`, false},
		{`org.region == "us" && org.id == "acme" && org.language == "en"`, true},
		{`call.owner.email == "dana@acme.example"`, true},
		{`call.next_steps.all(s, s.due_on >= "2026-11-01")`, true},
		{`call.talk_ratio.filter(s, s.share > 0.4).size() == 1`, true},
		{`call.participants[1] == call.participants[1] && call.participants[0] != call.participants[1]`, true},
		{`call.tags.exists_one(t, t == "enterprise")`, true},
		{`call.summary.matches("(?i)PRICES?")`, true},
		{`call.topics.join(", ") == "pricing, security"`, true},
		{"call.duration_seconds > 60\n  && call.direction != 'internal'", true},
		{`call.visibility == "normal" && call.recording_consent == "granted" && call.language == "en"`, true},
	}
	view := rule.ViewOf(sampleCall())
	for _, tt := range tests {
		t.Run(tt.when, func(t *testing.T) {
			t.Parallel()
			c, err := rule.CompileCondition(tt.when)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Eval(view, acme)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCompileConditionRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, when, want string }{
		{"misspelt member", `call.durration_seconds > 1`, `column 5: there is no member "durration_seconds"; did you mean "duration_seconds"?`},
		{"misspelt member of an entry", `call.participants.exists(p, p.nam == "x")`, `column 30: there is no member "nam"; did you mean "name"?`},
		{"unknown name", `calls.title == ""`, `column 1: there is nothing named "calls"; a condition reads call and org, a mapping reads release, and a text stands in quotes`},
		{"unquoted text", "call.medium ==\n video", `line 2, column 2: there is nothing named "video"; a condition reads call and org, a mapping reads release, and a text stands in quotes`},
		{"wrong types", `call.title > 3`, "column 12: > does not work with a text and a whole number"},
		{"not a condition", `call.title`, "a condition must be true or false, and this one is a text"},
		{"a custom value alone", `[call.custom.x]`, "a condition must be true or false, and this one is a list"},
		{"empty", " \n", "the rule is empty"},
		{"ends early", `call.title == `, "column 15: the rule ends too early: something is missing at its end, such as a closing bracket or quote"},
		{"open quote", `call.title == "x`, "column 15: there is a character here that does not belong, or a quote is not closed"},
		{"two operators", `call.title == == "x"`, "column 15: the rule cannot be read here: an operator, a bracket or a comma is missing or too many"},
		{"too long", `call.title == "` + strings.Repeat("x", rule.MaxLength) + `"`, "the rule has 4112 characters, and 4096 are allowed"},
		{"NUL", "call.title == '\x00'", "the rule must be UTF-8 text without the character NUL"},
		{"broken UTF-8", "call.title == '\xff'", "the rule must be UTF-8 text without the character NUL"},
		{"too deep", strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), "the rule is nested too deeply; write it with fewer brackets or loops inside each other"},
		{"three loops", `call.topics.exists(a, call.tags.exists(b, call.risks.exists(c, a == b && b == c)))`, "nested too deeply"},
		{"makes an object", `call.owner == callbridge.Person{name: "x"}`, "a rule cannot make objects"},
		{"dyn", `dyn(call.title) == 3`, "the function dyn is not available"},
		{"format", `"%s".format([call.title]) == ""`, "the function format is not available"},
		{"member of a text", `call.title.name == ""`, "a text has no members"},
		{"loop over a text", `call.title.exists(c, c == "")`, "exists, all, map and filter need a list, and this is a text"},
		{"bad regexp", `call.title.matches("(")`, "the regular expression is not valid or too large"},
		{"huge regexp", `call.title.matches("((a{100}){10}){10}")`, "the regular expression is not valid or too large"},
		{"bad time", `call.started_at > timestamp("yesterday")`, "the point in time is not valid"},
		{"bad duration", `call.started_at + duration("soon") > call.started_at`, "the length of time is not valid"},
		{"bad has", `has(call)`, "the arguments are not what this function takes"},
		{"quadratic", `call.summary.replace("a", call.summary).replace("b", call.summary) == ""`, "the rule could take too long for a large call"},
		{"cubic", `call.key_points.exists(k, call.risks.exists(r, k.indexOf(r) > 0))`, "the rule could take too long for a large call"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := rule.CompileCondition(tt.when)
			var re *rule.Error
			if !errors.As(err, &re) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if !strings.Contains(re.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", re, tt.want)
			}
		})
	}
}

func TestEvalErrorsHoldNothingOfTheCall(t *testing.T) {
	t.Parallel()
	call := sampleCall()
	call.Sentiment, call.Account = nil, nil
	call.Title = "canary-7f3a"
	call.Custom["word"] = json.RawMessage(`"canary-7f3a"`)
	tests := []struct {
		when, want string
		is         error
	}{
		{`call.sentiment > 0`, "the call carries no sentiment; ask has() first", rule.ErrAbsent},
		{`call.account.name == "x"`, "the call carries no account; ask has() first", rule.ErrAbsent},
		{`call.custom.deal == 1`, "the call carries no custom member deal; ask has() or in first", rule.ErrAbsent},
		{`call.custom[call.title] == 1`, "the call carries no custom member of that name; ask has() or in first", rule.ErrAbsent},
		{`int(call.title) == 1`, "a text of this call cannot be read as what the rule expects", nil},
		{`timestamp(call.title) > call.started_at`, "a text of this call cannot be read as what the rule expects", nil},
		{`call.custom.word > 3`, "a custom member of this call has another type than the rule expects", nil},
		{`call.custom.word`, "the custom member is not true or false in this call", nil},
		{`call.custom.word ? true : false`, "a custom member of this call has another type than the rule expects", nil},
		{`call.topics[17] == ""`, "the rule reads an entry that a list of this call does not have", nil},
		{`10 / (call.duration_seconds - 1860) == 1`, "the rule divides by zero for this call", nil},
		{`call.duration_seconds * 9223372036854775807 > 1`, "a number or index of the rule is out of range for this call", nil},
		{`call.started_at.getHours(call.title) == 1`, "", nil},
		{`call.title.matches(call.title + "(")`, "", nil},
		{`call.title.substring(100) == ""`, "a number or index of the rule is out of range for this call", nil},
	}
	view := rule.ViewOf(call)
	for _, tt := range tests {
		t.Run(tt.when, func(t *testing.T) {
			t.Parallel()
			c, err := rule.CompileCondition(tt.when)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Eval(view, acme)
			var ee *rule.EvalError
			if !errors.As(err, &ee) {
				t.Fatalf("got %v, want an *EvalError", err)
			}
			if tt.want != "" && ee.Detail != tt.want {
				t.Errorf("got  %s\nwant %s", ee.Detail, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(fmt.Sprintf("%v %+v", e, e), "canary") {
					t.Errorf("the error tells the call's content: %v", e)
				}
			}
		})
	}
}

func TestEvalStopsAtTheCostLimit(t *testing.T) {
	t.Parallel()
	c, err := rule.CompileCondition(`call.key_points.exists(k, call.risks.exists(r, k == r))`)
	if err != nil {
		t.Fatal(err)
	}
	call := sampleCall()
	for i := range 3000 {
		call.KeyPoints = append(call.KeyPoints, fmt.Sprint("k", i))
		call.Risks = append(call.Risks, fmt.Sprint("r", i))
	}
	if _, err := c.Eval(rule.ViewOf(call), acme); !errors.Is(err, rule.ErrCost) {
		t.Errorf("got %v, want ErrCost", err)
	}
}

func TestConditionImplies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		new, old string
		want     bool
	}{
		{`call.medium == "video"`, `call.medium == "video"`, true},
		{`call.medium=='video'`, `call.medium == "video"`, true},
		{`call.medium == "video" && call.duration_seconds > 5`, `call.medium == "video"`, true},
		{`call.duration_seconds > 5 && (call.medium == "video" && call.direction == "inbound")`, `call.direction == "inbound" && call.medium == "video"`, true},
		{`(call.medium == "video" || call.medium == "demo") && call.duration_seconds > 5`, `call.medium == "video" || call.medium == "demo"`, true},
		{`call.topics.exists(t, t == "a") && call.duration_seconds > 5`, `call.topics.exists(x, x == "a")`, false},
		{`call.topics.exists(t, t == "a") && call.duration_seconds > 5`, `call.topics.exists(t, t == "a")`, true},
		{`call.medium == "video"`, `call.medium == "video" && call.duration_seconds > 5`, false},
		{`call.medium == "video" || call.duration_seconds > 5`, `call.medium == "video"`, false},
		{"call.medium == 'video' // &&\n || call.duration_seconds > 5", `call.medium == "video"`, false},
		{`call.duration_seconds > 50`, `call.duration_seconds > 5`, false},
		{`call.medium == "video" && true`, `true`, true},
	}
	for _, tt := range tests {
		t.Run(tt.new+" ⇒ "+tt.old, func(t *testing.T) {
			t.Parallel()
			n, err := rule.CompileCondition(tt.new)
			if err != nil {
				t.Fatal(err)
			}
			o, err := rule.CompileCondition(tt.old)
			if err != nil {
				t.Fatal(err)
			}
			if got := n.Implies(o); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestConditionIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	c, err := rule.CompileCondition(`call.participants.exists(p, p.side == "external") && org.region == "us"`)
	if err != nil {
		t.Fatal(err)
	}
	view := rule.ViewOf(sampleCall())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got, err := c.Eval(view, acme); err != nil || !got {
					t.Errorf("got %v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func releaseView() map[string]any {
	return map[string]any{
		"id": "call-1", "revision": 2, "title": "Discovery", "started_at": "2026-11-20T15:00:00-08:00", "duration_seconds": 1860,
		"owner":        map[string]any{"name": "Dana Reyes", "email": "dana@acme.example"},
		"participants": []any{map[string]any{"name": "Priya Shah", "side": "external"}},
		"account":      map[string]any{"name": "Northwind Traders"},
		"summary":      "They compared prices.",
		"topics":       []any{"pricing", "security"},
		"next_steps":   []any{map[string]any{"text": "Send it", "owner_name": "Dana Reyes", "due_on": "2026-11-27"}},
		"talk_ratio":   []any{map[string]any{"name": "Dana Reyes", "side": "internal", "share": 0.46}},
		"custom":       map[string]any{"deal_size": json.Number("1200000"), "score": json.Number("0.5"), "big": json.Number("123456789012345678901234")},
	}
}

func TestExpressionEval(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600))
	tests := []struct {
		expr string
		kind rule.Kind
		want any
	}{
		{`release.title + " with " + release.account.name`, rule.Text, "Discovery with Northwind Traders"},
		{`release.duration_seconds / 60`, rule.Whole, int64(31)},
		{`double(release.duration_seconds) / 3600.0`, rule.Number, 1860.0 / 3600},
		{`release.topics.size() > 1`, rule.Truth, true},
		{`release.started_at`, rule.Moment, at},
		{`release.topics`, rule.Texts, []any{"pricing", "security"}},
		{`release.participants.map(p, p.name)`, rule.Texts, []any{"Priya Shah"}},
		{`release.next_steps.map(s, s.text + " (" + s.owner_name + ")")`, rule.Texts, []any{"Send it (Dana Reyes)"}},
		{`release.talk_ratio.map(s, s.share)`, rule.Items, []any{0.46}},
		{`release.custom.deal_size`, rule.Any, int64(1200000)},
		{`"Deal " + string(release.custom.deal_size)`, rule.Text, "Deal 1200000"},
		{`release.custom.score`, rule.Any, 0.5},
		{`has(release.custom.seats) ? release.custom.seats : 0`, rule.Any, int64(0)},
		{`release.risks`, rule.Texts, []any{}},
		{`release.disposition`, rule.Text, ""},
		{`has(release.sentiment) ? string(release.sentiment) : "unknown"`, rule.Text, "unknown"},
		{`null`, rule.Nothing, nil},
		{`[]`, rule.Items, []any{}},
		{`release.revision`, rule.Whole, int64(2)},
		{`uint(7)`, rule.Whole, int64(7)},
	}
	record := rule.RecordOf(releaseView())
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			e, err := rule.CompileExpression(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind() != tt.kind && tt.expr != "[]" {
				t.Errorf("kind: got %s, want %s", e.Kind(), tt.kind)
			}
			got, err := e.Eval(record)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompileExpressionRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ expr, want string }{
		{`release.owner`, "the expression gives an object"},
		{`release.participants`, "the expression gives a list"},
		{`{"a": 1}`, "the expression gives a map"},
		{`duration("5s")`, "the expression gives a length of time"},
		{`call.title`, `there is nothing named "call"`},
		{`release.visibility`, `there is no member "visibility"`},
		{`release.crm.account_id`, `there is no member "crm"`},
		{`[[1]]`, "the expression gives a list"},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			_, err := rule.CompileExpression(tt.expr)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestExpressionNeeds(t *testing.T) {
	t.Parallel()
	all := []string{"participants.names", "participants.emails", "participants.phones", "participants.titles"}
	tests := []struct {
		expr string
		want []rule.Need
	}{
		{`"constant"`, nil},
		{`release.id`, nil},
		{`release.title + release.summary + release.title`, []rule.Need{{Member: "title", Fields: []string{"title"}}, {Member: "summary", Fields: []string{"summary"}}}},
		{`has(release.sentiment)`, []rule.Need{{Member: "sentiment", Fields: []string{"sentiment"}}}},
		{`release.duration_seconds`, []rule.Need{{Member: "duration_seconds", Fields: []string{"time"}}}},
		{`release.owner.email`, []rule.Need{{Member: "owner", Fields: []string{"owner"}}}},
		{`release.participants.size()`, []rule.Need{{Member: "participants", Fields: all}}},
		{`release.participants.map(p, p.email)`, []rule.Need{
			{Member: "participants", Fields: all},
			{Member: "participants.email", Fields: []string{"participants.emails"}},
		}},
		{`release.participants[0].side`, []rule.Need{{Member: "participants", Fields: all}}},
		{`release.custom.deal_size`, []rule.Need{{Member: "custom.deal_size", Fields: []string{"custom.deal_size"}}}},
		{`release.custom["deal size"]`, []rule.Need{{Member: "custom.deal size", Fields: []string{"custom.deal size"}}}},
		{`has(release.custom.a) || "b" in release.custom`, []rule.Need{
			{Member: "custom.a", Fields: []string{"custom.a"}},
			{Member: "custom.b", Fields: []string{"custom.b"}},
		}},
		{`release.custom[release.title]`, []rule.Need{
			{Member: "custom", Prefix: "custom."},
			{Member: "title", Fields: []string{"title"}},
		}},
		{`release.custom.size()`, []rule.Need{{Member: "custom", Prefix: "custom."}}},
		{`[release].map(r, r.title)`, []rule.Need{{Member: "title", Fields: []string{"title"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			e, err := rule.CompileExpression(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, e.Needs(), byMember()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// byMember compares needs without regard to their order.
func byMember() cmp.Option {
	return cmp.Transformer("byMember", func(in []rule.Need) map[string]rule.Need {
		out := map[string]rule.Need{}
		for _, n := range in {
			out[n.Member] = n
		}
		return out
	})
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{
		`call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")`,
		`call.custom.x == 1 || "y" in call.custom`, `has(call.crm) && call.crm.account_id != ""`,
		`call.summary.split(" ").map(w, w + w).join("").size() > 3`, `call.title.matches("a+b?")`,
		`call.topics + call.tags == []`, `(((`, `call.`, `"\u`, `org.region == "us" ? true : 1/0 > 2`,
		`call.started_at - duration("1h") < timestamp("2026-01-01T00:00:00Z")`, `[1,2,3].map(x, x*x).exists(y, y == 4)`,
		`call.key_points.all(k, call.risks.exists(r, r.contains(k)))`, "call.title\n==\r'x'", `{"a": call}.a.title == ""`,
		`call.owner == call.owner`, `type(call) == type(1)`, `1u == 1u && b"x" == b"x"`, `[call][0].title.replace("a", "b") == ""`,
	} {
		f.Add(s)
	}
	full := rule.ViewOf(sampleCall())
	empty := rule.ViewOf(&hub.Call{})
	f.Fuzz(func(t *testing.T, source string) {
		c, err := rule.CompileCondition(source)
		if err != nil {
			if _, ok := errors.AsType[*rule.Error](err); !ok || err.Error() == "" {
				t.Fatalf("got %v, want an *Error", err)
			}
			return
		}
		if !c.Implies(c) {
			t.Error("a condition must imply itself")
		}
		for _, v := range []*rule.View{full, empty} {
			if _, err := c.Eval(v, acme); err != nil {
				if _, ok := errors.AsType[*rule.EvalError](err); !ok {
					t.Fatalf("got %v, want an *EvalError", err)
				}
			}
		}
	})
}

func BenchmarkViewOf(b *testing.B) {
	call := sampleCall()
	for b.Loop() {
		rule.ViewOf(call)
	}
}

func BenchmarkConditionEval(b *testing.B) {
	for _, when := range []string{
		`call.duration_seconds >= 120`,
		`call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")`,
	} {
		b.Run(when, func(b *testing.B) {
			c, err := rule.CompileCondition(when)
			if err != nil {
				b.Fatal(err)
			}
			v := rule.ViewOf(sampleCall())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Eval(v, acme); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompileCondition(b *testing.B) {
	for b.Loop() {
		if _, err := rule.CompileCondition(`call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")`); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleCompileCondition() {
	c, err := rule.CompileCondition(`call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")`)
	if err != nil {
		fmt.Println(err)
		return
	}
	call := hub.Call{DurationSeconds: 1860, Participants: []hub.Participant{{Side: hub.SideExternal}}}
	fmt.Println(c.Eval(rule.ViewOf(&call), rule.Org{ID: "acme"}))

	_, err = rule.CompileCondition(`call.durration_seconds >= 120`)
	fmt.Println(err)
	// Output:
	// true <nil>
	// column 5: there is no member "durration_seconds"; did you mean "duration_seconds"?
}
