package slacktest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"unicode/utf16"
)

// checkContent refuses what Slack refuses of a message's content.
func checkContent(in args, maxText int) answer {
	text, blocks := in["text"], in["blocks"]
	if length(text) > maxText {
		return refuse("msg_too_long")
	}
	if text == "" && (blocks == "" || blocks == "[]") && in["attachments"] == "" {
		return refuse("no_text")
	}
	if blocks != "" {
		if a := checkBlocks(blocks); a.code != "" {
			return a
		}
	}
	return checkMetadata(in["metadata"])
}

// length counts as Slack does at worst: in UTF-16 units.
func length(s string) int { return len(utf16.Encode([]rune(s))) }

// textObject is a text object of Block Kit.
type textObject struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	Emoji    *bool  `json:"emoji"`
	Verbatim *bool  `json:"verbatim"`
}

// block is a block or an element of one, as far as the fake checks it.
type block struct {
	Type     string          `json:"type"`
	BlockID  string          `json:"block_id"`
	ActionID string          `json:"action_id"`
	Text     json.RawMessage `json:"text"`
	Fields   []textObject    `json:"fields"`
	Elements []block         `json:"elements"`
	Value    string          `json:"value"`
	URL      string          `json:"url"`
	Style    string          `json:"style"`
	Emoji    *bool           `json:"emoji"`
	ImageURL string          `json:"image_url"`
	AltText  string          `json:"alt_text"`
}

// checker collects what is wrong with blocks, and their text.
type checker struct {
	wrong []string
	total int
	ids   map[string]bool
}

func (c *checker) fail(pointer, format string, a ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf("[ERROR] %s [json-pointer:%s]", fmt.Sprintf(format, a...), pointer))
}

func checkBlocks(raw string) answer {
	var blocks []block
	if err := json.Unmarshal([]byte(raw), &blocks); err != nil {
		return refuse("invalid_blocks_format")
	}
	c := &checker{ids: map[string]bool{}}
	if len(blocks) > MaxBlocks {
		c.fail("", "no more than %d items allowed [input:%d]", MaxBlocks, len(blocks))
	}
	for i, b := range blocks {
		c.block(fmt.Sprintf("/blocks/%d", i), b)
	}
	if len(c.wrong) > 0 {
		return refuse("invalid_blocks", "response_metadata", map[string]any{"messages": c.wrong})
	}
	if c.total > MaxBlocksText {
		return refuse("msg_blocks_too_long")
	}
	return answer{}
}

func (c *checker) block(at string, b block) {
	if length(b.BlockID) > MaxID {
		c.fail(at+"/block_id", "must be no more than %d characters", MaxID)
	}
	if b.BlockID != "" && c.ids[b.BlockID] {
		c.fail(at+"/block_id", "block_id is not unique")
	}
	c.ids[b.BlockID] = true
	switch b.Type {
	case "header":
		c.text(at+"/text", b.Text, MaxHeaderText, "plain_text")
	case "section":
		c.section(at, b)
	case "context":
		c.elements(at, b, MaxContext, c.contextElement)
	case "actions":
		c.elements(at, b, MaxActions, c.button)
	case "divider":
	case "image":
		if b.ImageURL == "" || b.AltText == "" {
			c.fail(at, "missing required field: image_url or alt_text")
		}
	default:
		c.fail(at+"/type", "unsupported type: %s", b.Type)
	}
}

func (c *checker) section(at string, b block) {
	if b.Text == nil && len(b.Fields) == 0 {
		c.fail(at, "missing required field: text")
	}
	if b.Text != nil {
		c.text(at+"/text", b.Text, MaxSectionText, "plain_text", "mrkdwn")
	}
	if len(b.Fields) > MaxFields {
		c.fail(at+"/fields", "no more than %d items allowed", MaxFields)
	}
	for i, f := range b.Fields {
		c.object(fmt.Sprintf("%s/fields/%d", at, i), f, MaxFieldText, "plain_text", "mrkdwn")
	}
}

func (c *checker) elements(at string, b block, most int, check func(string, block)) {
	if len(b.Elements) == 0 {
		c.fail(at+"/elements", "no fewer than 1 items allowed")
	}
	if len(b.Elements) > most {
		c.fail(at+"/elements", "no more than %d items allowed", most)
	}
	for i, e := range b.Elements {
		check(fmt.Sprintf("%s/elements/%d", at, i), e)
	}
}

