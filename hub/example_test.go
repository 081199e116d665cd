package hub_test

import (
	"fmt"

	"github.com/optiwe/callbridge/hub"
)

func ExampleDecodeCall() {
	_, problems := hub.DecodeCall([]byte(`{
		"id": "call-7", "title": "Demo", "started_at": "yesterday", "duration_seconds": 60,
		"owner": {"name": "Dana"}, "summary": "They liked it.", "mood": 0.4
	}`))
	for _, p := range problems {
		fmt.Println(p)
	}
	// Output:
	// /started_at: must be a time after RFC 3339, such as 2026-11-20T15:00:00-08:00, from 1970 to 2999
	// /owner/email: is required
	// /mood: is not a member of the call format
}
