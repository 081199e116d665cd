package slack

import (
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
)

// How long to wait where Slack says "later": without a number, and at most.
const (
	defaultRetryAfter = 30 * time.Second
	maxRetryAfter     = 24 * time.Hour
)

// maxCode bounds how much of an error code of Slack's is taken over.
const maxCode = 64

// codeError returns what Slack's error code means for the method. It is the
// one table of codes; its classes follow Slack's reference of each method.
//
// What is not listed is Rejected: Slack answered that it did not do it, and a
// person who reads the code can.
func codeError(method string, e envelope) *connectors.Error {
	code := cleanCode(e.Error)
	out := &connectors.Error{Op: method, Code: code, Class: connectors.Rejected, Reach: connectors.ReachItem}
	switch code {
	case "":
		// ok is missing or false, and no reason: not an answer of Slack's.
		out.Class, out.Code, out.Detail = unclear(method), "empty_answer", "Slack answered neither yes nor no"

	// Later.
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		out.Class, out.RetryAfter, out.Reach = connectors.RateLimited, defaultRetryAfter, limitReach(method)
		out.Detail = "Slack asks for a slower pace"

	// The work may have been done in part: "some aspect of the operation may
	// have succeeded".
	case "internal_error", "fatal_error":
		out.Class, out.Detail = unclear(method), "Slack had an internal error, and the operation may have succeeded all the same"

	// Not done, may work later.
	case "service_unavailable", "request_timeout", "team_added_to_org", "org_login_required", "external_channel_migrating":
		out.Class, out.Detail = connectors.Transient, "Slack cannot do this at the moment"
		if code == "team_added_to_org" || code == "org_login_required" {
			out.Reach, out.Detail = connectors.ReachConnection, "the workspace is being moved into an Enterprise organisation, which can take hours"
		}

	// The token.
	case "token_expired":
		out.Class, out.Reach, out.Detail = connectors.Unauthorized, connectors.ReachConnection, "the access token has expired"
	case "invalid_auth", "not_authed", "token_revoked", "account_inactive", "access_denied", "app_access_restricted",
		"two_factor_setup_required", "team_access_not_granted", "invalid_refresh_token":
		out.Class, out.Reach, out.Permanent = connectors.Unauthorized, connectors.ReachConnection, true
		out.Detail = "Slack no longer accepts this connection, most likely because the app was removed or its token revoked; connect Slack again"
	case "missing_scope", "not_allowed_token_type", "no_permission":
		out.Class, out.Reach, out.Permanent = connectors.Unauthorized, connectors.ReachConnection, true
		out.Detail = "the connection lacks a permission" + scopeList(" that it needs: ", e.Needed) + scopeList("; it has: ", e.Provided) + "; connect Slack again to grant it"

	// The copy.
	case "message_not_found":
		out.Class, out.Detail = connectors.Gone, "the message is no longer in the channel"

	// The place, the content, and refusals for good.
	default:
		if s := placeSentence(code); s != "" {
			out.Reach, out.Detail = connectors.ReachPlace, s
			break
		}
		out.Detail = contentSentence(code, e)
	}
	return out
}

// placeSentence says what is wrong with a channel, or "" if code is about
// something else.
func placeSentence(code string) string {
	switch code {
	case "channel_not_found":
		return "the channel does not exist, or it is private and the app is not in it (Slack does not tell which); check the id, or type /invite @Callbridge in the channel"
	case "not_in_channel":
		return "the app is not in the channel; type /invite @Callbridge there"
	case "is_archived", "is_inactive":
		return "the channel is archived; choose another one or unarchive it in Slack"
	case "restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel",
		"restricted_action_non_threadable_channel", "restricted_action_thread_locked":
		return "a preference of the workspace or the channel does not let the app post there; ask a Slack admin to allow it"
	case "ekm_access_denied":
		return "the workspace's key management does not give access to this channel; ask a Slack admin"
	case "messages_tab_disabled":
		return "the app's message tab is switched off, so it cannot write to people; switch it on in the app's settings"
	case "accesslimited", "channel_is_limited_access":
		return "access to the channel is limited; ask a Slack admin to let the app in"
	case "method_not_supported_for_channel_type":
		return "Slack does not support this in a conversation of that type; choose a channel"
	case "too_many_members":
		return "the channel has too many members for the app to join; ask a Slack admin to add it"
	case "user_disabled", "user_not_found", "users_not_found", "cannot_dm_bot":
		return "Slack has no active account for the call's owner"
	case "slack_connect_file_link_sharing_blocked", "slack_connect_canvas_sharing_blocked", "slack_connect_clip_sharing_blocked", "slack_connect_lists_sharing_blocked":
		return "the workspace does not let content like this into channels shared with other companies"
	}
	return ""
}

