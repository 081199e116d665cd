package salesforce

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/connectortest"
	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

func TestShareArrivesLinked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	user := b.s.AddUser("Dana Reyes", "Dana@acme.example")
	account := b.s.AddAccount("Northwind Traders", "www.northwind.example")
	contact := b.s.AddContact(salesforcetest.Person{First: "Priya", Last: "Shah", Email: "PRIYA@northwind.example", Account: account})
	deal := b.s.AddOpportunity("Rollout", account, "Negotiation", "2026-12-31")
	b.s.AddOpportunity("Old", account, "Closed Won", "2025-12-31")

	item := b.push(b.share(1, discovery(), withID))[0]

	got := b.task(item)
	for field, want := range map[string]any{
		"Subject": "Discovery with Northwind Traders", "Status": "Completed", "TaskSubtype": "Call",
		"CallType": "Outbound", "CallDurationInSeconds": 1860.0, "CallDisposition": "Connected",
		"ActivityDate": "2026-11-20", // 06:30 on the 21st in UTC
		"WhoId":        contact, "WhatId": deal, "OwnerId": user, "Callbridge_Id__c": item.Key, "CallObject": item.Key,
	} {
		if got.Fields[field] != want {
			t.Errorf("%s = %v, want %v", field, got.Fields[field], want)
		}
	}
	want := connectors.Receipt{"id": got.ID, "url": b.s.URL + "/lightning/r/Task/" + got.ID + "/view"}
	if diff := cmp.Diff(want, item.Receipt); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
}

// However often it is pushed, there is one record: by upsert, or found by its
// key.
func TestPushTwiceMakesOneRecord(t *testing.T) {
	t.Parallel()
	for name, destination := range map[string]string{"external id": withID, "no external id": withoutID} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			item := b.push(b.share(1, discovery(), destination))[0]
			first := item.Receipt
			item.Receipt = nil
			again := b.push(item)[0]
			b.task(item)
			if diff := cmp.Diff(first, again.Receipt); diff != "" {
				t.Errorf("the receipt changed (-first +again):\n%s", diff)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	for name, destination := range map[string]string{"external id": withID, "no external id": withoutID} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			item := b.push(b.share(1, discovery(), destination))[0]
			if err := b.s.Set(item.Receipt["id"], map[string]any{"Priority": "High"}); err != nil {
				t.Fatal(err)
			}
			call := discovery()
			call.Title, call.Disposition = "Corrected", ""
			up := b.update(item, call)
			for what, receipt := range map[string]connectors.Receipt{"by receipt": item.Receipt, "by key": nil} {
				up.Receipt = receipt
				out := b.c.Update(t.Context(), b.a, []connectors.Item{up})[0]
				b.want(out, connectors.Delivered)
				got := b.task(item)
				if got.Text("Subject") != "Corrected" || got.Fields["CallDisposition"] != nil || got.Text("Priority") != "High" || got.ID != out.Receipt["id"] {
					t.Errorf("%s: the task is %v", what, got.Fields)
				}
			}
		})
	}
}

// A record that the customer deleted is never made again by a correction; one
// that Salesforce archived is still found.
func TestUpdateOfDeletedAndArchived(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*salesforcetest.Server, string)
		keep   bool // the receipt
		want   connectors.Class
	}{
		"deleted":                 {(*salesforcetest.Server).Delete, true, connectors.Gone},
		"purged":                  {(*salesforcetest.Server).Purge, true, connectors.Gone},
		"deleted, receipt lost":   {(*salesforcetest.Server).Delete, false, connectors.Gone},
		"archived":                {(*salesforcetest.Server).Archive, true, connectors.Delivered},
		"archived, receipt lost":  {(*salesforcetest.Server).Archive, false, connectors.Delivered},
		"untouched, receipt lost": {func(*salesforcetest.Server, string) {}, false, connectors.Delivered},
	} {
		for _, destination := range []string{withID, withoutID} {
			t.Run(name+" "+destination, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				b.s.AddContact(salesforcetest.Person{Last: "Shah", Email: "priya@northwind.example"})
				item := b.push(b.share(1, discovery(), destination))[0]
				c.change(b.s, item.Receipt["id"])
				up := b.update(item, discovery())
				if !c.keep {
					up.Receipt = nil
				}
				before := len(b.s.Records("Task"))
				b.want(b.c.Update(t.Context(), b.a, []connectors.Item{up})[0], c.want)
				if after := len(b.s.Records("Task")); after != before {
					t.Errorf("%d tasks, want %d", after, before)
				}
			})
		}
	}
}

