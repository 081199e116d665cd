package salesforcetest

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
)

//go:embed pages
var pageFiles embed.FS

func pageTemplate() (*template.Template, error) {
	t, err := template.ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	return t, nil
}

// pageData is what every page shows.
type pageData struct {
	Org      string
	Used     int
	Limit    int
	Tab      string // object whose tab is current; "" is home
	Title    string
	Subtitle string
	Icon     string // object name

	Activities []activity
	Related    []relatedList
	Fields     []shownField
	Body       string // long text of a task
	Stats      []stat
}

type stat struct {
	Label string
	Value int
}

type relatedList struct {
	Title, Object string
	Items         []link
}

// link is a record, as it is shown in a list.
type link struct {
	ID, Object, Name, Detail string
}

type shownField struct {
	Label, Value string
	Link         *link
}

// activity is a task in a timeline.
type activity struct {
	Task     link
	Who      *link
	What     *link
	Owner    string
	When     string
	Duration string
	CallType string
	Result   string
	Gist     string
	Edited   bool
}

func serveStyle(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, pageFiles, "pages/style.css")
}

func (s *Server) serveHome(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	p := s.basePage("", s.o.OrgName, "Everything that has been logged, newest first")
	tasks := s.live("Task")
	for _, t := range slices.Backward(tasks) {
		if len(p.Activities) == 100 {
			break
		}
		p.Activities = append(p.Activities, s.activity(t))
	}
	for _, name := range []string{"Account", "Contact", "Lead", "Opportunity", "Task"} {
		p.Stats = append(p.Stats, stat{plural(name), len(s.live(name))})
	}
	p.Related = []relatedList{s.list("Accounts", "Account", 12), s.list("Contacts", "Contact", 12)}
	s.mu.Unlock()
	render(w, p)
}

func (s *Server) serveListPage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	o := s.d.object(r.PathValue("object"))
	if o == nil {
		s.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	count := "1 record"
	if n := len(s.live(o.name)); n != 1 {
		count = fmt.Sprintf("%d records", n)
	}
	p := s.basePage(o.name, plural(o.label), count)
	p.Related = []relatedList{s.list("All "+strings.ToLower(plural(o.label)), o.name, 500)}
	s.mu.Unlock()
	render(w, p)
}

func (s *Server) serveRecordPage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	rec := s.d.get(r.PathValue("id"))
	if rec == nil || !strings.EqualFold(rec.object.name, r.PathValue("object")) {
		s.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	p := s.recordPage(rec)
	s.mu.Unlock()
	render(w, p)
}

func (s *Server) recordPage(rec *record) *pageData {
	l := s.link(rec)
	p := s.basePage(rec.object.name, l.Name, l.Detail)
	if rec.deleted {
		p.Subtitle = "In the recycle bin"
	}
	// What people fill in comes first, what the system does last.
	own, system := []*Field{}, []*Field{}
	for _, f := range rec.object.fields {
		if strings.HasSuffix(f.Name, "Date") && f.Type == DateTime || f.Name == "Id" || f.Name == "CreatedById" {
			system = append(system, f)
			continue
		}
		own = append(own, f)
	}
	for _, f := range slices.Concat(own, system) {
		v := rec.value(s.d, f.Name)
		if v == nil || f.Name == "IsDeleted" || f.Name == "SystemModstamp" || (rec.object.name == "Task" && f.Name == "Description") {
			continue
		}
		shown := shownField{Label: f.Label, Value: show(f, v)}
		if other := s.d.reference(rec, f.Name); f.Type == Reference && other != nil {
			to := s.link(other)
			shown.Value, shown.Link = to.Name, &to
		}
		p.Fields = append(p.Fields, shown)
	}
	if rec.object.name == "Task" {
		p.Body, _ = rec.fields["Description"].(string)
		return p
	}
	for _, t := range slices.Backward(s.live("Task")) {
		if s.concerns(t, rec) {
			p.Activities = append(p.Activities, s.activity(t))
		}
	}
	if rec.object.name == "Account" {
		for _, name := range []string{"Contact", "Opportunity"} {
			p.Related = append(p.Related, s.listOf(plural(name), name, 50, func(o *record) bool { return o.fields["AccountId"] == rec.id }))
		}
	}
	return p
}

