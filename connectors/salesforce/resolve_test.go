package salesforce

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
)

// matcher is an org being filled for one case of the table below. It returns
// names instead of ids, so that a case can say what it wants.
type matcher struct {
	*bench
	names map[string]string // id → name
}

func (m matcher) name(id, as string) string {
	m.names[id] = as
	return id
}

func (m matcher) account(as, name, website string) string {
	return m.name(m.s.AddAccount(name, website), as)
}

func (m matcher) contact(as string, p salesforcetest.Person) {
	m.name(m.s.AddContact(p), as)
}

func (m matcher) lead(as string, p salesforcetest.Person) { m.name(m.s.AddLead(p), as) }

func (m matcher) deal(as, account, stage string) {
	m.name(m.s.AddOpportunity(as, account, stage, "2026-12-31"), as)
}

func (m matcher) user(as, email string) string { return m.name(m.s.AddUser(as, email), as) }

func TestMatching(t *testing.T) {
	t.Parallel()
	const priya = "priya@northwind.example"
	person := func(emailOrPhone ...string) salesforcetest.Person {
		p := salesforcetest.Person{Last: "Shah"}
		for _, s := range emailOrPhone {
			if strings.Contains(s, "@") {
				p.Email = s
			} else {
				p.Phone = s
			}
		}
		return p
	}
	of := func(p salesforcetest.Person, account string) salesforcetest.Person { p.Account = account; return p }
	guests := func(emails ...string) func(*hub.Call) {
		return func(c *hub.Call) {
			c.Participants = c.Participants[:1]
			for _, e := range emails {
				c.Participants = append(c.Participants, hub.Participant{Name: "Guest", Email: e, Side: hub.SideExternal})
			}
		}
	}
	for name, c := range map[string]struct {
		seed func(m matcher)
		call func(*hub.Call)
		want connectors.Targets
	}{
		"nobody": {
			want: nil,
		},
		"contact by e-mail": {
			seed: func(m matcher) { m.contact("priya", person(priya)) },
			want: connectors.Targets{"who_id": "priya", "who": "contact"},
		},
		"contact by e-mail in other case, with account": {
			seed: func(m matcher) { m.contact("priya", of(person("Priya@Northwind.Example"), m.account("nw", "NW", ""))) },
			want: connectors.Targets{"who_id": "priya", "who": "contact", "what_id": "nw", "what": "account"},
		},
		"contact by phone as people type it": {
			seed: func(m matcher) { m.contact("priya", person("(415) 555-0123")) },
			want: connectors.Targets{"who_id": "priya", "who": "contact"},
		},
		"contact by mobile phone": {
			seed: func(m matcher) { m.contact("priya", salesforcetest.Person{Last: "S", Mobile: "+1 415-555-0123"}) },
			want: connectors.Targets{"who_id": "priya", "who": "contact"},
		},
		"e-mail goes before phone": {
			seed: func(m matcher) { m.contact("other", person("4155550123")); m.contact("priya", person(priya)) },
			want: connectors.Targets{"who_id": "priya", "who": "contact"},
		},
		"contact goes before lead": {
			seed: func(m matcher) { m.lead("lead", person(priya)); m.contact("priya", person(priya)) },
			want: connectors.Targets{"who_id": "priya", "who": "contact"},
		},
		"lead, and so no account": {
			seed: func(m matcher) {
				m.lead("lead", person(priya))
				m.account("nw", "Northwind Traders", "northwind.example")
			},
			want: connectors.Targets{"who_id": "lead", "who": "lead"},
		},
		"converted lead is none": {
			seed: func(m matcher) {
				m.lead("lead", person(priya))
				if err := m.s.Set(m.s.Records("Lead")[0].ID, map[string]any{"IsConverted": true}); err != nil {
					m.t.Fatal(err)
				}
			},
			want: nil,
		},
		"two leads": {
			seed: func(m matcher) { m.lead("a", person(priya)); m.lead("b", person(priya)) },
			want: connectors.Targets{"who": "ambiguous"},
		},
		"two contacts": {
			seed: func(m matcher) {
				m.contact("a", person(priya))
				m.contact("b", person(priya))
				m.lead("lead", person(priya))
			},
			want: connectors.Targets{"who": "ambiguous"},
		},
		"two contacts, one of the call's domain": {
			seed: func(m matcher) {
				m.contact("a", of(person(priya), m.account("x", "X", "x.example")))
				m.contact("b", of(person(priya), m.account("nw", "NW", "https://www.northwind.example/en")))
			},
			want: connectors.Targets{"who_id": "b", "who": "contact", "what_id": "nw", "what": "account"},
		},
		"two contacts, one of the call's account by name": {
			seed: func(m matcher) {
				m.contact("a", of(person(priya), m.account("nw", "northwind traders", "")))
				m.contact("b", person(priya))
			},
			want: connectors.Targets{"who_id": "a", "who": "contact", "what_id": "nw", "what": "account"},
		},
		"two contacts of the call's account": {
			seed: func(m matcher) {
				nw := m.account("nw", "NW", "northwind.example")
				m.contact("a", of(person(priya), nw))
				m.contact("b", of(person(priya), nw))
			},
			want: connectors.Targets{"who": "ambiguous", "what_id": "nw", "what": "account"},
		},
		"the first of several people": {
			seed: func(m matcher) { m.contact("b", person("b@x.example")); m.contact("c", person("c@x.example")) },
			call: guests("a@x.example", "c@x.example", "b@x.example"),
			want: connectors.Targets{"who_id": "c", "who": "contact"},
		},
		"an ambiguous person is passed over": {
			seed: func(m matcher) {
				m.contact("a1", person("a@x.example"))
				m.contact("a2", person("a@x.example"))
				m.contact("b", person("b@x.example"))
			},
			call: guests("a@x.example", "b@x.example"),
			want: connectors.Targets{"who_id": "b", "who": "contact"},
		},
		"account by domain": {
			seed: func(m matcher) {
				m.account("not", "N", "notnorthwind.example")
				m.account("sub", "S", "shop.northwind.example")
				m.account("nw", "NW", "http://WWW.Northwind.example/contact?x")
			},
			want: connectors.Targets{"what_id": "nw", "what": "account"},
		},
		"account by name": {
			seed: func(m matcher) { m.account("nw", "NORTHWIND traders", "") },
			want: connectors.Targets{"what_id": "nw", "what": "account"},
		},
		"domain goes before name": {
			seed: func(m matcher) {
				m.account("name", "Northwind Traders", "")
				m.account("domain", "NW", "northwind.example")
			},
			want: connectors.Targets{"what_id": "domain", "what": "account"},
		},
		"two accounts of one domain, one of the name": {
			seed: func(m matcher) {
				m.account("a", "Northwind Traders", "northwind.example")
				m.account("b", "Northwind Germany", "northwind.example")
			},
			want: connectors.Targets{"what_id": "a", "what": "account"},
		},
		"two accounts": {
			seed: func(m matcher) {
				m.account("a", "A", "northwind.example")
				m.account("b", "B", "northwind.example")
			},
			want: connectors.Targets{"what": "ambiguous"},
		},
		"one open opportunity": {
			seed: func(m matcher) {
				nw := m.account("nw", "NW", "northwind.example")
				m.deal("won", nw, "Closed Won")
				m.deal("open", nw, "Proposal")
			},
			want: connectors.Targets{"what_id": "open", "what": "opportunity"},
		},
		"several open opportunities": {
			seed: func(m matcher) {
				nw := m.account("nw", "NW", "northwind.example")
				m.deal("a", nw, "Proposal")
				m.deal("b", nw, "Negotiation")
			},
			want: connectors.Targets{"what_id": "nw", "what": "several_opportunities"},
		},
		"the call names an account": {
			seed: func(m matcher) {
				m.account("nw", "NW", "northwind.example")
				m.lead("lead", person(priya))
			},
			call: func(c *hub.Call) { c.CRM = &hub.CRM{AccountID: "account:0"} },
			want: connectors.Targets{"what_id": "nw", "what": "account"},
		},
		"the call names an account in short form": {
			seed: func(m matcher) { m.deal("open", m.account("nw", "NW", "other.example"), "Proposal") },
			call: func(c *hub.Call) { c.CRM = &hub.CRM{AccountID: "short:0"} },
			want: connectors.Targets{"what_id": "open", "what": "opportunity"},
		},
		"the call names an opportunity": {
			seed: func(m matcher) { m.contact("priya", person(priya)) },
			call: func(c *hub.Call) { c.CRM = &hub.CRM{OpportunityID: "006000000000001AAA"} },
			want: connectors.Targets{"who_id": "priya", "who": "contact", "what_id": "006000000000001AAA", "what": "opportunity"},
		},
		"ids that are none": {
			call: func(c *hub.Call) { c.CRM = &hub.CRM{AccountID: "' OR Name != '", OpportunityID: "001000000000001AAA"} },
			want: nil,
		},
		"owner": {
			seed: func(m matcher) { m.user("dana", "DANA@acme.example") },
			want: connectors.Targets{"owner_id": "dana", "owner": "user"},
		},
		"inactive owner": {
			seed: func(m matcher) { m.s.Deactivate(m.user("dana", "dana@acme.example")) },
			want: connectors.Targets{"owner": "inactive"},
		},
		"inactive and active owner": {
			seed: func(m matcher) {
				m.s.Deactivate(m.user("old", "dana@acme.example"))
				m.user("new", "dana@acme.example")
			},
			want: connectors.Targets{"owner_id": "new", "owner": "user"},
		},
		"two owners": {
			seed: func(m matcher) { m.user("a", "dana@acme.example"); m.user("b", "dana@acme.example") },
			want: connectors.Targets{"owner": "ambiguous"},
		},
		"leads cannot be seen": {
			seed: func(m matcher) { m.s.RemoveField("Lead", "IsConverted") },
			want: connectors.Targets{"hidden": "lead"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			m := matcher{b, map[string]string{}}
			if c.seed != nil {
				c.seed(m)
			}
			call := discovery()
			if c.call != nil {
				c.call(&call)
			}
			if call.CRM != nil && strings.HasSuffix(call.CRM.AccountID, ":0") {
				id := b.s.Records("Account")[0].ID
				if strings.HasPrefix(call.CRM.AccountID, "short") {
					id = id[:15]
				}
				call.CRM.AccountID = id
			}
			fields := []consent.Field{consent.FieldSummary, consent.FieldMatchingEmails, consent.FieldMatchingPhones, consent.FieldAccount, consent.FieldOwner}
			if c.want["owner"] == "" { // an owner who is not found would be in every case
				fields = fields[:4]
			}
			item := b.share(1, call, withID, fields...)
			for _, temperature := range []string{"cold", "warm"} {
				found, err := b.c.Resolve(t.Context(), b.a, []connectors.Item{item})
				if err != nil {
					t.Fatal(err)
				}
				got := found[0]
				for k, v := range got {
					if as, ok := m.names[v]; ok {
						got[k] = as
					}
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s: targets (-want +got):\n%s", temperature, diff)
				}
			}
		})
	}
}