// An archived task is not found by an upsert; by its receipt it is.
func TestPushWithReceiptOfArchived(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	item := b.push(b.share(1, discovery(), withID))[0]
	b.s.Archive(item.Receipt["id"])
	b.push(item)
	if got := b.task(item); got.Writes != 2 {
		t.Errorf("the task was written %d times, want 2", got.Writes)
	}
}

// Every result of a collections call is read for itself.
func TestEveryRow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	refusals := map[string]*salesforcetest.RowError{
		"lock":     {Code: "UNABLE_TO_LOCK_ROW", Message: "unable to obtain exclusive access"},
		"rule":     {Code: "FIELD_CUSTOM_VALIDATION_EXCEPTION", Message: "no: rule", Fields: []string{"Subject"}},
		"strange":  {Code: "A_CODE_OF_TOMORROW", Message: "?"},
		"required": {Code: "REQUIRED_FIELD_MISSING", Message: "Required fields are missing: [X__c]", Fields: []string{"X__c"}},
		"storage":  {Code: "STORAGE_LIMIT_EXCEEDED", Message: "storage limit exceeded"},
		"trigger":  {Code: "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", Message: "MyTrigger: boom"},
	}
	b.s.OnWrite(func(_ string, fields map[string]any) *salesforcetest.RowError {
		subject, _ := fields["Subject"].(string)
		return refusals[subject]
	})
	titles := []string{"fine 1", "lock", "rule", "fine 2", "strange", "required", "storage", "trigger", "fine 3"}
	want := []connectors.Class{
		connectors.Delivered, connectors.Transient, connectors.Rejected, connectors.Delivered, connectors.Transient,
		connectors.Rejected, connectors.RateLimited, connectors.Rejected, connectors.Delivered,
	}
	items := make([]connectors.Item, len(titles))
	for i, title := range titles {
		call := discovery()
		call.Title = title
		items[i] = b.share(i, call, withID)
	}
	outs := b.c.Push(t.Context(), b.a, b.prepare(items...))
	for i, out := range outs {
		if out.Class != want[i] {
			t.Errorf("%s = %v (%v), want %v", titles[i], out.Class, out.Err, want[i])
		}
		if out.Err != nil && strings.Contains(out.Err.Error(), "boom") {
			t.Errorf("%s: Salesforce's own words are in the error: %v", titles[i], out.Err)
		}
	}
	if got := outs[2].Err.Error(); !strings.Contains(got, "(Subject)") {
		t.Errorf("the error does not name the field: %q", got)
	}
}

func TestLinkRefusedIsDropped(t *testing.T) {
	t.Parallel()
	const missing = "003000000000001AAA"
	for name, c := range map[string]struct {
		spoil func(*bench, *connectors.Item)
		lost  []string
	}{
		"contact gone":              {func(_ *bench, it *connectors.Item) { it.Targets["who_id"] = missing }, []string{"WhoId", "WhatId"}},
		"opportunity gone":          {func(_ *bench, it *connectors.Item) { it.Targets["what_id"] = "006000000000001AAA" }, []string{"WhoId", "WhatId"}},
		"owner went inactive since": {func(b *bench, it *connectors.Item) { b.s.Deactivate(it.Targets["owner_id"]) }, []string{"OwnerId"}},
		"contact and owner": {func(b *bench, it *connectors.Item) {
			it.Targets["who_id"] = missing
			b.s.OnWrite(func(_ string, f map[string]any) *salesforcetest.RowError {
				if f["OwnerId"] != b.s.UserID() && f["WhoId"] == nil {
					return &salesforcetest.RowError{Code: "INACTIVE_OWNER_OR_USER"}
				}
				return nil
			})
		}, nil},
		"lead made of contact": {func(b *bench, it *connectors.Item) {
			it.Targets["who_id"] = b.s.AddLead(salesforcetest.Person{Last: "Shah"})
			var record map[string]any
			if err := json.Unmarshal(it.Payload.Body, &record); err != nil {
				b.t.Fatal(err)
			}
			record["WhoId"] = it.Targets["who_id"]
			body, err := canonical(record)
			if err != nil {
				b.t.Fatal(err)
			}
			it.Payload.Body = body
		}, []string{"WhatId"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.s.AddUser("Dana", "dana@acme.example")
			account := b.s.AddAccount("Northwind Traders", "northwind.example")
			b.s.AddContact(salesforcetest.Person{Last: "Shah", Email: "priya@northwind.example", Account: account})
			items := b.prepare(b.share(1, discovery(), withID), b.share(2, discovery(), withID))
			before := items[0].Targets["who_id"]
			c.spoil(b, &items[0])
			if items[0].Targets["who_id"] == before || name == "contact gone" || name == "opportunity gone" || name == "contact and owner" {
				var err error
				if items[0].Payload, err = b.c.Render(items[0]); err != nil {
					t.Fatal(err)
				}
			}
			calls := b.s.Requests()
			out := b.c.Push(t.Context(), b.a, items)
			if c.lost == nil { // what is refused a second time is refused
				b.want(out[0], connectors.Rejected)
				return
			}
			b.want(out[0], connectors.Delivered)
			b.want(out[1], connectors.Delivered)
			var lost []string
			for _, l := range out[0].Losses {
				lost = append(lost, l.Field)
			}
			if diff := cmp.Diff(c.lost, lost); diff != "" {
				t.Errorf("losses (-want +got):\n%s", diff)
			}
			want := 2
			if name == "owner went inactive since" { // then it is so for both
				if len(out[1].Losses) != 1 {
					t.Errorf("losses of the second: %v", out[1].Losses)
				}
			} else if len(out[1].Losses) != 0 {
				t.Errorf("losses of the second: %v", out[1].Losses)
			}
			if n := b.s.Requests() - calls; n != want {
				t.Errorf("%d calls, want %d", n, want)
			}
		})
	}
}