// concerns reports whether a task belongs in the timeline of rec.
func (s *Server) concerns(task, rec *record) bool {
	for _, f := range []string{"WhoId", "WhatId", "AccountId", "OwnerId"} {
		if task.value(s.d, f) == rec.id {
			return true
		}
	}
	return false
}

func (s *Server) basePage(tab, title, subtitle string) *pageData {
	return &pageData{Org: s.o.OrgName, Used: s.used, Limit: s.o.DailyLimit, Tab: tab, Title: title, Subtitle: subtitle, Icon: or(tab, "Home")}
}

// live returns the records of an object that are not deleted.
func (s *Server) live(object string) []*record {
	return slices.DeleteFunc(slices.Clone(s.d.order[strings.ToLower(object)]), func(r *record) bool { return r.deleted })
}

func (s *Server) list(title, object string, limit int) relatedList {
	return s.listOf(title, object, limit, func(*record) bool { return true })
}

func (s *Server) listOf(title, object string, limit int, keep func(*record) bool) relatedList {
	out := relatedList{Title: title, Object: object}
	for _, r := range slices.Backward(s.live(object)) {
		if len(out.Items) < limit && keep(r) {
			out.Items = append(out.Items, s.link(r))
		}
	}
	return out
}

func (s *Server) link(r *record) link {
	l := link{ID: r.id, Object: r.object.name}
	text := func(f string) string { v, _ := r.value(s.d, f).(string); return v }
	l.Name = text("Name")
	switch r.object.name {
	case "Task":
		l.Name, l.Detail = text("Subject"), text("Status")
	case "Account":
		l.Detail = text("Website")
	case "Contact":
		l.Detail = joinNonEmpty(text("Title"), s.nameOf(text("AccountId")))
	case "Lead":
		l.Detail = joinNonEmpty(text("Title"), text("Company"))
	case "Opportunity":
		l.Detail = joinNonEmpty(text("StageName"), s.nameOf(text("AccountId")))
	case "User":
		l.Detail = text("Email")
	}
	if l.Name == "" {
		l.Name = "(no name)"
	}
	return l
}

func (s *Server) nameOf(id string) string {
	if r := s.d.get(id); r != nil {
		name, _ := r.value(s.d, "Name").(string)
		return name
	}
	return ""
}

func joinNonEmpty(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " · ")
}

func (s *Server) activity(t *record) activity {
	text := func(f string) string { v, _ := t.value(s.d, f).(string); return v }
	a := activity{
		Task: s.link(t), Owner: s.nameOf(text("OwnerId")), CallType: text("CallType"), Result: text("CallDisposition"),
		When: showDate(text("ActivityDate")), Gist: firstParagraph(text("Description")), Edited: t.writes > 1,
	}
	if n, ok := t.fields["CallDurationInSeconds"].(float64); ok {
		a.Duration = showDuration(n)
	}
	if r := s.d.reference(t, "WhoId"); r != nil {
		l := s.link(r)
		a.Who = &l
	}
	if r := s.d.reference(t, "WhatId"); r != nil {
		l := s.link(r)
		a.What = &l
	}
	return a
}

func show(f *Field, v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "Yes"
		}
		return "No"
	case float64:
		if f.Name == "CallDurationInSeconds" {
			return fmt.Sprintf("%s (%.0f s)", showDuration(v), v)
		}
		return fmt.Sprintf("%g", v)
	case string:
		if f.Type == Date {
			return showDate(v)
		}
		if f.Type == DateTime {
			if t, err := time.Parse("2006-01-02T15:04:05.000-0700", v); err == nil {
				return t.Format("2 Jan 2006, 15:04:05 MST")
			}
		}
		return v
	}
	return fmt.Sprint(v)
}

func showDate(s string) string {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return s
	}
	return t.Format("2 Jan 2006")
}

func showDuration(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	if d >= time.Hour {
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	if d >= time.Minute {
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

func firstParagraph(s string) string {
	p, _, _ := strings.Cut(strings.TrimSpace(s), "\n\n")
	return p
}

func plural(s string) string {
	if stem, ok := strings.CutSuffix(s, "y"); ok {
		return stem + "ies"
	}
	return s + "s"
}

func render(w http.ResponseWriter, p *pageData) {
	t, err := pageTemplate()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "page.html", p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'self'")
	_, _ = w.Write(b.Bytes()) // the client may be gone
}
