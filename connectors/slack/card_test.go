package slack_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/slack"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
	"github.com/optiwe/callbridge/mappings"
)

var update = flag.Bool("update", false, "write the golden files")

const itemKey = "abcdefghijklmnopqrstuvwxyz"

// discovery is a call as most are.
func discovery() hub.Call {
	return hub.Call{
		ID: "call-0042", Title: "Discovery with Northwind Traders",
		StartedAt:       time.Date(2026, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600)),
		DurationSeconds: 1860, Direction: "outbound", Medium: "video",
		Visibility: hub.VisibilityNormal, RecordingConsent: hub.ConsentGranted, Language: "en",
		URL:           "https://app.optiwe.example/calls/0042",
		RecordingURL:  "https://app.optiwe.example/calls/0042/recording",
		TranscriptURL: "https://app.optiwe.example/calls/0042/transcript",
		Owner:         hub.Person{Name: "Dana Reyes", Email: "dana@acme.example"},
		Participants: []hub.Participant{
			{Name: "Dana Reyes", Email: "dana@acme.example", Side: hub.SideInternal},
			{Name: "Mei Tanaka", Email: "mei@acme.example", Title: "Sales Engineer", Side: hub.SideInternal},
			{Name: "Priya Shah", Email: "priya@northwind.example", Phone: "+14155550123", Title: "VP Operations", Company: "Northwind Traders", Side: hub.SideExternal},
			{Name: "Tom Okafor", Email: "tom@northwind.example", Title: "IT Security Lead", Company: "Northwind Traders", Side: hub.SideExternal},
		},
		Account: &hub.Account{Name: "Northwind Traders", Domain: "northwind.example"},
		Summary: "## Overview\n\nNorthwind wants **one place** for warehouse call-outs before peak season; today three teams keep their own spreadsheets. " +
			"Priya has budget for [two sites](https://northwind.example/sites) this quarter and will decide together with IT.\n\n" +
			"## Concerns\n\n- Tom asked for SOC 2 Type II and *regional* data storage.\n- The current vendor's contract renews on **15 January**.\n\n" +
			"## Decision process\n\nOperations and IT sign together. A pilot in Reno would start in the second week of December and run for three weeks.",
		KeyPoints: []string{"Budget approved for two sites", "Security review is on the critical path", "Incumbent renews on 15 January"},
		NextSteps: []hub.NextStep{
			{Text: "Send the security questionnaire", OwnerEmail: "dana@acme.example", DueOn: "2026-11-27"},
			{Text: "Set up a technical session with Tom's team", OwnerEmail: "mei@acme.example", DueOn: "2026-12-02"},
			{Text: "Share site list and volumes", OwnerEmail: "priya@northwind.example"},
		},
		Topics: []string{"pricing", "security", "roll-out"}, Sentiment: new(0.4),
		TalkRatio:   []hub.TalkShare{{Email: "dana@acme.example", Share: 0.46}, {Email: "priya@northwind.example", Share: 0.41}},
		Risks:       []string{"Incumbent may offer an early renewal", "No executive sponsor named yet"},
		Competitors: []string{"Contoso Connect"}, Disposition: "Connected", Tags: []string{"enterprise"},
		Custom: map[string]json.RawMessage{"deal_size": json.RawMessage(`120000`)},
	}
}

// llamada is a call in Spanish.
func llamada() hub.Call {
	c := discovery()
	c.ID, c.Title, c.Language = "call-0051", "Demostración para Almazara del Sur", "es"
	c.StartedAt = time.Date(2026, 11, 24, 9, 30, 0, 0, time.FixedZone("", 3600))
	c.DurationSeconds, c.Direction, c.Medium = 4020, "inbound", "demo"
	c.Owner = hub.Person{Name: "Luis Ortega", Email: "luis@acme.example"}
	c.Participants = []hub.Participant{
		{Name: "Luis Ortega", Email: "luis@acme.example", Side: hub.SideInternal},
		{Name: "Carmen Núñez", Email: "carmen@almazara.example", Title: "Directora de Compras", Side: hub.SideExternal},
	}
	c.Account = &hub.Account{Name: "Almazara del Sur"}
	c.Summary = "Carmen quiere dejar de apuntar los pedidos a mano antes de la campaña. Le gustó el seguimiento por lote y pidió ver la integración con su ERP."
	c.NextSteps = []hub.NextStep{{Text: "Enviar la propuesta con dos planes", OwnerEmail: "luis@acme.example", DueOn: "2026-11-30"}}
	c.KeyPoints, c.Topics, c.Risks = []string{"Campaña a partir del 10 de diciembre"}, []string{"integración", "precio"}, []string{"El ERP lo lleva un tercero"}
	c.Competitors, c.Tags, c.Custom, c.TalkRatio = nil, nil, nil, nil
	return c
}

