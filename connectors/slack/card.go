package slack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/slack-go/slack"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

// Limits of parts of the card, in UTF-16 units once escaped.
const (
	// maxCard is the most text that all blocks hold together. Slack refuses a
	// message with more than some 9,600 to 13,000 characters in its blocks and
	// does not say how many exactly. A usual card has a tenth of that.
	maxCard = 9000

	maxHeadline = 150 // Slack's limit of a header
	maxContext  = 300
	maxTitle    = 300
	gistLines   = 4    // of a usual window, and so at most 380
	maxGiven    = 2000 // a gist that a mapping gives
	givenLines  = maxGiven / lineWidth
	maxNote     = 500
	noteLines   = maxNote / lineWidth
	maxField    = 240
	maxFields   = 10 // Slack's limit of a section
	maxPoint    = 200
	maxStep     = 300
	maxPoints   = 5
	maxSteps    = 6
	maxRisks    = 4
	maxPeople   = 5
	maxCustom   = 4
	maxTopics   = 420
	maxButton   = 75   // Slack's limit of a button's text
	maxURL      = 3000 // Slack's limit of a button's address
)

// eventType marks our messages in their metadata.
const eventType = "callbridge_copy"

// Names of the parts that losses and mappings speak of.
const (
	partHeadline = "headline"
	partContext  = "context"
	partGist     = "gist"
	partNote     = "note"
)

// schema returns the parts of the card that a mapping may set.
func schema(json.RawMessage) mappings.Schema {
	return mappings.Schema{Fields: []mappings.Field{
		{Name: partHeadline, Title: "Headline", Type: mappings.String, MaxLength: maxHeadline},
		{Name: partContext, Title: "Line under the headline", Type: mappings.String, MaxLength: maxContext},
		{Name: partGist, Title: "Gist (Markdown)", Type: mappings.String, MaxLength: maxGiven},
		{Name: partNote, Title: "Note at the end", Type: mappings.String, MaxLength: maxNote},
	}}
}

// message is what is sent. Channel or DM says where to: a direct message to
// the owner has no channel until the owner's account is known.
type message struct {
	Channel     string          `json:"channel,omitempty"`
	DM          string          `json:"dm,omitempty"`
	TS          string          `json:"ts,omitempty"` // of the message to be corrected
	Text        string          `json:"text"`
	Blocks      json.RawMessage `json:"blocks"`
	Metadata    json.RawMessage `json:"metadata"`
	UnfurlLinks *bool           `json:"unfurl_links,omitempty"`
	UnfurlMedia *bool           `json:"unfurl_media,omitempty"`
}

// Render draws the card. The body holds everything that is sent: where to, the
// text of notifications, which says nothing of the call, the blocks, and
// metadata with nothing but the item's opaque key and the revision, because
// every app and member of the workspace can read it.
func (*connector) Render(item connectors.Item) (connectors.Payload, error) {
	dest, err := parseDestination(item.Destination)
	if err != nil {
		return connectors.Payload{}, err
	}
	if item.Release == nil {
		return connectors.Payload{}, fmt.Errorf("slack: render: there is no release")
	}
	d := newCard(item)
	d.draw()
	d.lighten()
	blocks, err := json.Marshal(d.blocks())
	if err != nil {
		return connectors.Payload{}, fmt.Errorf("slack: render: encode blocks: %w", err)
	}
	meta, err := json.Marshal(api.SlackMetadata{
		EventType: eventType, EventPayload: map[string]any{"key": item.Key, "revision": item.Release.Revision()},
	})
	if err != nil {
		return connectors.Payload{}, fmt.Errorf("slack: render: encode metadata: %w", err)
	}
	m := message{Text: d.w.newCall, Blocks: blocks, Metadata: meta}
	if item.Kind == hub.KindUpdate {
		m.Text = d.w.correctedCall
		m.Channel, m.TS = item.Receipt[receiptChannel], item.Receipt[receiptTimestamp]
	} else {
		m.UnfurlLinks, m.UnfurlMedia = new(bool), new(bool)
		m.Channel = dest.channel
		if dest.owner {
			m.Channel = item.Targets[targetUser]
		}
	}
	if m.Channel == "" {
		m.DM = "owner"
	}
	body, err := canonical(m)
	if err != nil {
		return connectors.Payload{}, err
	}
	return connectors.Payload{Body: body, Losses: d.losses}, nil
}