// A custom field that the org no longer has costs that field, not the batch.
func TestMissingColumn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.s.AddField("Task", salesforcetest.Field{Name: "Region__c", Type: salesforcetest.Text, Length: 20})
	items := []connectors.Item{b.share(1, discovery(), withID), b.share(2, discovery(), withID)}
	items[0].Overrides = map[string]any{"Region__c": "EMEA", "Nowhere__c": "x", "Lost__c": 7}
	items = b.prepare(items...)
	out := b.c.Push(t.Context(), b.a, items)
	b.want(out[0], connectors.Delivered)
	b.want(out[1], connectors.Delivered)
	if len(out[0].Losses) != 2 || len(out[1].Losses) != 0 {
		t.Errorf("losses: %v and %v", out[0].Losses, out[1].Losses)
	}
	if got := b.task(items[0]).Text("Region__c"); got != "EMEA" {
		t.Errorf("Region__c = %q", got)
	}
}

func TestRefusedValueOfOptionalField(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.s.AddField("Task", salesforcetest.Field{Name: "Region__c", Type: salesforcetest.Picklist, Restricted: true, Values: []string{"EMEA"}})
	b.s.AddField("Task", salesforcetest.Field{Name: "Short__c", Type: salesforcetest.Text, Length: 3})
	item := b.share(1, discovery(), withID)
	item.Overrides = map[string]any{"Region__c": "Moon"}
	other := b.share(2, discovery(), withID)
	other.Overrides = map[string]any{"Short__c": "too long"}
	out := b.c.Push(t.Context(), b.a, b.prepare(item, other))
	for i, field := range []string{"Region__c", "Short__c"} {
		b.want(out[i], connectors.Delivered)
		want := []mappings.Loss{{Field: field, Kind: mappings.Dropped, Detail: lostValue}}
		if diff := cmp.Diff(want, out[i].Losses); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
	}
}

func TestMissingExternalIDRejectsTheBatch(t *testing.T) {
	t.Parallel()
	b := newBench(t, salesforcetest.Options{NoExternalID: true})
	out := b.c.Push(t.Context(), b.a, b.prepare(b.share(1, discovery(), withID), b.share(2, discovery(), withoutID)))
	b.want(out[0], connectors.Rejected)
	b.want(out[1], connectors.Delivered)
}

