package slack

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGist(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in, want string
		cut      bool
	}{
		"plain":              {"They met.", "They met.", false},
		"soft line breaks":   {"They\nmet.", "They met.", false},
		"paragraphs":         {"One.\n\nTwo.", "One.\nTwo.", false},
		"heading first":      {"# Overview\n\nText.", "Text.", false},
		"heading alone":      {"# Overview", "*Overview*", false},
		"heading within":     {"Text.\n## Next\nMore.", "Text.\n*Next*\nMore.", false},
		"heading last":       {"Text.\n## Next", "Text.", true},
		"headings":           {"Text.\n# A\n## B\nMore.", "Text.\n*B*\nMore.", false},
		"underlined heading": {"Text.\n\nNext\n----\nMore.", "Text.\n*Next*\nMore.", false},
		"rule":               {"One.\n\n---\n\nTwo.", "One.\nTwo.", false},
		"bullets":            {"- a\n* b\n+ c", "• a\n• b\n• c", false},
		"numbers":            {"1. a\n2) b", "1. a\n2. b", false},
		"tasks":              {"- [ ] a\n- [x] b", "☐ a\n☑ b", false},
		"quote":              {"> said", "&gt; said", false},
		"table":              {"| a | b |\n|---|---|\n| 1 | 2 |", "a · b\n1 · 2", false},
		"fence":              {"```go\n*a* <b>\n```", "∗a∗ &lt;b&gt;", false},
		"bold":               {"a **b** __c__", "a *b* *c*", false},
		"italic":             {"a *b* _c_", "a _b_ _c_", false},
		"both":               {"a ***b***", "a *_b_*", false},
		"nested":             {"**a _b_ c**", "*a* *_b_* *c*", false},
		"strike":             {"~~a~~ ~b~", "~a~ ∼b∼", false},
		"code":               {"`a*b` ``c`d``", "`a∗b` `cˋd`", false},
		"within a word":      {"a**b**c snake_case_name 2*3*4", "abc snake_case_name 234", false},
		"link":               {"see [the *plan*](https://x.example/p?a=1&b=2 \"T\")", "see <https://x.example/p?a=1&amp;b=2|the ><https://x.example/p?a=1&amp;b=2|_plan_>", false},
		"link elsewhere":     {"[x](javascript:alert(1)) [y](/rel) [z](mailto:a@b.example)", "x) y z", false},
		"link injection":     {"[x](https://x.example/a|b>c)", "<https://x.example/a%7Cb%3Ec|x>", false},
		"autolink":           {"<https://x.example> <b>", "<https://x.example|https://x.example> &lt;b&gt;", false},
		"image":              {"![alt](https://x.example/i.png)", "<https://x.example/i.png|alt>", false},
		"mentions":           {"<!channel> <@U1> <#C1|x> @here", "&lt;!channel&gt; &lt;@U1&gt; &lt;#C1|x&gt; @here", false},
		"escapes":            {`\*a\* \<b\> \\`, `∗a∗ &lt;b&gt; \`, false},
		"lines":              {"a\n\nb\n\nc\n\nd\n\ne", "a\nb\nc\nd", true},
		"empty":              {"", "", false},
		"blank":              {" \n\n\t", "", false},
		"directions":         {"a\u202eb\u2066c", "abc", false},
	} {
		got, cut := gist(tt.in, gistLines)
		if got != tt.want || cut != tt.cut {
			t.Errorf("%s: gist(%q) = %q, %v, want %q, %v", name, tt.in, got, cut, tt.want, tt.cut)
		}
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"short", 5, "short"},
		{"一つ目の文です。二つ目の文が続きます。", 14, "一つ目の文です。 …"},
		{"One sentence here. Another one follows it.", 30, "One sentence here. …"},
		{"no sentence ends in this long text", 20, "no sentence ends…"},
		{"oneverylongwordwithoutspaces", 12, "oneverylon…"},
		{"a&b&c", 13, "a&b&c"},
		{"a&b&c", 12, "a&b…"},
		{"🚀🚀🚀🚀", 7, "🚀🚀…"},
		{"abcdefghi👩🏽‍🚀jklmnop", 14, "abcdefghi…"},
	} {
		got, cut := shorten(tt.in, tt.limit)
		if got != tt.want || cut != (got != tt.in) {
			t.Errorf("shorten(%q, %d) = %q, %v, want %q", tt.in, tt.limit, got, cut, tt.want)
		}
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"snake_case":    "snake_case",
		"5 * 3":         "5 * 3",
		"*b* _i_":       "∗b∗ ˍiˍ",
		"`c` ~s~":       "ˋcˋ ∼s∼",
		"> quote > no":  "＞ quote &gt; no",
		"<!here> & <b>": "&lt;!here&gt; &amp; &lt;b&gt;",
	} {
		if got := data(in); got != want {
			t.Errorf("data(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWebURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://x.example/a":            "https://x.example/a",
		" http://x.example ":             "http://x.example",
		"https://x.example/a|b":          "https://x.example/a%7Cb",
		"https://x.example/a b":          "https://x.example/a%20b",
		"https://user:pw@x.example":      "",
		"javascript:alert(1)":            "",
		"//x.example":                    "",
		"https://":                       "",
		"https://x.example/\x01":         "",
		"https://x.example/?q=\u202eabc": "",
	} {
		if got := webURL(in); got != want {
			t.Errorf("webURL(%q) = %q, want %q", in, got, want)
		}
	}
}

var markup = regexp.MustCompile(`<https?://[^<>| ]+\|[^<>]*>`)

// FuzzGist checks that whatever the Markdown, what comes out has no markup of
// Slack's but web links, is escaped and keeps its limit.
func FuzzGist(f *testing.F) {
	for _, s := range []string{
		"**a** _b_ `c` [d](https://x.example) <!channel> <@U1>", "# h\n- a\n> q", "[a](https://x.example/|>)", "***a** b*",
		"```\n<a>\n```", "\\<\\!here>", "[[a](https://x.example)](https://y.example)", "![a](https://x.example)", "<https://x.example|<!here>>",
	} {
		f.Add(s, 4)
	}
	f.Fuzz(func(t *testing.T, in string, lines int) {
		if lines < 1 || lines > 20 || len(in) > 20_000 {
			return
		}
		out, _ := gist(in, lines)
		if n := units(out); n > lines*lineWidth {
			t.Errorf("%d units in %d lines", n, lines)
		}
		if !utf8.ValidString(out) {
			t.Error("broken UTF-8")
		}
		rest := markup.ReplaceAllStringFunc(out, func(s string) string {
			_, label, _ := strings.Cut(s, "|")
			return strings.TrimSuffix(label, ">")
		})
		if strings.ContainsAny(rest, "<>") {
			t.Errorf("gist(%q) = %q leaves %q", in, out, rest)
		}
		rest = strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(rest)
		if strings.Contains(rest, "&") {
			t.Errorf("gist(%q) = %q has an unescaped &", in, out)
		}
	})
}