// canonical returns v as JSON with sorted members and nothing escaped that
// need not be, so that equal messages are equal bytes.
func canonical(v any) (json.RawMessage, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("slack: encode payload: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("slack: encode payload: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return nil, fmt.Errorf("slack: encode payload: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// card is a card being drawn.
type card struct {
	item   connectors.Item
	call   hub.Call
	w      words
	link   string // to the call; "" where it is not released
	parts  []part
	losses []mappings.Loss
}

// part is a block of the card.
type part struct {
	field string // what it shows
	block api.Block
	size  int // units of its text
}

func newCard(item connectors.Item) *card {
	call := item.Release.Content()
	return &card{item: item, call: call, w: wordsFor(item.Release.Language()), link: webURL(call.URL)}
}

// draw adds the blocks from top to bottom. A part of which nothing is released
// leaves no trace.
func (d *card) draw() {
	d.headline()
	d.context()
	d.summary()
	d.facts()
	d.list("key_points", d.w.keyPoints, maxPoints, d.points(d.call.KeyPoints, "key_points"))
	d.list("next_steps", d.w.nextSteps, maxSteps, d.steps())
	d.list("risks", d.w.risks, maxRisks, d.points(d.call.Risks, "risks"))
	d.topics()
	d.note()
	d.buttons()
	d.updated()
}

// override returns what the admin's mapping gave for a part.
func (d *card) override(part string) (string, bool) {
	v, ok := d.item.Overrides[part]
	if !ok {
		return "", false
	}
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return clean(v), true
	}
	return clean(fmt.Sprint(v)), true
}

// truncated declares that a text was cut. Several texts of one field make one
// loss with the sum of their lengths.
func (d *card) truncated(field string, from, to int) {
	if to >= from {
		return
	}
	i := slices.IndexFunc(d.losses, func(l mappings.Loss) bool { return l.Field == field && l.Kind == mappings.Truncated })
	if i < 0 {
		i = len(d.losses)
		d.losses = append(d.losses, mappings.Loss{Field: field, Kind: mappings.Truncated})
	}
	d.losses[i].From += from
	d.losses[i].To += to
}

func (d *card) dropped(field, detail string) {
	d.losses = append(d.losses, mappings.Loss{Field: field, Kind: mappings.Dropped, Detail: detail})
}

// cut shortens data and declares the loss.
func (d *card) cut(field, s string, limit int) string {
	short, was := shorten(s, limit)
	if was {
		d.truncated(field, units(s), units(short))
	}
	return data(short)
}

// mrk returns a mrkdwn text. verbatim keeps Slack from making links and
// mentions of its own out of words.
func mrk(s string) *api.TextBlockObject {
	return &api.TextBlockObject{Type: api.MarkdownType, Text: s, Verbatim: true}
}

func plain(s string) *api.TextBlockObject {
	emoji := false
	return &api.TextBlockObject{Type: api.PlainTextType, Text: s, Emoji: &emoji}
}

func (d *card) add(field string, b api.Block, texts ...string) {
	size := 0
	for _, s := range texts {
		size += units(s)
	}
	d.parts = append(d.parts, part{field: field, block: b, size: size})
}

func (d *card) section(field, text string) {
	d.add(field, api.NewSectionBlock(mrk(text), nil, nil), text)
}

func (d *card) small(field, text string) {
	d.add(field, api.NewContextBlock("", mrk(text)), text)
}

// lighten leaves parts out, what matters least first, until the card is not
// heavier than Slack takes.
func (d *card) lighten() {
	total := 0
	for _, p := range d.parts {
		total += p.size
	}
	for _, field := range []string{"topics", "facts", "risks", "key_points", partNote, "next_steps"} {
		i := slices.IndexFunc(d.parts, func(p part) bool { return p.field == field })
		if total <= maxCard || i < 0 {
			continue
		}
		total -= d.parts[i].size
		d.parts = slices.Delete(d.parts, i, i+1)
		d.dropped(field, "left out, because Slack takes no more text in one message")
	}
}

func (d *card) blocks() []api.Block {
	out := make([]api.Block, len(d.parts))
	for i, p := range d.parts {
		out[i] = p.block
	}
	return out
}

// headline says who it was with: people of the other side and their company,
// or else the title.
func (d *card) headline() {
	text, given := d.override(partHeadline)
	text = oneLine(text)
	if !given {
		text = d.who()
	}
	if text == "" && !given {
		text = oneLine(d.call.Title)
	}
	if text == "" && !given {
		text = d.w.call
	}
	if text == "" {
		return
	}
	short, was := shortenPlain(text, maxHeadline)
	if was {
		d.truncated(partHeadline, units(text), units(short))
	}
	d.add(partHeadline, api.NewHeaderBlock(plain(short)), short)
}

// who returns "Priya Shah, Tom Okafor +1 · Northwind Traders", as far as it is
// released.
func (d *card) who() string {
	var names []string
	for _, p := range d.side(false) {
		if n := oneLine(p.Name); n != "" {
			names = append(names, n)
		}
	}
	const most = 2
	text := strings.Join(names[:min(most, len(names))], ", ")
	if n := len(names) - most; n > 0 {
		text += fmt.Sprintf(" +%d", n)
	}
	if account := d.accountName(); account != "" {
		if text != "" {
			text += " · "
		}
		text += account
	}
	return text
}

func (d *card) accountName() string {
	if d.call.Account == nil {
		return ""
	}
	if n := oneLine(d.call.Account.Name); n != "" {
		return n
	}
	return oneLine(d.call.Account.Domain)
}

// side returns the participants of our side but the call's owner, who is shown
// as such, or all others.
func (d *card) side(ours bool) []hub.Participant {
	var out []hub.Participant
	for _, p := range d.call.Participants {
		owner := p.Side != hub.SideExternal &&
			(p.Name != "" && p.Name == d.call.Owner.Name || p.Email != "" && strings.EqualFold(p.Email, d.call.Owner.Email))
		if !owner && (p.Side == hub.SideInternal) == ours {
			out = append(out, p)
		}
	}
	return out
}

// context is the line under the headline: time, length, medium, direction.
func (d *card) context() {
	if text, given := d.override(partContext); given {
		if text = oneLine(text); text != "" {
			d.small(partContext, d.cut(partContext, text, maxContext))
		}
		return
	}
	var parts []string
	if d.item.Release.Has(consent.FieldTime) {
		if !d.call.StartedAt.IsZero() {
			parts = append(parts, d.w.moment(d.call.StartedAt))
		}
		parts = append(parts, length(max(0, d.call.DurationSeconds)))
	}
	if s := named(d.w.mediums, d.call.Medium); s != "" {
		parts = append(parts, s)
	}
	if s := named(d.w.directions, d.call.Direction); s != "" {
		parts = append(parts, s)
	}
	if len(parts) > 0 {
		d.small(partContext, d.cut(partContext, strings.Join(parts, " · "), maxContext))
	}
}

// named returns the word for a value, or the value itself.
func named(m map[string]string, v string) string {
	if s, ok := m[v]; ok {
		return s
	}
	return oneLine(v)
}

// summary is the title, where the headline is not it, and the gist.
func (d *card) summary() {
	var parts []string
	title := oneLine(d.call.Title)
	_, headlineGiven := d.override(partHeadline)
	if title != "" && (headlineGiven || d.who() != "") {
		short, was := shorten(title, maxTitle)
		if was {
			d.truncated("title", units(title), units(short))
		}
		parts = append(parts, "*"+data(short)+"*")
	}
	if g := d.gist(); g != "" {
		parts = append(parts, g)
	}
	if len(parts) > 0 {
		d.section(partGist, strings.Join(parts, "\n"))
	}
}

func (d *card) gist() string {
	src, given := d.override(partGist)
	lines := givenLines
	if !given {
		src, lines = d.call.Summary, gistLines
	}
	text, cut := gist(src, lines)
	if !cut {
		return text
	}
	d.truncated(partGist, units(src), min(units(text), units(src)-1))
	if l := safeLink(d.link); l != "" && !given {
		text += " <" + escape(l) + "|" + d.w.rest + ">"
	}
	return text
}

// facts are the short facts in two columns.
func (d *card) facts() {
	var fields []*api.TextBlockObject
	var texts []string
	add := func(label, value string) {
		if value != "" && len(fields) < maxFields {
			texts = append(texts, "*"+data(label)+"*\n"+value)
			fields = append(fields, mrk(texts[len(texts)-1]))
		}
	}
	add(d.w.with, d.people(d.side(false)))
	add(d.w.fromUs, d.people(d.side(true)))
	add(d.w.owner, d.cut("owner", person(d.call.Owner.Name, d.call.Owner.Email), maxField))
	if _, given := d.override(partHeadline); given {
		add(d.w.account, d.cut("account", d.accountName(), maxField))
	}
	add(d.w.outcome, d.cut("disposition", oneLine(d.call.Disposition), maxField))
	add(d.w.sentiment, d.mood())
	add(d.w.talk, d.talk())
	names := slices.Sorted(maps.Keys(d.call.Custom))
	for i, name := range names {
		if i == maxCustom {
			d.dropped("custom", fmt.Sprintf("%d more custom members are not shown", len(names)-maxCustom))
			break
		}
		label, _ := shorten(oneLine(name), 60)
		add(label, d.cut("custom", customText(d.call.Custom[name]), maxField))
	}
	if len(fields) > 0 {
		d.add("facts", api.NewSectionBlock(nil, fields, nil), texts...)
	}
}

// person returns a name, or the address where there is no name.
func person(name, email string) string {
	if n := oneLine(name); n != "" {
		return n
	}
	return oneLine(email)
}

// people returns one line for each participant with what is released of them.
func (d *card) people(ps []hub.Participant) string {
	var lines []string
	for _, p := range ps {
		var parts []string
		for _, s := range []string{p.Name, p.Title, company(p.Company, d.accountName()), p.Email, p.Phone} {
			if s = oneLine(s); s != "" {
				parts = append(parts, s)
			}
		}
		if len(parts) > 0 {
			lines = append(lines, strings.Join(parts, ", "))
		}
	}
	return d.lines("participants", lines, maxPeople, maxField)
}

// company returns a participant's company where it says more than the account.
func company(name, account string) string {
	if strings.EqualFold(oneLine(name), account) {
		return ""
	}
	return name
}

// lines joins at most n lines of data within limit units.
func (d *card) lines(field string, all []string, n, limit int) string {
	var out []string
	used, from, kept, full := 0, 0, 0, false
	reserve := units(d.w.more) + 4
	for i, s := range all {
		from += units(s)
		left := limit - used - reserve
		switch {
		case full:
		case i == n || left < 20:
			out = append(out, fmt.Sprintf(d.w.more, len(all)-i))
			full = true
		default:
			short, _ := shorten(s, left)
			kept += min(units(short), units(s))
			out = append(out, data(short))
			used += units(data(short)) + 1
		}
	}
	d.truncated(field, from, kept)
	return strings.Join(out, "\n")
}

// mood returns the sentiment in a word and its number.
func (d *card) mood() string {
	if d.call.Sentiment == nil {
		return ""
	}
	v := *d.call.Sentiment
	text := d.w.neutral
	switch {
	case v >= 0.25:
		text = d.w.positive
	case v <= -0.25:
		text = d.w.negative
	}
	return fmt.Sprintf("%s (%s)", text, strconv.FormatFloat(v, 'f', 2, 64))
}

func (d *card) talk() string {
	var lines []string
	for _, s := range d.item.Release.Speakers() {
		who := person(s.Name, s.Email)
		if who == "" {
			who = map[string]string{hub.SideInternal: d.w.internal, hub.SideExternal: d.w.external}[s.Side]
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf(d.w.percent, who, s.Share*100)))
	}
	return d.lines("talk_ratio", lines, maxPeople, maxField)
}

// customText returns a custom member, which is a string, number or boolean.
func customText(raw json.RawMessage) string {
	if s, ok := str(raw); ok {
		return oneLine(s)
	}
	return oneLine(string(raw))
}

// points returns list items of data.
func (d *card) points(all []string, field string) []string {
	var out []string
	for _, s := range all {
		if s = oneLine(s); s != "" {
			out = append(out, s)
		}
	}
	for i := range out[:min(len(out), maxPoints)] {
		out[i] = d.cut(field, out[i], maxPoint)
	}
	return out
}

// steps returns the next steps with who does it and by when.
func (d *card) steps() []string {
	var out []string
	for _, s := range d.item.Release.NextSteps() {
		text := oneLine(s.Text)
		if text == "" {
			continue
		}
		var tail []string
		if who := person(s.OwnerName, s.OwnerEmail); who != "" {
			short, _ := shorten(who, 60)
			tail = append(tail, data(short))
		}
		if s.DueOn != "" {
			tail = append(tail, fmt.Sprintf(d.w.due, d.day(s.DueOn)))
		}
		if len(out) >= maxSteps {
			out = append(out, "") // counted, not shown
			continue
		}
		text = d.cut("next_steps", text, maxPoint)
		if len(tail) > 0 {
			text += " — " + strings.Join(tail, ", ")
		}
		out = append(out, text)
	}
	return out
}

// day returns a date for people, or the text itself if it is none.
func (d *card) day(s string) string {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		short, _ := shorten(oneLine(s), 30)
		return data(short)
	}
	return d.w.date(t)
}