// The payload decides what is sent; one that names another record is not.
func TestForeignPayloadIsNotSent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	victim := b.push(b.share(9, discovery(), withID))[0]
	for name, body := range map[string]string{
		"another key":   strings.ReplaceAll(string(victim.Payload.Body), keyOf(9), keyOf(8)),
		"an id":         `{"CallObject":"` + keyOf(1) + `","Callbridge_Id__c":"` + keyOf(1) + `","Id":"` + victim.Receipt["id"] + `"}`,
		"a type":        `{"CallObject":"` + keyOf(1) + `","Callbridge_Id__c":"` + keyOf(1) + `","attributes":{"type":"User"}}`,
		"no key":        `{}`,
		"not an object": `[]`,
		"nothing":       ``,
	} {
		item := b.share(1, discovery(), withID)
		item.Payload.Body = json.RawMessage(body)
		calls := b.s.Requests()
		b.want(b.c.Push(t.Context(), b.a, []connectors.Item{item})[0], connectors.Rejected)
		if n := b.s.Requests() - calls; n != 0 {
			t.Errorf("%s: %d calls", name, n)
		}
	}
}

// What "150 calls in a batch cost at most 30 Salesforce calls" and "1,000 cost
// at most 20, cold" come down to.
func TestCallCounts(t *testing.T) {
	t.Parallel()
	seed := func(b *bench, n int) []connectors.Item {
		for i := range 5 {
			b.s.AddUser(fmt.Sprintf("Rep %d", i), fmt.Sprintf("rep%d@acme.example", i))
		}
		items := make([]connectors.Item, n)
		for i := range items {
			call := discovery()
			call.Owner.Email = fmt.Sprintf("rep%d@acme.example", i%5)
			company := fmt.Sprintf("company%d.example", i/3)
			call.Account = &hub.Account{Name: fmt.Sprintf("Company %d", i/3), Domain: company}
			call.Participants[1].Email = fmt.Sprintf("person%d@%s", i, company)
			call.Participants[1].Phone = ""
			if i%3 == 0 {
				account := b.s.AddAccount(call.Account.Name, "https://"+company)
				b.s.AddOpportunity("Deal", account, "Prospecting", "2026-12-31")
			}
			b.s.AddContact(salesforcetest.Person{Last: fmt.Sprintf("Person %d", i), Email: call.Participants[1].Email, Account: b.lastAccount()})
			items[i] = b.share(i+1, call, withID)
		}
		b.s.ResetLog()
		return items
	}
	run := func(b *bench, items []connectors.Item) int {
		for len(items) > 0 {
			n := min(len(items), maxRows)
			b.push(items[:n]...)
			items = items[n:]
		}
		return b.s.Requests()
	}
	t.Run("150", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		items := seed(b, 150)
		if got := run(b, items); got > 6 {
			t.Errorf("150 calls cost %d Salesforce calls: %v", got, b.s.Calls())
		}
		for _, r := range b.s.Tasks() {
			if r.Text("WhoId") == "" || !strings.HasPrefix(r.Text("WhatId"), "006") {
				t.Fatalf("a task is not linked: %v", r.Fields)
			}
		}
		b.s.ResetLog()
		if got := run(b, items); got != 1 {
			t.Errorf("with receipts and a warm cache 150 calls cost %d Salesforce calls: %v", got, b.s.Calls())
		}
	})
	t.Run("150 with phones, nobody known", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		items := seed(b, 150)
		for i := range items {
			call := discovery()
			call.Participants[1].Email = fmt.Sprintf("stranger%d@elsewhere%d.example", i, i)
			call.Participants[1].Phone = fmt.Sprintf("+1415555%04d", i)
			call.Account = &hub.Account{Name: fmt.Sprintf("Stranger and Sons %d", i), Domain: fmt.Sprintf("elsewhere%d.example", i)}
			items[i] = b.share(i+1, call, withID)
		}
		if got := run(b, items); got > 30 {
			t.Errorf("150 calls cost %d Salesforce calls: %v", got, b.s.Calls())
		}
	})
	t.Run("1000", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		items := seed(b, 1000)
		if got := run(b, items); got > 20 {
			t.Errorf("1,000 calls cost %d Salesforce calls: %v", got, b.s.Calls())
		}
		if got := len(b.s.Tasks()); got != 1000 {
			t.Errorf("%d tasks", got)
		}
	})
}

func (b *bench) lastAccount() string {
	all := b.s.Records("Account")
	return all[len(all)-1].ID
}

