package webhooktest

import (
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
)

// pageLength is how many requests the page shows.
const pageLength = 100

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Webhook receiver</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1d2129;background:#f7f8fa}
article{background:#fff;border:1px solid #dfe3e8;border-radius:8px;padding:.8rem 1rem;margin:.8rem 0}
header{display:flex;gap:1rem;flex-wrap:wrap;align-items:baseline}
b{font-weight:600}.ok{color:#0a6b3d}.no{color:#a3261c}small{color:#5b6470}
pre{overflow:auto;max-height:20rem;font-size:13px;margin:.5rem 0 0}
</style></head><body>
<h1>Webhook receiver</h1>
<p>{{.Counts.Requests}} requests, {{.Counts.Handled}} handled, {{.Counts.Duplicates}} repeated, {{.Counts.Refused}} refused. {{len .Copies}} calls are here.</p>
{{range .Deliveries}}<article>
<header><b>{{or .Type "unreadable"}}</b> <span class="{{if lt .Status 300}}ok{{else}}no{{end}}">{{.Status}}{{if .Duplicate}}, handled before{{end}}</span>
<small>{{.At.Format "15:04:05"}}</small> <small>{{.ID}}</small></header>
<pre>{{.Pretty}}</pre></article>
{{else}}<p>Nothing has arrived yet.</p>{{end}}
</body></html>
`))

// page shows the latest requests, newest first.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	type shown struct {
		Delivery
		Pretty string
	}
	var list []shown
	all := s.Deliveries()
	for _, d := range slices.Backward(all[max(len(all)-pageLength, 0):]) {
		var v any
		pretty := d.Body
		if json.Unmarshal(d.Body, &v) == nil {
			if b, err := json.MarshalIndent(v, "", "  "); err == nil {
				pretty = b
			}
		}
		list = append(list, shown{d, string(pretty)})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = pageTemplate.Execute(w, map[string]any{"Counts": s.Counts(), "Copies": s.Copies(), "Deliveries": list})
}