// list adds a heading and at most n items, which are mrkdwn.
func (d *card) list(field, heading string, n int, items []string) {
	if len(items) == 0 {
		return
	}
	lines := []string{"*" + heading + "*"}
	for _, s := range items[:min(n, len(items))] {
		lines = append(lines, "• "+s)
	}
	if more := len(items) - n; more > 0 {
		lines = append(lines, "_"+fmt.Sprintf(d.w.moreLines, more)+"_")
		d.dropped(field, fmt.Sprintf("%d of %d are not shown", more, len(items)))
	}
	d.section(field, strings.Join(lines, "\n"))
}

// topics is a small line of what came up.
func (d *card) topics() {
	var parts []string
	for _, g := range []struct {
		field, label string
		values       []string
	}{
		{"topics", d.w.topics, d.call.Topics},
		{"competitors", d.w.competitors, d.call.Competitors},
		{"tags", d.w.tags, d.call.Tags},
	} {
		var values []string
		for _, v := range g.values {
			if v = oneLine(v); v != "" {
				values = append(values, v)
			}
		}
		if len(values) == 0 {
			continue
		}
		text := "*" + g.label + "* " + d.cut(g.field, strings.Join(values, ", "), maxTopics/3)
		parts = append(parts, text)
	}
	if len(parts) > 0 {
		d.small("topics", strings.Join(parts, "  ·  "))
	}
}