func TestErase(t *testing.T) {
	t.Parallel()
	for name, destination := range map[string]string{"external id": withID, "no external id": withoutID} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.s.AddField("Task", salesforcetest.Field{Name: "Region__c", Type: salesforcetest.Text, Length: 80})
			first, second := b.share(1, discovery(), destination), b.share(2, discovery(), destination)
			first.Overrides = map[string]any{"Region__c": "EMEA"}
			items := b.push(first, second, b.share(3, discovery(), destination))
			b.s.Purge(items[1].Receipt["id"])
			b.s.ResetLog()
			erasures := make([]connectors.Item, 4)
			for i := range erasures {
				erasures[i] = connectors.Item{Key: keyOf(i + 1), Kind: hub.KindErase, Destination: json.RawMessage(destination), Overrides: first.Overrides}
			}
			erasures[0].Receipt, erasures[1].Receipt = items[0].Receipt, items[1].Receipt
			// The third has lost its receipt, the fourth was never there.
			for i, out := range b.c.Erase(t.Context(), b.a, erasures) {
				if out.Class != connectors.Delivered {
					t.Errorf("item %d: %v (%v)", i, out.Class, out.Err)
				}
			}
			if left := b.s.Tasks(); len(left) != 0 {
				t.Errorf("%d tasks are left", len(left))
			}
			if n := b.s.Requests(); n > 4 {
				t.Errorf("the erasure cost %d calls, want 4", n)
			}
			bin, _ := b.s.Record(items[0].Receipt["id"])
			for _, field := range []string{"Description", "CallDisposition", "WhoId", "WhatId", "Region__c"} {
				if bin.Fields[field] != nil {
					t.Errorf("the recycle bin still has %s", field)
				}
			}
			if bin.Text("Subject") != erasedSubject {
				t.Errorf("the recycle bin has the subject %q", bin.Text("Subject"))
			}
		})
	}
}

// A record that cannot be overwritten is deleted all the same, and the loss
// declared; one that cannot be deleted is not erased.
func TestEraseAgainstRules(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	item := b.push(b.share(1, discovery(), withID))[0]
	b.s.OnWrite(func(string, map[string]any) *salesforcetest.RowError {
		return &salesforcetest.RowError{Code: "FIELD_CUSTOM_VALIDATION_EXCEPTION", Message: "closed tasks stay as they are"}
	})
	item.Kind = hub.KindErase
	out := b.c.Erase(t.Context(), b.a, []connectors.Item{item})[0]
	b.want(out, connectors.Delivered)
	if len(out.Losses) != 1 || out.Losses[0].Detail != lostWipe {
		t.Errorf("losses: %v", out.Losses)
	}
	b.s.OnWrite(nil)
	locked := b.push(b.share(2, discovery(), withID))[0]
	b.s.Lock(locked.Receipt["id"])
	locked.Kind = hub.KindErase
	out = b.c.Erase(t.Context(), b.a, []connectors.Item{locked})[0]
	b.want(out, connectors.Rejected)
	b.task(locked)
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	there := b.push(b.share(1, discovery(), withoutID))[0]
	there.Receipt = nil
	long := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		item connectors.Item
		want connectors.Verdict
	}{
		"arrived":        {there, connectors.Arrived},
		"not there":      {connectors.Item{Key: keyOf(2), Kind: hub.KindShare, Destination: json.RawMessage(withoutID), Begun: long}, connectors.NotArrived},
		"too early":      {connectors.Item{Key: keyOf(2), Kind: hub.KindShare, Destination: json.RawMessage(withoutID), Begun: time.Now()}, connectors.CannotTell},
		"upsert":         {connectors.Item{Key: keyOf(3), Kind: hub.KindShare, Destination: json.RawMessage(withID)}, connectors.Repeatable},
		"update":         {connectors.Item{Key: keyOf(3), Kind: hub.KindUpdate, Destination: json.RawMessage(withoutID)}, connectors.Repeatable},
		"erasure":        {connectors.Item{Key: keyOf(3), Kind: hub.KindErase, Destination: json.RawMessage(withoutID)}, connectors.Repeatable},
		"no destination": {connectors.Item{Key: keyOf(3), Kind: hub.KindShare}, connectors.CannotTell},
	} {
		got := b.c.Reconcile(t.Context(), b.a, []connectors.Item{c.item})[0]
		if got.Verdict != c.want {
			t.Errorf("%s: verdict %v (%v), want %v", name, got.Verdict, got.Err, c.want)
		}
		if c.want == connectors.Arrived && got.Receipt["id"] == "" {
			t.Errorf("%s: no receipt", name)
		}
		if name == "too early" && got.Err.RetryAfter <= 0 {
			t.Errorf("%s: %v says nothing about when to look again", name, got.Err)
		}
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b := newBench(t, salesforcetest.Options{DailyLimit: 1000})
	b.s.SetUsed(500)
	var got []connectors.Budget
	b.a.OnBudget = func(x connectors.Budget) { got = append(got, x) }
	b.push(b.share(1, discovery(), withID))
	if len(got) == 0 || got[len(got)-1] != (connectors.Budget{Used: b.s.Used(), Limit: 1000}) || b.s.Used() < 502 {
		t.Errorf("budgets %v, used %d", got, b.s.Used())
	}
	b.s.SetUsed(1000)
	item := b.share(2, discovery(), withID)
	_, err := b.c.Resolve(t.Context(), b.a, []connectors.Item{item})
	if e := connectors.AsError(err); err != nil && (e.Class != connectors.RateLimited || e.RetryAfter < time.Minute || e.Reach != connectors.ReachConnection) {
		t.Errorf("error %+v", e)
	}
	var perr error
	if item.Payload, perr = b.c.Render(item); perr != nil {
		t.Fatal(perr)
	}
	out := b.c.Push(t.Context(), b.a, []connectors.Item{item})[0]
	b.want(out, connectors.RateLimited)
}