// longCall has more of everything than a card holds.
func longCall() hub.Call {
	c := discovery()
	c.ID = "call-0066"
	c.Summary = strings.Repeat("The team went through every open point of the contract, one after the other. ", 600)
	c.KeyPoints, c.NextSteps, c.Risks, c.Topics = nil, nil, nil, nil
	for range 12 {
		c.KeyPoints = append(c.KeyPoints, strings.Repeat("A point that takes its time & more. ", 20))
		c.NextSteps = append(c.NextSteps, hub.NextStep{Text: strings.Repeat("Do the thing <soon>. ", 20), OwnerEmail: "dana@acme.example", DueOn: "2026-12-01"})
		c.Risks = append(c.Risks, strings.Repeat("It may rain. ", 40))
		c.Topics = append(c.Topics, "a topic of some length")
		c.Participants = append(c.Participants, hub.Participant{Name: "Somebody Else", Title: "Head of Something Long", Side: hub.SideExternal})
	}
	return c
}

// hostileCall tries to be markup everywhere.
func hostileCall() hub.Call {
	const evil = "<!channel> <@U123> *b* _i_ ~s~ `c` <https://evil.example|click> &amp; #general"
	c := discovery()
	c.Title, c.Owner.Name, c.Account.Name = evil, evil, evil
	c.Participants[2].Name, c.Participants[2].Title = evil, "> quote"
	c.Summary = evil + "\n\n# " + evil + "\n\n- " + evil + "\n\n**" + evil + "** [" + evil + "](javascript:alert(1)) [ok](https://ok.example/a|b>c)"
	c.KeyPoints, c.Risks, c.Topics, c.Tags = []string{evil}, []string{evil}, []string{evil}, []string{evil}
	c.NextSteps = []hub.NextStep{{Text: evil, OwnerEmail: "dana@acme.example", DueOn: "<!here>"}}
	c.URL = "javascript:alert(1)"
	return c
}

func everyField() []consent.Field { return append(consenttest.AllFields(), "custom.deal_size") }

// usualFields are those of a sensible integration.
func usualFields() []consent.Field {
	return []consent.Field{
		consent.FieldTitle, consent.FieldTime, consent.FieldMedium, consent.FieldURL, consent.FieldOwner, consent.FieldParticipantNames,
		consent.FieldParticipantTitles, consent.FieldAccount, consent.FieldSummary, consent.FieldNextSteps, consent.FieldTopics, consent.FieldRisks,
	}
}

func item(r *consent.Release) connectors.Item {
	return connectors.Item{Key: itemKey, Kind: hub.KindShare, Release: r, Destination: json.RawMessage(`{"channel":"` + deals + `"}`)}
}

