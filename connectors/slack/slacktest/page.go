package slacktest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// view is what the page shows.
type view struct {
	CSS      template.CSS
	Team     string
	Initial  string
	Channels []row
	Directs  []row
	Title    string
	Topic    string
	Direct   bool
	Shared   bool
	Days     []day
}

type row struct {
	ID, Name, Initials string
	Count              int
	Current            bool
	Private, Shared    bool
}

type day struct {
	Name     string
	Messages []post
}

type post struct {
	Author, Initials string
	App              bool
	Time             string
	Anchor           string
	Edited           bool
	Text             template.HTML
	Blocks           []drawn
}

// drawn is a block made ready for the page.
type drawn struct {
	Type    string
	Plain   string
	HTML    template.HTML
	Fields  []template.HTML
	Buttons []button
}

type button struct{ Text, URL, Style string }

// page draws the workspace as its members would see it.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	v := s.view(r.PathValue("channel"))
	s.mu.Unlock()
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("Cache-Control", "no-store")
	_, _ = out.WriteTo(w) // the caller may be gone
}

func (s *Server) view(channel string) view {
	v := view{
		CSS:  template.CSS(pageCSS),
		Team: s.opts.TeamName, Initial: initials(s.opts.TeamName),
	}
	ids := slices.SortedFunc(maps.Keys(s.channels), func(a, b string) int {
		return strings.Compare(s.nameOf(a), s.nameOf(b))
	})
	if s.channels[channel] == nil {
		channel = s.liveliest(ids)
	}
	for _, id := range ids {
		c := s.channels[id]
		r := row{ID: id, Name: s.nameOf(id), Initials: initials(s.nameOf(id)), Count: s.live(id), Current: id == channel, Private: c.Private, Shared: c.ExtShared}
		if c.User != "" {
			v.Directs = append(v.Directs, r)
		} else {
			v.Channels = append(v.Channels, r)
		}
	}
	if c := s.channels[channel]; c != nil {
		v.Title, v.Topic, v.Direct, v.Shared = s.nameOf(channel), c.Topic, c.User != "", c.ExtShared
		v.Days = s.days(channel)
	}
	return v
}

// liveliest returns the channel with the most messages.
func (s *Server) liveliest(ids []string) string {
	best, most := "", -1
	for _, id := range ids {
		if n := s.live(id); n > most && s.channels[id].User == "" {
			best, most = id, n
		}
	}
	return best
}

func (s *Server) live(channel string) int {
	n := 0
	for _, m := range s.messages[channel] {
		if !m.Deleted {
			n++
		}
	}
	return n
}

func (s *Server) nameOf(channel string) string {
	c := s.channels[channel]
	if c == nil {
		return ""
	}
	if u := s.users[c.User]; u != nil {
		return u.RealName
	}
	return c.Name
}

func (s *Server) days(channel string) []day {
	var out []day
	for _, m := range s.messages[channel] {
		if m.Deleted {
			continue
		}
		name := m.PostedAt.Format("Monday, January 2")
		if len(out) == 0 || out[len(out)-1].Name != name {
			out = append(out, day{Name: name})
		}
		last := &out[len(out)-1]
		last.Messages = append(last.Messages, s.post(m))
	}
	return out
}

func (s *Server) post(m *Message) post {
	p := post{
		Author: m.User, App: m.User == s.botUser, Time: m.PostedAt.Format("3:04 PM"),
		Anchor: "p" + strings.ReplaceAll(m.TS, ".", ""), Edited: len(m.Edits) > 0,
	}
	if u := s.users[m.User]; u != nil {
		p.Author = u.RealName
	}
	p.Initials = initials(p.Author)
	var blocks []block
	if json.Unmarshal(m.Blocks, &blocks) != nil || len(blocks) == 0 {
		p.Text = mrkdwn(m.Text)
		return p
	}
	for _, b := range blocks {
		p.Blocks = append(p.Blocks, draw(b))
	}
	return p
}

func draw(b block) drawn {
	d := drawn{Type: b.Type}
	var t textObject
	if json.Unmarshal(b.Text, &t) == nil {
		d.Plain, d.HTML = t.Text, objectHTML(t)
	}
	for _, f := range b.Fields {
		d.Fields = append(d.Fields, objectHTML(f))
	}
	for _, e := range b.Elements {
		switch e.Type {
		case "button":
			var label textObject
			if json.Unmarshal(e.Text, &label) == nil {
				d.Buttons = append(d.Buttons, button{Text: label.Text, URL: e.URL, Style: e.Style})
			}
		case "mrkdwn", "plain_text":
			var text string
			if json.Unmarshal(e.Text, &text) == nil {
				d.Fields = append(d.Fields, objectHTML(textObject{Type: e.Type, Text: text}))
			}
		}
	}
	return d
}

func objectHTML(t textObject) template.HTML {
	if t.Type == "mrkdwn" {
		return mrkdwn(t.Text)
	}
	return template.HTML(template.HTMLEscapeString(t.Text))
}

// initials returns up to two letters for a picture.
func initials(name string) string {
	var out []rune
	for w := range strings.FieldsSeq(name) {
		if r := []rune(w)[0]; len(out) < 2 {
			out = append(out, r)
		}
	}
	return strings.ToUpper(string(out))
}

// Permalink returns the address of a message in the workspace.
func (s *Server) Permalink(channel, ts string) string {
	return fmt.Sprintf("%sarchives/%s/p%s", s.opts.TeamURL, channel, strings.ReplaceAll(ts, ".", ""))
}