// note is a line that only a mapping gives.
func (d *card) note() {
	text, given := d.override(partNote)
	if !given || strings.TrimSpace(text) == "" {
		return
	}
	out, cut := gist(text, noteLines)
	if cut {
		d.truncated(partNote, units(text), min(units(out), units(text)-1))
	}
	if out != "" {
		d.section(partNote, out)
	}
}

// buttons lead to the call, its recording and its transcript.
func (d *card) buttons() {
	var elements []api.BlockElement
	var labels []string
	for _, b := range []struct{ action, field, label, address string }{
		{"open_call", "url", d.w.open, d.call.URL},
		{"open_recording", "recording_url", d.w.recording, d.call.RecordingURL},
		{"open_transcript", "transcript_url", d.w.transcript, d.call.TranscriptURL},
	} {
		if b.address == "" {
			continue
		}
		to := webURL(b.address)
		if to == "" {
			d.dropped(b.field, "the address is not one that Slack accepts")
			continue
		}
		button := api.NewButtonBlockElement(b.action, "", plain(b.label)).WithURL(to)
		if len(elements) == 0 {
			button = button.WithStyle(api.StylePrimary)
		}
		elements = append(elements, button)
		labels = append(labels, b.label)
	}
	if len(elements) > 0 {
		d.add("buttons", api.NewActionBlock("", elements...), labels...)
	}
}

// updated marks a correction.
func (d *card) updated() {
	if d.item.Kind == hub.KindUpdate {
		d.small("updated", fmt.Sprintf(d.w.updated, d.item.Release.Revision()))
	}
}