// contentSentence says why Slack refused what was asked.
func contentSentence(code string, e envelope) string {
	switch code {
	case "invalid_blocks", "invalid_blocks_format", "block_mismatch":
		return "Slack does not accept the layout of the message" + blockPointers(e)
	case "msg_too_long", "msg_blocks_too_long", "no_text", "too_many_attachments", "attachment_payload_limit_exceeded",
		"markdown_text_conflict", "too_many_contact_cards":
		return "Slack does not accept the size or form of the message"
	case "invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "metadata_must_be_sent_from_app":
		return "Slack does not accept the message's metadata"
	case "edit_window_closed", "cant_update_message", "update_failed":
		return "the workspace does not let the app edit this message any more; the earlier version stays"
	case "cant_delete_message":
		return "the app may not delete this message; a Slack admin can"
	case "compliance_exports_prevent_deletion":
		return "the workspace keeps every message for its compliance export and lets no app delete any; only the company's Slack administrators can remove it there"
	case "invalid_arguments", "invalid_arg_name", "invalid_array_arg", "invalid_charset", "invalid_form_data", "invalid_post_type", "missing_post_type":
		return "Slack did not understand the request"
	case "method_deprecated", "deprecated_endpoint", "unknown_method":
		return "Slack no longer offers this method"
	}
	return "Slack refused it; the code is explained in Slack's reference"
}

// blockPointers returns where in the blocks Slack found a mistake: the JSON pointers
// of its messages, whose texts can quote content.
func blockPointers(e envelope) string {
	var at []string
	for _, m := range e.ResponseMetadata.Messages {
		_, p, ok := strings.Cut(m, "[json-pointer:")
		p, _, closed := strings.Cut(p, "]")
		if ok && closed && len(p) <= maxCode && strings.Trim(p, "abcdefghijklmnopqrstuvwxyz_/0123456789") == "" && len(at) < 3 {
			at = append(at, p)
		}
	}
	if len(at) == 0 {
		return ""
	}
	return " (" + strings.Join(at, ", ") + ")"
}

// scopeList returns lead and the scopes in s, as far as they look like scopes.
func scopeList(lead, s string) string {
	if s == "" || len(s) > 1000 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz.:_, ") != "" {
		return ""
	}
	return lead + s
}

// cleanCode returns code if it is one of Slack's form, and "unreadable_code"
// for text that may be anything.
func cleanCode(code string) string {
	if len(code) > maxCode || strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
		return "unreadable_code"
	}
	return code
}

// acts reports whether a method changes something at Slack. The others look
// something up, and are certainly not done when they fail.
func acts(method string) bool {
	return strings.HasPrefix(method, "chat.") || method == "auth.revoke"
}

// unclear is the class of a request of which it is not known whether Slack
// worked on it.
func unclear(method string) connectors.Class {
	if acts(method) {
		return connectors.Unknown
	}
	return connectors.Transient
}

// limitReach says how far a rate limit reaches: posting is limited by channel,
// every other method by workspace.
func limitReach(method string) connectors.Reach {
	if method == methodPost {
		return connectors.ReachPlace
	}
	return connectors.ReachConnection
}
