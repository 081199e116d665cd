package salesforce_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/optiwe/callbridge/connectors/connectortest"
	"github.com/optiwe/callbridge/connectors/salesforce"
	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
)

func TestConformance(t *testing.T) {
	connectortest.Run(t, salesforce.Descriptor(), func(tb testing.TB) connectortest.Harness {
		tb.Helper()
		return harness(tb, `{"object":"Task","external_id_field":"Callbridge_Id__c"}`, salesforcetest.Options{})
	})
}

// Without an external id, what became of a creation cannot be told before as
// much time has passed as Salesforce may still be at work on it; the suite asks
// at once.
func TestConformanceWithoutExternalID(t *testing.T) {
	connectortest.Run(t, salesforce.Descriptor(), func(tb testing.TB) connectortest.Harness {
		tb.Helper()
		h := harness(tb, `{"object":"Task"}`, salesforcetest.Options{NoExternalID: true})
		h.CanReconcile = false
		return h
	})
}

// harness returns a fake org that knows the people of the suite's calls.
func harness(tb testing.TB, destination string, o salesforcetest.Options) connectortest.Harness {
	tb.Helper()
	s := salesforcetest.New(tb, o)
	s.AddUser("Dana Reyes", "cnryowner@acme.example")
	account := s.AddAccount("Northwind", "https://northwind.example")
	s.AddContact(salesforcetest.Person{First: "Priya", Last: "Shah", Email: "priya.cnryemail@northwind.example", Account: account})
	s.AddOpportunity("Northwind rollout", account, "Negotiation", "2026-12-31")
	return connectortest.Harness{
		Account:      connectortest.Account(tb, salesforce.Descriptor(), s.URL, s.AccessToken()),
		Destination:  json.RawMessage(destination),
		Inject:       func(f connectortest.Fault, n int) { s.Inject(salesforcetest.Fault(f), n) },
		Copies:       func() map[string][]connectortest.Copy { return copies(s) },
		Requests:     s.Requests,
		CanReconcile: true,
	}
}

func copies(s *salesforcetest.Server) map[string][]connectortest.Copy {
	out := map[string][]connectortest.Copy{}
	for _, r := range s.Tasks() {
		var text []string
		for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
			// Ids of records are not text that people would see.
			if !strings.HasSuffix(name, "Id") {
				text = append(text, r.Text(name))
			}
		}
		out[r.Key()] = append(out[r.Key()], connectortest.Copy{Text: strings.Join(text, "\n"), Revision: r.Writes})
	}
	return out
}