func render(tb testing.TB, it connectors.Item) connectors.Payload {
	tb.Helper()
	c, err := connectors.Open(slack.Descriptor(), connectors.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	p, err := c.Render(it)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// TestGolden compares whole payloads with files. What changes in one is what
// people will see.
func TestGolden(t *testing.T) {
	t.Parallel()
	correction := item(consenttest.Revision(t, "en", 2, discovery(), usualFields()...))
	correction.Kind, correction.Receipt = hub.KindUpdate, connectors.Receipt{"channel": deals, "ts": "1700000000.000100"}
	mapped := item(consenttest.Release(t, discovery(), usualFields()...))
	mapped.Overrides = map[string]any{"headline": "Northwind: first call", "context": "Enterprise West", "gist": "**Bold** claim by [them](https://x.example)", "note": "Handled by the *West* team"}
	owner := item(consenttest.ReleaseIn(t, "es", llamada(), usualFields()...))
	owner.Destination = json.RawMessage(`{"dm":"owner"}`)
	for name, it := range map[string]connectors.Item{
		"usual-en":    item(consenttest.Release(t, discovery(), usualFields()...)),
		"usual-es":    item(consenttest.ReleaseIn(t, "es", llamada(), usualFields()...)),
		"all-en":      item(consenttest.Release(t, discovery(), everyField()...)),
		"all-es":      item(consenttest.ReleaseIn(t, "es-MX", discovery(), everyField()...)),
		"title-only":  item(consenttest.Release(t, discovery(), consent.FieldTitle)),
		"topics-only": item(consenttest.Release(t, discovery(), consent.FieldTopics)),
		"long":        item(consenttest.Release(t, longCall(), everyField()...)),
		"hostile":     item(consenttest.Release(t, hostileCall(), everyField()...)),
		"correction":  correction,
		"mapped":      mapped,
		"owner-es":    owner,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := render(t, it)
			checkMessage(t, p)
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(map[string]any{"body": p.Body, "losses": p.Losses}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "card", name+".json")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("run with -update if this is meant (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSampleCalls renders the sample calls, which are lifelike and of several
// languages, and posts those that may be shared.
func TestSampleCalls(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "test", "testdata", "calls", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d sample calls, %v", len(files), err)
	}
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	for i, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var call hub.Call
		if err := json.Unmarshal(raw, &call); err != nil {
			t.Fatal(err)
		}
		if call.Visibility == hub.VisibilityPrivate || call.RecordingConsent == hub.ConsentDenied {
			continue
		}
		it := item(consenttest.ReleaseIn(t, call.Language, call, usualFields()...))
		checkMessage(t, render(t, it))
		it.Key = strings.Repeat(string(rune('a'+i)), 26)
		if out := send(t, conn, a, it); out.Class != connectors.Delivered {
			t.Errorf("%s: %v", filepath.Base(file), out.Err)
		}
	}
	html := get(t, ws.URL+"/archives/"+deals)
	if n := strings.Count(html, "<h3>"); n != len(ws.Messages(deals)) || n == 0 {
		t.Errorf("the page shows %d cards, want %d", n, len(ws.Messages(deals)))
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "samples.html"), []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkMessage checks what must hold of every message: Slack's limits, no
// markup but ours, and notifications and metadata that say nothing.
func checkMessage(tb interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, p connectors.Payload,
) {
	tb.Helper()
	var m struct {
		Text     string
		Blocks   json.RawMessage
		Metadata json.RawMessage
	}
	if err := json.Unmarshal(p.Body, &m); err != nil {
		tb.Fatalf("the body is no JSON: %v", err)
	}
	if code := slacktest.CheckMessage(m.Text, string(m.Blocks), string(m.Metadata)); code != "" {
		tb.Errorf("Slack would refuse the message: %s", code)
	}
	texts := mrkdwnTexts(m.Blocks)
	total := 0
	for _, s := range texts {
		total += len([]rune(s.text))
		if s.mrkdwn {
			checkMrkdwn(tb, s.text)
		}
	}
	if total > 9000 {
		tb.Errorf("the blocks hold %d characters, want at most 9,000", total)
	}
	switch m.Text {
	case "New call shared", "A shared call was updated", "Nueva llamada compartida", "Se actualizó una llamada compartida":
	default:
		tb.Errorf("the notification says %q", m.Text)
	}
	var meta map[string]any
	if err := json.Unmarshal(m.Metadata, &meta); err != nil {
		tb.Fatalf("the metadata is no JSON: %v", err)
	}
	payload, _ := meta["event_payload"].(map[string]any)
	if len(meta) != 2 || len(payload) != 2 || payload["key"] != itemKey || payload["revision"] == nil {
		tb.Errorf("the metadata holds more than key and revision: %s", m.Metadata)
	}
	for _, l := range p.Losses {
		if l.Field == "" || l.Kind == "" || l.Kind == mappings.Truncated && l.To >= l.From {
			tb.Errorf("the loss %+v does not say what was lost", l)
		}
	}
}

type blockText struct {
	text   string
	mrkdwn bool
}

// mrkdwnTexts returns the text objects of blocks.
func mrkdwnTexts(blocks json.RawMessage) []blockText {
	var out []blockText
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if s, ok := v["text"].(string); ok {
				out = append(out, blockText{s, v["type"] == "mrkdwn"})
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	var tree any
	if json.Unmarshal(blocks, &tree) == nil {
		walk(tree)
	}
	return out
}

// checkMrkdwn checks that the only things between < and > are web links, and
// that every & begins an escape.
func checkMrkdwn(tb interface {
	Helper()
	Errorf(string, ...any)
}, s string,
) {
	tb.Helper()
	rest := s
	for rest != "" {
		i := strings.IndexAny(rest, "<>&")
		if i < 0 {
			return
		}
		rest = rest[i:]
		switch rest[0] {
		case '&':
			if !strings.HasPrefix(rest, "&amp;") && !strings.HasPrefix(rest, "&lt;") && !strings.HasPrefix(rest, "&gt;") {
				tb.Errorf("an unescaped & in %q", s)
				return
			}
			rest = rest[1:]
		case '>':
			tb.Errorf("an unescaped > in %q", s)
			return
		case '<':
			inner, after, ok := strings.Cut(rest[1:], ">")
			target, label, hasLabel := strings.Cut(inner, "|")
			if !ok || !hasLabel || label == "" || strings.ContainsAny(target, "<> \n") || strings.Contains(label, "<") ||
				!strings.HasPrefix(target, "https://") && !strings.HasPrefix(target, "http://") {
				tb.Errorf("something that is no web link between < and > in %q", s)
				return
			}
			rest = after
		}
	}
}

// TestCardKeepsLimits renders calls of any size and content.
func TestCardKeepsLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		call := anyCall(rt)
		fields := rapid.SliceOfNDistinct(rapid.SampledFrom(everyField()), 1, -1, rapid.ID).Draw(rt, "fields")
		if !slices.Contains(fields, consent.FieldTime) {
			fields = append(fields, consent.FieldTime) // every call has it, so there is something to release
		}
		it := item(consenttest.ReleaseIn(t, rapid.SampledFrom([]string{"en", "es", "de"}).Draw(rt, "language"), call, fields...))
		if rapid.Bool().Draw(rt, "mapped") {
			it.Overrides = map[string]any{}
			for _, part := range []string{"headline", "context", "gist", "note"} {
				if rapid.Bool().Draw(rt, part) {
					it.Overrides[part] = anyText(rt, 4000)
				}
			}
		}
		if rapid.Bool().Draw(rt, "update") {
			it.Kind, it.Receipt = hub.KindUpdate, connectors.Receipt{"channel": deals, "ts": "1.000001"}
		}
		checkMessage(rt, render(t, it))
	})
}

func anyText(t *rapid.T, most int) string {
	unit := rapid.SampledFrom([]string{"&", "<", ">", "*", "_", "~", "`", "word ", "end. ", "\n", "\n- ", "# ", "👩🏽‍🚀", "é", "[a](https://x.example/?a=1&b=2)", "**b** ", "a|b", "\x01", "\u202e", "<!channel>", "\n> ", "\n```\n", "\\"}).Draw(t, "unit")
	other := rapid.StringN(0, 12, -1).Draw(t, "other")
	n := rapid.IntRange(0, max(1, most/len(unit+other))).Draw(t, "n")
	return strings.Repeat(unit+other, n)
}

func anyCall(t *rapid.T) hub.Call {
	c := discovery()
	c.Title, c.Summary = anyText(t, 500), anyText(t, 50_000)
	c.Owner.Name, c.Account.Name, c.Disposition = anyText(t, 200), anyText(t, 200), anyText(t, 200)
	c.URL = rapid.SampledFrom([]string{"", "https://x.example/" + strings.Repeat("a", 4000), "https://x.example/a?b=c|d", "ftp://x.example", c.URL}).Draw(t, "url")
	texts := func(label string) []string {
		out := make([]string, rapid.IntRange(0, 40).Draw(t, label))
		for i := range out {
			out[i] = anyText(t, 1000)
		}
		return out
	}
	c.KeyPoints, c.Topics, c.Risks, c.Competitors, c.Tags = texts("points"), texts("topics"), texts("risks"), texts("competitors"), texts("tags")
	c.NextSteps = nil
	for _, s := range texts("steps") {
		c.NextSteps = append(c.NextSteps, hub.NextStep{Text: s, OwnerEmail: "priya@northwind.example", DueOn: anyText(t, 40)})
	}
	for i, s := range texts("people") {
		c.Participants = append(c.Participants, hub.Participant{Name: s, Title: s, Email: s, Company: s, Side: []string{"", hub.SideExternal, hub.SideInternal}[i%3]})
	}
	return c
}

// TestOnlyReleasedFieldsLeaveATrace renders a call with each field alone:
// neither the other fields nor their headings are there.
func TestOnlyReleasedFieldsLeaveATrace(t *testing.T) {
	t.Parallel()
	headings := map[consent.Field]string{
		consent.FieldOwner: "Owner", consent.FieldNextSteps: "Next steps", consent.FieldTopics: "Topics", consent.FieldRisks: "Risks",
		consent.FieldKeyPoints: "Key points", consent.FieldCompetitors: "Competitors", consent.FieldTags: "Tags", consent.FieldSentiment: "Sentiment",
		consent.FieldTalkRatio: "Talk ratio", consent.FieldDisposition: "Outcome", consent.FieldURL: "Open call",
		consent.FieldRecordingURL: "Recording", consent.FieldTranscriptURL: "Transcript",
	}
	for _, f := range everyField() {
		if f.Matching() {
			continue
		}
		body := string(render(t, item(consenttest.Release(t, discovery(), f))).Body)
		for g, heading := range headings {
			if has := strings.Contains(body, heading); has != (f == g) {
				t.Errorf("only %s is released, and the heading %q there is %v", f, heading, has)
			}
		}
	}
}

func TestRenderIsCanonical(t *testing.T) {
	t.Parallel()
	body := render(t, item(consenttest.Release(t, hostileCall(), everyField()...))).Body
	var tree any
	if err := json.Unmarshal(body, &tree); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	enc := json.NewEncoder(&again)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(again.String()); got != string(body) {
		t.Errorf("the body is not canonical:\n%s", cmp.Diff(string(body), got))
	}
}

func TestDestinationOfMessage(t *testing.T) {
	t.Parallel()
	share := item(consenttest.Release(t, discovery(), consent.FieldTitle))
	dm := share
	dm.Destination = json.RawMessage(`{"dm":"owner"}`)
	found := dm
	found.Targets = connectors.Targets{"user": "U0DANA001"}
	correction := share
	correction.Kind, correction.Receipt = hub.KindUpdate, connectors.Receipt{"channel": "C0ELSEWHE", "ts": "1.000001"}
	for name, tt := range map[string]struct {
		item connectors.Item
		want string
	}{
		"channel":                    {share, `"channel":"C0DEALS01"`},
		"owner, not looked up":       {dm, `"dm":"owner"`},
		"owner, found":               {found, `"channel":"U0DANA001"`},
		"correction, where it is":    {correction, `"channel":"C0ELSEWHE"`},
		"correction, which message":  {correction, `"ts":"1.000001"`},
		"share, no unfurling":        {share, `"unfurl_links":false`},
		"share, no unfurling, media": {share, `"unfurl_media":false`},
	} {
		if body := string(render(t, tt.item).Body); !strings.Contains(body, tt.want) {
			t.Errorf("%s: %s is not in the body", name, tt.want)
		}
	}
	share.Destination = json.RawMessage(`{"rules":[{"when":"true","channel":"C0DEALS01"}]}`)
	c, err := connectors.Open(slack.Descriptor(), connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Render(share); err == nil {
		t.Error("a destination with rules was rendered")
	}
}

// TestPage draws sample cards as the workspace's members would see them. With
// -artifacts the page is kept for looking at it.
func TestPage(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, err := connectors.Open(slack.Descriptor(), connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a := account(t, ws)
	ws.Say(deals, "U0DANA001", "Morning! Northwind is on at *3 PM*, wish me luck.")
	var receipt connectors.Receipt
	for i, r := range []*consent.Release{
		consenttest.Release(t, discovery(), usualFields()...),
		consenttest.Release(t, discovery(), everyField()...),
		consenttest.ReleaseIn(t, "es", llamada(), usualFields()...),
		consenttest.Release(t, longCall(), usualFields()...),
		consenttest.Release(t, hostileCall(), usualFields()...),
	} {
		it := item(r)
		it.Key = strings.Repeat(string(rune('a'+i)), 26)
		out := send(t, conn, a, it)
		if out.Class != connectors.Delivered {
			t.Fatal(out.Err)
		}
		if i == 0 {
			receipt = out.Receipt
		}
	}
	fix := item(consenttest.Revision(t, "en", 2, discovery(), usualFields()...))
	fix.Key, fix.Kind, fix.Receipt = strings.Repeat("a", 26), hub.KindUpdate, receipt
	if out := send(t, conn, a, fix); out.Class != connectors.Delivered {
		t.Fatal(out.Err)
	}
	html := get(t, receipt["url"])
	for _, want := range []string{
		"<h3>Priya Shah, Tom Okafor · Northwind Traders</h3>", "<strong>Discovery with Northwind Traders</strong>", "<strong>one place</strong>",
		`href="https://app.optiwe.example/calls/0042"`, "(edited)", "Updated · revision 2", "due Fri, Nov 27", "Próximos pasos", "Abrir llamada",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	for _, not := range []string{`href="javascript:`, `class="mention"`, "<script"} {
		if strings.Contains(html, not) {
			t.Errorf("the page shows %q", not)
		}
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "page.html"), []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
}
