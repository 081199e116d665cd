package slacktest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/optiwe/callbridge/connectors/slack/slacktest"
)

func section(n int) string {
	return fmt.Sprintf(`{"type":"section","text":{"type":"mrkdwn","text":%q}}`, strings.Repeat("x", n))
}

func times(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }

// TestLimits checks each limit of Block Kit at the value that is accepted and
// the next one, which is not.
func TestLimits(t *testing.T) {
	t.Parallel()
	header := func(n int) string {
		return fmt.Sprintf(`{"type":"header","text":{"type":"plain_text","text":%q}}`, strings.Repeat("x", n))
	}
	fields := func(count, n int) string {
		return fmt.Sprintf(`{"type":"section","fields":[%s]}`, times(count, fmt.Sprintf(`{"type":"mrkdwn","text":%q}`, strings.Repeat("x", n))))
	}
	context := func(count int) string {
		return fmt.Sprintf(`{"type":"context","elements":[%s]}`, times(count, `{"type":"mrkdwn","text":"x"}`))
	}
	button := func(label, url int) string {
		return fmt.Sprintf(`{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":%q},"url":"https://x.example/%s"}]}`,
			strings.Repeat("x", label), strings.Repeat("x", url-len("https://x.example/")))
	}
	for name, tt := range map[string]struct{ good, bad, code string }{
		"blocks":        {times(50, `{"type":"divider"}`), times(51, `{"type":"divider"}`), "invalid_blocks"},
		"section":       {section(3000), section(3001), "invalid_blocks"},
		"section empty": {section(1), section(0), "invalid_blocks"},
		"fields":        {fields(10, 1), fields(11, 1), "invalid_blocks"},
		"field":         {fields(1, 2000), fields(1, 2001), "invalid_blocks"},
		"header":        {header(150), header(151), "invalid_blocks"},
		"context":       {context(10), context(11), "invalid_blocks"},
		"button":        {button(75, 100), button(76, 100), "invalid_blocks"},
		"button url":    {button(1, 3000), button(1, 3001), "invalid_blocks"},
		"all text":      {times(3, section(3000)) + "," + section(600), times(3, section(3000)) + "," + section(601), "msg_blocks_too_long"},
		"type":          {`{"type":"divider"}`, `{"type":"hologram"}`, "invalid_blocks"},
		"header type": {
			`{"type":"header","text":{"type":"plain_text","text":"x"}}`, `{"type":"header","text":{"type":"mrkdwn","text":"x"}}`, "invalid_blocks",
		},
		"block_id": {
			fmt.Sprintf(`{"type":"divider","block_id":%q}`, strings.Repeat("x", 255)), fmt.Sprintf(`{"type":"divider","block_id":%q}`, strings.Repeat("x", 256)), "invalid_blocks",
		},
		"unique":      {`{"type":"divider","block_id":"a"},{"type":"divider","block_id":"b"}`, times(2, `{"type":"divider","block_id":"a"}`), "invalid_blocks"},
		"style":       {`{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"x"},"style":"primary"}]}`, `{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"x"},"style":"loud"}]}`, "invalid_blocks"},
		"emoji":       {`{"type":"section","text":{"type":"plain_text","text":"x","emoji":true}}`, `{"type":"section","text":{"type":"mrkdwn","text":"x","emoji":true}}`, "invalid_blocks"},
		"format":      {`{"type":"divider"}`, `7`, "invalid_blocks_format"},
		"utf-16":      {fmt.Sprintf(`{"type":"header","text":{"type":"plain_text","text":%q}}`, strings.Repeat("🚀", 75)), fmt.Sprintf(`{"type":"header","text":{"type":"plain_text","text":%q}}`, strings.Repeat("🚀", 76)), "invalid_blocks"},
		"empty lists": {context(1), `{"type":"context","elements":[]}`, "invalid_blocks"},
	} {
		if code := slacktest.CheckMessage("x", "["+tt.good+"]", ""); code != "" {
			t.Errorf("%s: what is allowed is refused: %s", name, code)
		}
		if code := slacktest.CheckMessage("x", "["+tt.bad+"]", ""); code != tt.code {
			t.Errorf("%s: beyond the limit: %q, want %s", name, code, tt.code)
		}
	}
}

func TestTextAndMetadata(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, blocks, metadata, code string }{
		"nothing":          {"", "", "", "no_text"},
		"no blocks":        {"", "[]", "", "no_text"},
		"blocks alone":     {"", `[{"type":"divider"}]`, "", ""},
		"text":             {strings.Repeat("x", 40000), "", "", ""},
		"long text":        {strings.Repeat("x", 40001), "", "", "msg_too_long"},
		"metadata":         {"x", "", `{"event_type":"e","event_payload":{"a":1,"b":"c","d":true,"e":["f"],"g":{"h":1}}}`, ""},
		"metadata format":  {"x", "", `[`, "invalid_metadata_format"},
		"metadata type":    {"x", "", `{"event_payload":{}}`, "invalid_metadata_schema"},
		"metadata payload": {"x", "", `{"event_type":"e"}`, "invalid_metadata_schema"},
		"metadata depth":   {"x", "", `{"event_type":"e","event_payload":{"a":{"b":{"c":{"d":1}}}}}`, "invalid_metadata_schema"},
		"metadata null":    {"x", "", `{"event_type":"e","event_payload":{"a":null}}`, "invalid_metadata_schema"},
		"metadata size":    {"x", "", `{"event_type":"e","event_payload":{"a":"` + strings.Repeat("x", 8000) + `"}}`, "metadata_too_large"},
	} {
		if code := slacktest.CheckMessage(tt.text, tt.blocks, tt.metadata); code != tt.code {
			t.Errorf("%s: %q, want %q", name, code, tt.code)
		}
	}
}

// TestMistakesAreNamed checks that a refusal says where the mistake is, as
// Slack's does.
func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	form := text("x")
	form.Set("blocks", "["+section(1)+","+section(3001)+"]")
	_, body := call(t, ws, ws.Token(), "chat.postMessage", form)
	want(t, body, "invalid_blocks")
	raw, err := json.Marshal(body["response_metadata"])
	if err != nil || !strings.Contains(string(raw), "[json-pointer:/blocks/1/text/text]") {
		t.Errorf("the mistake is described as %s", raw)
	}
	form = text(strings.Repeat("x", 4001))
	_, posted := call(t, ws, ws.Token(), "chat.postMessage", form)
	want(t, posted, "")
	form.Set("ts", fmt.Sprint(posted["ts"]))
	_, body = call(t, ws, ws.Token(), "chat.update", form)
	want(t, body, "msg_too_long")
}

func FuzzCheckMessage(f *testing.F) {
	f.Add("x", `[{"type":"section","text":{"type":"mrkdwn","text":"x"}}]`, `{"event_type":"e","event_payload":{}}`)
	f.Add("", `[{"elements":[{"type":"button"}],"type":"actions"}]`, `[`)
	f.Fuzz(func(t *testing.T, text, blocks, metadata string) {
		if code := slacktest.CheckMessage(text, blocks, metadata); code == "" && len(text) > 4*slacktest.MaxText {
			t.Error("a text beyond the limit is accepted")
		}
	})
}
