package hub

import (
	"encoding/json"
	"time"
)

// Call is one analysed call, as its producer sent it (docs/ARCHITECTURE.md,
// "The call format"). The zero value of an optional member means that it was
// not given. A Call from [DecodeCall] is valid; treat it as read-only.
type Call struct {
	ID               CallID                     `json:"id"`
	Title            string                     `json:"title"`
	StartedAt        time.Time                  `json:"started_at"` // keeps the zone it was sent with
	DurationSeconds  int                        `json:"duration_seconds"`
	Direction        string                     `json:"direction,omitempty"`         // inbound, outbound, internal
	Medium           string                     `json:"medium,omitempty"`            // phone, video, webinar, demo, in_person
	Visibility       string                     `json:"visibility,omitempty"`        // normal, private; "" is normal
	RecordingConsent string                     `json:"recording_consent,omitempty"` // granted, denied, unknown; "" is unknown
	Language         string                     `json:"language,omitempty"`
	URL              string                     `json:"url,omitempty"`
	RecordingURL     string                     `json:"recording_url,omitempty"`
	TranscriptURL    string                     `json:"transcript_url,omitempty"`
	Owner            Person                     `json:"owner"`
	Participants     []Participant              `json:"participants,omitempty"`
	Account          *Account                   `json:"account,omitempty"`
	CRM              *CRM                       `json:"crm,omitempty"`
	Summary          string                     `json:"summary"` // Markdown, up to 50,000 characters
	KeyPoints        []string                   `json:"key_points,omitempty"`
	NextSteps        []NextStep                 `json:"next_steps,omitempty"`
	Topics           []string                   `json:"topics,omitempty"`
	Sentiment        *float64                   `json:"sentiment,omitempty"` // -1 to 1
	TalkRatio        []TalkShare                `json:"talk_ratio,omitempty"`
	Risks            []string                   `json:"risks,omitempty"`
	Competitors      []string                   `json:"competitors,omitempty"`
	Disposition      string                     `json:"disposition,omitempty"`
	Tags             []string                   `json:"tags,omitempty"`
	Custom           map[string]json.RawMessage `json:"custom,omitempty"` // strings, numbers, booleans and null
}

// Values of a call's enumerated members that code decides on.
const (
	VisibilityNormal  = "normal"
	VisibilityPrivate = "private" // never shared, whatever an integration says
	ConsentGranted    = "granted"
	ConsentDenied     = "denied" // never shared
	ConsentUnknown    = "unknown"
	SideInternal      = "internal"
	SideExternal      = "external"
)

// Person is somebody known by name and address.
type Person struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
}

// Participant is somebody who was in the call.
type Participant struct {
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	Phone   string `json:"phone,omitempty"` // E.164, such as +14155550123
	Title   string `json:"title,omitempty"`
	Company string `json:"company,omitempty"`
	Side    string `json:"side,omitempty"` // internal, external
}

// Account is the company the call was with.
type Account struct {
	Name   string `json:"name,omitempty"`
	Domain string `json:"domain,omitempty"`
}

// CRM holds ids of the CRM's own records, where the producer knows them.
type CRM struct {
	AccountID     string `json:"account_id,omitempty"`
	OpportunityID string `json:"opportunity_id,omitempty"`
}

// NextStep is something somebody said they would do.
type NextStep struct {
	Text       string `json:"text"`
	OwnerEmail string `json:"owner_email,omitempty"`
	DueOn      string `json:"due_on,omitempty"` // YYYY-MM-DD
}

// TalkShare is how much of the talking one person did.
type TalkShare struct {
	Email string  `json:"email"`
	Share float64 `json:"share"` // 0 to 1
}