// Nothing is looked up that is not released for it.
func TestNothingReleasedNothingLookedUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	item := b.share(1, discovery(), withID, consent.FieldSummary, consent.FieldTitle)
	found, err := b.c.Resolve(t.Context(), b.a, []connectors.Item{item})
	if err != nil || found[0] != nil || b.s.Requests() != 0 {
		t.Errorf("targets %v, %v, with %d requests", found[0], err, b.s.Requests())
	}
	if got := b.c.LookUps(item); len(got) != 0 {
		t.Errorf("LookUps = %v", got)
	}
	all := b.c.LookUps(b.share(1, discovery(), withID))
	if len(all) != 6 || slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, "northwind") }) {
		t.Errorf("LookUps = %v", all)
	}
}

func TestHostOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://www.Example.com/en?x#y": "example.com", "example.com": "example.com", "http://example.com:8080": "example.com",
		" EXAMPLE.com. ": "example.com", "shop.example.com": "shop.example.com",
		"": "", "n/a": "", "localhost": "", "https://": "", "exa mple.com": "", "%_.com": "", "example.com'": "",
	} {
		if got := hostOf(in); got != want {
			t.Errorf("hostOf(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPhones(t *testing.T) {
	t.Parallel()
	for number, typed := range map[string][]string{
		"+14155550123":  {"(415) 555-0123", "415-555-0123", "415.555.0123", "4155550123", "+1 (415) 555-0123", "+14155550123", "14155550123"},
		"+34911223344":  {"+34911223344", "34911223344", "0034911223344"},
		"+442079460123": {"+442079460123"},
	} {
		forms := phoneForms(number)
		for _, s := range typed {
			if !slices.Contains(forms, s) {
				t.Errorf("%s is not looked for as %q", number, s)
			}
			if !slices.Contains(phoneDigits(number), digits(s)) {
				t.Errorf("%q is not known as %s", s, number)
			}
		}
	}
	for _, s := range []string{"", "+", "123", "abc"} {
		if len(phoneForms(s)) != 0 || len(phoneDigits(s)) != 0 {
			t.Errorf("%q is taken for a number", s)
		}
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	var keys []string
	for range 1000 {
		keys = append(keys, strings.Repeat("x", 30))
	}
	parts := chunks(keys, costOfLiteral)
	if got := slices.Concat(parts...); len(got) != len(keys) || len(parts) < 3 {
		t.Errorf("%d keys in %d parts became %d", len(keys), len(parts), len(got))
	}
	for _, p := range parts {
		cost := 0
		for _, k := range p {
			cost += costOfLiteral(k)
		}
		if cost > maxQuery {
			t.Errorf("a part costs %d", cost)
		}
	}
	if got := chunks([]string{strings.Repeat("x", 2*maxQuery)}, costOfLiteral); len(got) != 1 {
		t.Errorf("an overlong key became %d parts", len(got))
	}
	if got := chunks(nil, costOfLiteral); got != nil {
		t.Errorf("no keys became %v", got)
	}
}

// FuzzLiteral checks the escaping against the fake's parser: whatever text is
// looked for, it is a literal, and means exactly that text.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"O'Brien", `\`, `\'`, `' OR Name != '`, "a\nb\r\t\b\f", `\u0041`, "%_\\%", "日本 👩🏽‍🚀", "\x00\x1f\x7f", `"`, "') LIMIT 1 --"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := salesforcetest.ParseLiteral(literal(text))
		// Go's range over a string reads each byte that is not UTF-8 as U+FFFD.
		if want := string([]rune(text)); err != nil || got != want {
			t.Errorf("literal(%q) = %s, which is %q (%v)", text, literal(text), got, err)
		}
	})
}
