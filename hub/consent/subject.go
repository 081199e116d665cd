package consent

import (
	"sync"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/rule"
)

// Subject is a call made ready to be decided on: what it takes to look at the
// call is done once, however many integrations there are. It may be used by
// several goroutines, as long as nobody changes the call.
type Subject struct {
	call    *hub.Call
	present bit // the fields that the call carries
	view    func() *rule.View
}

// NewSubject makes a call ready. The call must not change while the Subject is
// in use.
func NewSubject(call *hub.Call) *Subject {
	return &Subject{
		call:    call,
		present: carried(call),
		view:    sync.OnceValue(func() *rule.View { return rule.ViewOf(call) }),
	}
}

// carries reports whether the call has content for any field of the set. What
// is only for matching is no content: [carried] never says it is there.
func (c *Subject) carries(set fieldSet) bool {
	if c.present&set.bits != 0 {
		return true
	}
	for _, name := range set.custom {
		if raw, ok := c.call.Custom[name]; ok && !isNull(raw) {
			return true
		}
	}
	return false
}

func carried(call *hub.Call) bit {
	var b bit
	mark := func(f bit, there bool) {
		if there {
			b |= f
		}
	}
	mark(bitTitle, call.Title != "")
	mark(bitTime, !call.StartedAt.IsZero())
	mark(bitDirection, call.Direction != "")
	mark(bitMedium, call.Medium != "")
	mark(bitURL, call.URL != "")
	mark(bitRecordingURL, call.RecordingURL != "")
	mark(bitTranscriptURL, call.TranscriptURL != "")
	mark(bitOwner, call.Owner != hub.Person{})
	for i := range call.Participants {
		p := &call.Participants[i]
		mark(bitNames, p.Name != "")
		mark(bitEmails, p.Email != "")
		mark(bitPhones, p.Phone != "")
		mark(bitTitles, p.Title != "")
	}
	mark(bitAccount, call.Account != nil && *call.Account != hub.Account{})
	mark(bitSummary, call.Summary != "")
	mark(bitKeyPoints, len(call.KeyPoints) > 0)
	mark(bitNextSteps, len(call.NextSteps) > 0)
	mark(bitTopics, len(call.Topics) > 0)
	mark(bitSentiment, call.Sentiment != nil && finite(*call.Sentiment))
	mark(bitTalkRatio, len(call.TalkRatio) > 0)
	mark(bitRisks, len(call.Risks) > 0)
	mark(bitCompetitors, len(call.Competitors) > 0)
	mark(bitDisposition, call.Disposition != "")
	mark(bitTags, len(call.Tags) > 0)
	return b
}
