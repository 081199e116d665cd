package salesforcetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Person is a contact or a lead to be made.
type Person struct {
	First, Last   string
	Title         string
	Email         string
	Phone, Mobile string
	Company       string // of a lead
	Account       string // id of a contact's account
}

// AddUser makes an active user and returns its id.
func (s *Server) AddUser(name, email string) string {
	return s.mustAdd("User", map[string]any{"Name": name, "Email": email, "Username": email})
}

// Deactivate makes a user inactive.
func (s *Server) Deactivate(user string) { s.mustSet(user, map[string]any{"IsActive": false}) }

// AddAccount makes an account and returns its id. website may be empty.
func (s *Server) AddAccount(name, website string) string {
	return s.mustAdd("Account", map[string]any{"Name": name, "Website": website})
}

// AddContact makes a contact and returns its id.
func (s *Server) AddContact(p Person) string {
	return s.mustAdd("Contact", map[string]any{
		"FirstName": p.First, "LastName": or(p.Last, "Unknown"), "Title": p.Title, "Email": p.Email,
		"Phone": p.Phone, "MobilePhone": p.Mobile, "AccountId": p.Account,
	})
}

// AddLead makes an open lead and returns its id.
func (s *Server) AddLead(p Person) string {
	return s.mustAdd("Lead", map[string]any{
		"FirstName": p.First, "LastName": or(p.Last, "Unknown"), "Title": p.Title, "Email": p.Email,
		"Phone": p.Phone, "MobilePhone": p.Mobile, "Company": or(p.Company, "Unknown"),
	})
}

// AddOpportunity makes an opportunity and returns its id. A stage that starts
// with "Closed" makes it closed. closeDate is YYYY-MM-DD.
func (s *Server) AddOpportunity(name, account, stage, closeDate string) string {
	return s.mustAdd("Opportunity", map[string]any{"Name": name, "AccountId": account, "StageName": stage, "CloseDate": closeDate})
}

// Add makes a record of any object and returns its id.
func (s *Server) Add(object string, fields map[string]any) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.d.object(object)
	if o == nil {
		return "", fmt.Errorf("add %s: no such object", object)
	}
	r, err := s.d.create(o, fields)
	if err != nil {
		return "", fmt.Errorf("add %s: %w", object, err)
	}
	return r.id, nil
}

// Set changes a record, as one of the org's users would.
func (s *Server) Set(id string, fields map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.d.get(id)
	if r == nil {
		return fmt.Errorf("set: no record %s", id)
	}
	if err := s.d.update(r, fields); err != nil {
		return fmt.Errorf("set %s: %w", id, err)
	}
	return nil
}

// mustAdd and mustSet are for arguments that only a mistake in a test can make
// wrong. The id "" then makes whatever is done with it fail.
func (s *Server) mustAdd(object string, fields map[string]any) string {
	id, err := s.Add(object, fields)
	if err != nil {
		return ""
	}
	return id
}

func (s *Server) mustSet(id string, fields map[string]any) {
	_ = s.Set(id, fields)
}

// Delete moves a record to the recycle bin, as one of the org's users would.
func (s *Server) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.d.get(id); r != nil {
		_ = s.d.remove(r) // was deleted before
	}
}

// Purge removes a record without a trace, as emptying the recycle bin does.
func (s *Server) Purge(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.d.get(id)
	if r == nil {
		return
	}
	_ = s.d.remove(r) // was deleted before
	delete(s.d.byID, r.id)
	key := strings.ToLower(r.object.name)
	s.d.order[key] = slices.DeleteFunc(s.d.order[key], func(o *record) bool { return o == r })
}

// Archive archives a task, as Salesforce does with closed ones after a year.
func (s *Server) Archive(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.d.get(id); r != nil {
		r.archived = true
	}
}

// Lock makes a record refuse changes and deletion, as an approval process does.
func (s *Server) Lock(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.d.get(id); r != nil {
		r.locked = true
	}
}

// AddField adds a custom field to an object, as the org's admin would. Its
// name ends in "__c".
func (s *Server) AddField(object string, f Field) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.d.object(object); o != nil {
		o.add(&f)
	}
}

// RemoveField removes a field, as the org's admin would.
func (s *Server) RemoveField(object, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.d.object(object); o != nil {
		delete(o.byName, strings.ToLower(name))
		o.fields = slices.DeleteFunc(o.fields, func(f *Field) bool { return strings.EqualFold(f.Name, name) })
	}
}

// OnWrite makes check see every record before it is stored, as a validation
// rule or a trigger of the org would; what it returns refuses the record. nil
// removes it. check must not call the server.
func (s *Server) OnWrite(check func(object string, fields map[string]any) *RowError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.d.onWrite = check
}

// Record is a record as it is now.
type Record struct {
	ID       string
	Object   string
	Fields   map[string]any // stored fields by name: string, float64, bool
	Created  time.Time
	Modified time.Time
	Writes   int // 1 when created, and one more for each change
	Deleted  bool
	Archived bool
}

// Text returns a stored text field, "" if it is empty.
func (r Record) Text(field string) string {
	s, _ := r.Fields[field].(string)
	return s
}

func exported(r *record) Record {
	return Record{
		ID: r.id, Object: r.object.name, Fields: maps.Clone(r.fields), Created: r.created, Modified: r.modified,
		Writes: r.writes, Deleted: r.deleted, Archived: r.archived,
	}
}

// Records returns the records of an object, oldest first, those in the recycle
// bin included.
func (s *Server) Records(object string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Record
	for _, r := range s.d.order[strings.ToLower(object)] {
		out = append(out, exported(r))
	}
	return out
}

// Record returns the record of that id.
func (s *Server) Record(id string) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.d.get(id)
	if r == nil {
		return Record{}, false
	}
	return exported(r), true
}

// Tasks returns the tasks that are not in the recycle bin, oldest first.
func (s *Server) Tasks() []Record {
	return slices.DeleteFunc(s.Records("Task"), func(r Record) bool { return r.Deleted })
}

// TasksOf returns the tasks that carry key as external id or, where the org has
// no such field, as CallObject; oldest first, without the recycle bin.
func (s *Server) TasksOf(key string) []Record {
	return slices.DeleteFunc(s.Tasks(), func(r Record) bool { return r.Key() != key })
}

// Key returns the name by which Callbridge knows the task.
func (r Record) Key() string { return cmp.Or(r.Text(ExternalIDField), r.Text("CallObject")) }

// Calls returns how many requests of each kind arrived; see [Request].
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for _, r := range s.log {
		out[r.Kind]++
	}
	return out
}

// Requests returns how many requests to the data API carried a valid token,
// those that failed included.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Log returns every request that arrived, oldest first.
func (s *Server) Log() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// ResetLog forgets the requests that arrived.
func (s *Server) ResetLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.requests = nil, 0
}

// SetUsed sets how many of the day's API calls are used.
func (s *Server) SetUsed(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = n
}

// Used returns how many of the day's API calls are used.
func (s *Server) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// SetLatency makes every answer of the data API wait that long after the work.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// ClientCredentials returns the id and the secret of the app that is installed.
func (s *Server) ClientCredentials() (id, secret string) { return s.o.ClientID, s.o.ClientSecret }

// UserID returns the id of the connected user.
func (s *Server) UserID() string { return s.d.user }

// OrgID returns the org's id.
func (s *Server) OrgID() string { return s.org.id }