func TestIdentifyAndRevoke(t *testing.T) {
	t.Parallel()
	b := newBench(t, salesforcetest.Options{OrgName: "Contoso"})
	id, err := b.c.Identify(t.Context(), b.a)
	if err != nil {
		t.Fatal(err)
	}
	want := connectors.Identity{AccountID: b.s.OrgID(), AccountName: "Contoso", Facts: map[string]string{"org_id": b.s.OrgID(), "instance": "FAKE1"}}
	if diff := cmp.Diff(want, id); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := b.c.Revoke(t.Context(), b.a); err != nil {
			t.Errorf("Revoke: %v", err)
		}
	}
	if b.s.AccessToken() != "" {
		t.Error("the token still works")
	}
	_, err = b.c.Identify(t.Context(), b.a)
	if e := connectors.AsError(err); err == nil || e.Class != connectors.Unauthorized || e.Permanent {
		t.Errorf("Identify with a dead token: %v", err)
	}
}

func TestDescribeAndCheck(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.s.AddField("Task", salesforcetest.Field{Name: "Region__c", Label: "Region", Type: salesforcetest.Picklist, Restricted: true, Values: []string{"EMEA", "APAC"}})
	b.s.AddField("Task", salesforcetest.Field{Name: "Note__c", Type: salesforcetest.Text, Length: 80})
	s, err := b.c.Describe(t.Context(), b.a, json.RawMessage(withID))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]mappings.Field{}
	for _, f := range s.Fields {
		got[f.Name] = f
	}
	if f := got["Region__c"]; f.Title != "Region" || f.Type != mappings.String || !cmp.Equal(f.Values, []string{"EMEA", "APAC"}) {
		t.Errorf("Region__c = %+v", f)
	}
	if f := got["Subject"]; f.MaxLength != 255 || !f.Required {
		t.Errorf("Subject = %+v", f)
	}
	for _, name := range []string{"Id", "OwnerId", "WhoId", "WhatId", "TaskSubtype", "CallObject", "Callbridge_Id__c", "IsClosed"} {
		if _, ok := got[name]; ok {
			t.Errorf("a mapping may set %s", name)
		}
	}
	for destination, code := range map[string]string{
		withID: "", withoutID: "",
		`{"object":"Task","external_id_field":"Missing__c"}`: "external_id_missing",
		`{"object":"Task","external_id_field":"Note__c"}`:    "not_an_external_id",
		`{"object":"Case"}`: "bad_destination",
	} {
		err := b.c.Check(t.Context(), b.a, json.RawMessage(destination))
		got := ""
		if err != nil {
			got = connectors.AsError(err).Code
		}
		if got != code {
			t.Errorf("%s: %v, want %q", destination, err, code)
		}
	}
}

// The tokens of the conformance harness and of this one come from the fake; a
// wrong one is refused by it, and so by us.
func TestWrongToken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.a = connectortest.Account(t, Descriptor(), b.s.URL, "nonsense")
	_, err := b.c.Resolve(t.Context(), b.a, []connectors.Item{b.share(1, discovery(), withID)})
	if e := connectors.AsError(err); err == nil || e.Class != connectors.Unauthorized {
		t.Errorf("Resolve = %v", err)
	}
}