func (c *checker) contextElement(at string, e block) {
	switch e.Type {
	case "image":
		if e.ImageURL == "" || e.AltText == "" {
			c.fail(at, "missing required field: image_url or alt_text")
		}
	case "plain_text", "mrkdwn":
		var s string
		if json.Unmarshal(e.Text, &s) != nil {
			c.fail(at+"/text", "must be a string")
			return
		}
		c.object(at, textObject{Type: e.Type, Text: s, Emoji: e.Emoji}, MaxSectionText, "plain_text", "mrkdwn")
	default:
		c.fail(at+"/type", "unsupported type: %s", e.Type)
	}
}

func (c *checker) button(at string, e block) {
	if e.Type != "button" {
		c.fail(at+"/type", "unsupported type: %s", e.Type)
		return
	}
	c.text(at+"/text", e.Text, MaxButtonText, "plain_text")
	if length(e.Value) > MaxButtonValue {
		c.fail(at+"/value", "must be no more than %d characters", MaxButtonValue)
	}
	if length(e.ActionID) > MaxID {
		c.fail(at+"/action_id", "must be no more than %d characters", MaxID)
	}
	if e.ActionID != "" && c.ids["action:"+e.ActionID] {
		c.fail(at+"/action_id", "action_id is not unique")
	}
	c.ids["action:"+e.ActionID] = true
	if length(e.URL) > MaxURL {
		c.fail(at+"/url", "must be no more than %d characters", MaxURL)
	}
	if u, err := url.Parse(e.URL); e.URL != "" && (err != nil || u.Scheme == "" || u.Host == "") {
		c.fail(at+"/url", "must be a valid URL")
	}
	if e.Style != "" && e.Style != "primary" && e.Style != "danger" {
		c.fail(at+"/style", "must be one of primary, danger")
	}
}

func (c *checker) text(at string, raw json.RawMessage, most int, types ...string) {
	var t textObject
	if raw == nil || json.Unmarshal(raw, &t) != nil {
		c.fail(at, "must be a text object")
		return
	}
	c.object(at, t, most, types...)
}

func (c *checker) object(at string, t textObject, most int, types ...string) {
	known := false
	for _, k := range types {
		known = known || t.Type == k
	}
	n := length(t.Text)
	switch {
	case !known:
		c.fail(at+"/type", "must be one of %v", types)
	case n == 0:
		c.fail(at+"/text", "must be more than 0 characters")
	case n > most:
		c.fail(at+"/text", "must be less than %d characters", most+1)
	case t.Type == "mrkdwn" && t.Emoji != nil:
		c.fail(at+"/emoji", "cannot be set for mrkdwn")
	}
	c.total += n
}

// checkMetadata refuses metadata that is not an event with a flat payload.
func checkMetadata(raw string) answer {
	if raw == "" {
		return answer{}
	}
	if len(raw) > MaxMetadata {
		return refuse("metadata_too_large")
	}
	var meta struct {
		Type    string         `json:"event_type"`
		Payload map[string]any `json:"event_payload"`
	}
	if err := json.Unmarshal([]byte(raw), &meta); err != nil {
		return refuse("invalid_metadata_format")
	}
	if meta.Type == "" || meta.Payload == nil {
		return refuse("invalid_metadata_schema")
	}
	for _, v := range meta.Payload {
		if !flat(v, 2) {
			return refuse("invalid_metadata_schema")
		}
	}
	return answer{}
}

// flat reports whether v nests at most depth levels of objects and lists.
func flat(v any, depth int) bool {
	if v == nil {
		return false
	}
	var inner []any
	switch v := v.(type) {
	case []any:
		inner = v
	case map[string]any:
		for _, e := range v {
			inner = append(inner, e)
		}
	default:
		return true
	}
	if depth == 0 {
		return false
	}
	for _, e := range inner {
		if !flat(e, depth-1) {
			return false
		}
	}
	return true
}

// CheckMessage returns the code with which chat.postMessage would refuse the
// content of a message, or "". blocks and metadata are JSON; "" is none.
func CheckMessage(text, blocks, metadata string) string {
	return checkContent(args{"text": text, "blocks": blocks, "metadata": metadata}, MaxText).code
}
