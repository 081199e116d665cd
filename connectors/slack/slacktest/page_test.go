package slacktest

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestMrkdwn(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                         "plain",
		"*bold* _italic_ ~gone~ `code`": "<strong>bold</strong> <em>italic</em> <s>gone</s> <code>code</code>",
		"*_both_*":                      "<strong><em>both</em></strong>",
		"snake_case_name 2*3*4":         "snake_case_name 2*3*4",
		"* not bold *":                  "* not bold *",
		"a\nb":                          "a<br>b",
		"&lt;b&gt; &amp; <b>":           "&lt;b&gt; &amp; &lt;b&gt;",
		"<https://x.example/?a=1&amp;b=2|the *label*>": `<a href="https://x.example/?a=1&amp;b=2" rel="noreferrer">the <strong>label</strong></a>`,
		"<https://x.example>":                          `<a href="https://x.example" rel="noreferrer">https://x.example</a>`,
		"<javascript:alert(1)|x>":                      "&lt;javascript:alert(1)|x&gt;",
		"<@U123> <!channel>":                           `<span class="mention">@U123</span> <span class="mention">!channel</span>`,
		"&gt; quoted":                                  `<span class="quote">quoted</span>`,
		"`*code*`":                                     "<code>*code*</code>",
	} {
		if got := string(mrkdwn(in)); got != want {
			t.Errorf("mrkdwn(%q) = %s, want %s", in, got, want)
		}
	}
}

// FuzzMrkdwn checks that no HTML gets through but what mrkdwn makes.
func FuzzMrkdwn(f *testing.F) {
	f.Add(`*a* <https://x.example|<script>> &lt;script&gt; "' onload=`)
	f.Add("<https://x\"onclick=alert(1)|x>")
	known := regexp.MustCompile(`</?(strong|em|s|code|br|a|span)( (href|rel|class)="[^"<>]*")*>`)
	f.Fuzz(func(t *testing.T, in string) {
		rest := known.ReplaceAllString(string(mrkdwn(in)), "")
		if strings.ContainsAny(rest, `<>"'`) {
			t.Errorf("mrkdwn(%q) leaves %q", in, rest)
		}
	})
}

func TestPage(t *testing.T) {
	t.Parallel()
	s := New(t)
	s.Say("C0DEALS01", "U0DANA001", "Hello <script>alert(1)</script>")
	for path, wants := range map[string][]string{
		"/":                   {"#</span> deals", "Hello ", "Dana Reyes"},
		"/archives/C0SHARED1": {"People outside Acme are in this channel", "Nothing here yet"},
		"/archives/C0NOTHERE": {"#</span> deals"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s does not show %q", path, want)
			}
		}
		if strings.Contains(string(body), "<script") || strings.Contains(string(body), "//cdn") {
			t.Errorf("%s holds a script", path)
		}
	}
}
