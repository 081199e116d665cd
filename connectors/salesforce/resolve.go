package salesforce

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub/consent"
)

const (
	// How long look-ups are kept. A contact that somebody adds because the
	// last call had none should be found by the next.
	foundTTL    = 10 * time.Minute
	notFoundTTL = 2 * time.Minute

	// maxPeople bounds how many addresses of one call are looked up, so that a
	// webinar with a thousand guests does not cost fifty queries.
	maxPeople = 25
)

// Names of targets. The values of those ending in "_id" are record ids; the
// others say how it was found, or why not, and decide which losses are
// declared.
const (
	targetWhoID   = "who_id"
	targetWho     = "who" // contact, lead, ambiguous
	targetWhatID  = "what_id"
	targetWhat    = "what" // opportunity, account, several_opportunities (and linked to the account), ambiguous
	targetOwnerID = "owner_id"
	targetOwner   = "owner"  // user, inactive, ambiguous, unknown
	targetHidden  = "hidden" // objects that the connected user cannot see, separated by commas
)

const (
	viaContact     = "contact"
	viaLead        = "lead"
	viaAccount     = "account"
	viaOpportunity = "opportunity"
	viaUser        = "user"
	severalOpen    = "several_opportunities"
	ambiguous      = "ambiguous"
	inactive       = "inactive"
	unknown        = "unknown"
)

// person is a contact or a lead.
type person struct {
	id          string
	accountID   string
	accountName string
	accountHost string
}

// account is an account, as far as it is matched.
type account struct{ id string }

// owner is a user.
type owner struct {
	id     string
	active bool
}

// found is what was looked up for one key. In the cache it also stands for
// "there is none".
type found[T any] struct {
	list    []T
	tooMany bool // more than are worth reading: no telling which
	hidden  bool // the connected user cannot see the object
}

// known is what was looked up for a batch.
type known struct {
	contacts, leads map[string]found[person]  // by "e:" and e-mail address, or "p:" and phone number
	accounts        map[string]found[account] // by "d:" and domain, or "n:" and name
	open            map[string]found[string]  // open opportunities, by account id
	owners          map[string]found[owner]   // by e-mail address
}

// Resolve implements [connectors.Resolver]. It makes one query for each of
// contacts, leads, accounts, open opportunities and owners, and each only for
// what is not in the account's cache and still needed after the ones before.
func (c *connector) Resolve(ctx context.Context, a connectors.Account, items []connectors.Item) ([]connectors.Targets, error) {
	r := &resolver{api: c.api(a, "resolve"), cache: a.Cache}
	ms := make([]consent.Matching, len(items))
	for i := range items {
		if items[i].Release != nil {
			ms[i] = limited(items[i].Release.Matching())
		}
	}
	k, err := r.lookUp(ctx, ms)
	if err != nil {
		return nil, err
	}
	out := make([]connectors.Targets, len(items))
	for i := range ms {
		out[i] = k.targets(ms[i])
	}
	return out, nil
}

// LookUps implements [connectors.Resolver].
func (*connector) LookUps(item connectors.Item) []string {
	if item.Release == nil {
		return nil
	}
	m := limited(item.Release.Matching())
	var out []string
	add := func(ok bool, text string) {
		if ok {
			out = append(out, text)
		}
	}
	add(len(m.Emails) > 0, "contact, then lead, by e-mail address")
	add(len(m.Phones) > 0, "contact, then lead, by phone number")
	byID := isID(m.AccountID, prefixAccount) || isID(m.OpportunityID, prefixOpportunity)
	add(!byID && m.AccountDomain != "", "account by domain of its website")
	add(!byID && m.AccountName != "", "account by name")
	add(!isID(m.OpportunityID, prefixOpportunity) && (len(out) > 0 || byID), "open opportunity of the account")
	add(m.OwnerEmail != "", "user by the owner's e-mail address")
	return out
}

// limited returns m with no more addresses than are looked up, in the form in
// which they are compared.
func limited(m consent.Matching) consent.Matching {
	m.Emails = m.Emails[:min(len(m.Emails), maxPeople)]
	m.Phones = m.Phones[:min(len(m.Phones), maxPeople)]
	m.OwnerEmail = strings.ToLower(strings.TrimSpace(m.OwnerEmail))
	m.AccountName = strings.TrimSpace(m.AccountName)
	m.AccountDomain = hostOf(m.AccountDomain)
	return m
}

// resolver looks up what a batch needs.
type resolver struct {
	api   *api
	cache connectors.Cache
}

func (r *resolver) lookUp(ctx context.Context, ms []consent.Matching) (*known, error) {
	k := &known{}
	var people, leads, accounts, opportunities, owners []string
	for _, m := range ms {
		people = append(people, peopleKeys(m)...)
		if m.OwnerEmail != "" {
			owners = append(owners, m.OwnerEmail)
		}
	}
	var err *connectors.Error
	if k.contacts, err = fetch(ctx, r, "contact", people, costOfPerson, r.contacts); err != nil {
		return nil, err
	}
	for _, m := range ms {
		if k.wantsLead(m) {
			leads = append(leads, peopleKeys(m)...)
		}
	}
	if k.leads, err = fetch(ctx, r, "lead", leads, costOfPerson, r.leads); err != nil {
		return nil, err
	}
	for _, m := range ms {
		accounts = append(accounts, k.accountKeys(m)...)
	}
	if k.accounts, err = fetch(ctx, r, "account", accounts, costOfAccount, r.accounts); err != nil {
		return nil, err
	}
	for _, m := range ms {
		if id, _ := k.account(m); id != "" && !isID(m.OpportunityID, prefixOpportunity) {
			opportunities = append(opportunities, id)
		}
	}
	if k.open, err = fetch(ctx, r, "opportunity", opportunities, costOfLiteral, r.opportunities); err != nil {
		return nil, err
	}
	if k.owners, err = fetch(ctx, r, "user", owners, costOfLiteral, r.users); err != nil {
		return nil, err
	}
	return k, nil
}

// fetch returns what is known of keys, from the cache or by load.
func fetch[T any](ctx context.Context, r *resolver, kind string, keys []string, cost func(string) int, load func(context.Context, []string) (map[string]found[T], *connectors.Error)) (map[string]found[T], *connectors.Error) {
	out := make(map[string]found[T], len(keys))
	var missing []string
	for _, key := range keys {
		if _, seen := out[key]; seen {
			continue
		}
		out[key] = found[T]{}
		if r.cache != nil {
			if v, ok := r.cache.Get("salesforce/" + kind + "/" + key); ok {
				if f, ok := v.(found[T]); ok {
					out[key] = f
					continue
				}
			}
		}
		missing = append(missing, key)
	}
	for _, part := range chunks(missing, cost) {
		loaded, err := load(ctx, part)
		if err != nil && !hides(err) {
			return nil, err
		}
		for _, key := range part {
			f := loaded[key]
			f.hidden = err != nil
			out[key] = f
			r.keep("salesforce/"+kind+"/"+key, f, len(f.list) > 0)
		}
	}
	return out, nil
}

func (r *resolver) keep(key string, v any, positive bool) {
	if r.cache == nil {
		return
	}
	ttl := notFoundTTL
	if positive {
		ttl = foundTTL
	}
	r.cache.Put(key, v, ttl)
}

// group runs a query and files its rows under the keys that keysOf gives.
func group[T any](ctx context.Context, w *api, soql string, keys []string, keysOf func(record) []string, read func(record) (T, bool)) (map[string]found[T], *connectors.Error) {
	rows, complete, err := w.pages(ctx, soql)
	if err != nil {
		return nil, err
	}
	out := make(map[string]found[T], len(keys))
	for _, key := range keys {
		out[key] = found[T]{}
	}
	for _, row := range rows {
		v, ok := read(row)
		if !ok {
			continue
		}
		for _, key := range keysOf(row) {
			if f, asked := out[key]; asked {
				f.list = append(f.list, v)
				out[key] = f
			}
		}
	}
	if !complete {
		for _, key := range keys {
			f := out[key]
			f.tooMany = true
			out[key] = f
		}
	}
	return out, nil
}

func (r *resolver) contacts(ctx context.Context, keys []string) (map[string]found[person], *connectors.Error) {
	return r.people(ctx, "SELECT Id, Email, Phone, MobilePhone, AccountId, Account.Name, Account.Website FROM Contact WHERE ", prefixContact, keys)
}

func (r *resolver) leads(ctx context.Context, keys []string) (map[string]found[person], *connectors.Error) {
	return r.people(ctx, "SELECT Id, Email, Phone, MobilePhone FROM Lead WHERE IsConverted = false AND ", prefixLead, keys)
}

// people looks contacts or leads up by e-mail address and phone number, in one
// query. Salesforce keeps phone numbers as they were typed, and compares them as
// text; so every usual way to write one is asked for.
func (r *resolver) people(ctx context.Context, from, prefix string, keys []string) (map[string]found[person], *connectors.Error) {
	var emails, phones []string
	byDigits := map[string][]string{} // digits of a number → keys
	for _, key := range keys {
		if e, ok := strings.CutPrefix(key, "e:"); ok {
			emails = append(emails, e)
			continue
		}
		number := strings.TrimPrefix(key, "p:")
		phones = append(phones, phoneForms(number)...)
		for _, d := range phoneDigits(number) {
			byDigits[d] = append(byDigits[d], key)
		}
	}
	var where []string
	if len(emails) > 0 {
		where = append(where, "Email IN "+literals(emails))
	}
	if len(phones) > 0 {
		in := literals(phones)
		where = append(where, "Phone IN "+in, "MobilePhone IN "+in)
	}
	keysOf := func(row record) []string {
		out := []string{"e:" + strings.ToLower(row.text("Email"))}
		for _, f := range []string{"Phone", "MobilePhone"} {
			out = append(out, byDigits[digits(row.text(f))]...)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return group(ctx, r.api, from+"("+strings.Join(where, " OR ")+") ORDER BY Id", keys, keysOf, func(row record) (person, bool) {
		p := person{id: row.text("Id"), accountID: row.text("AccountId"), accountName: row.text("Account.Name"), accountHost: hostOf(row.text("Account.Website"))}
		if !isID(p.accountID, prefixAccount) {
			p.accountID = ""
		}
		return p, isID(p.id, prefix)
	})
}

func (r *resolver) accounts(ctx context.Context, keys []string) (map[string]found[account], *connectors.Error) {
	var where, names []string
	for _, key := range keys {
		if d, ok := strings.CutPrefix(key, "d:"); ok {
			where = append(where, "Website LIKE "+literal("%"+d+"%"))
		} else {
			names = append(names, strings.TrimPrefix(key, "n:"))
		}
	}
	if len(names) > 0 {
		where = append(where, "Name IN "+literals(names))
	}
	keysOf := func(row record) []string {
		return []string{"d:" + hostOf(row.text("Website")), "n:" + strings.ToLower(strings.TrimSpace(row.text("Name")))}
	}
	return group(ctx, r.api, "SELECT Id, Name, Website FROM Account WHERE "+strings.Join(where, " OR ")+" ORDER BY Id", keys, keysOf, func(row record) (account, bool) {
		return account{row.text("Id")}, isID(row.text("Id"), prefixAccount)
	})
}

func (r *resolver) opportunities(ctx context.Context, keys []string) (map[string]found[string], *connectors.Error) {
	return group(ctx, r.api, "SELECT Id, AccountId FROM Opportunity WHERE IsClosed = false AND AccountId IN "+literals(keys)+" ORDER BY Id", keys,
		func(row record) []string { return sameID(row.text("AccountId"), keys) },
		func(row record) (string, bool) { return row.text("Id"), isID(row.text("Id"), prefixOpportunity) })
}

func (r *resolver) users(ctx context.Context, keys []string) (map[string]found[owner], *connectors.Error) {
	return group(ctx, r.api, "SELECT Id, Email, IsActive FROM User WHERE UserType = 'Standard' AND Email IN "+literals(keys)+" ORDER BY Id", keys,
		func(row record) []string { return []string{strings.ToLower(row.text("Email"))} },
		func(row record) (owner, bool) {
			return owner{id: row.text("Id"), active: row["IsActive"] == true}, isID(row.text("Id"), prefixUser)
		})
}

// sameID returns those of keys that name the record id: the producer of a call
// may know it in its short form, whose case counts.
func sameID(id string, keys []string) []string {
	var out []string
	for _, k := range keys {
		if id != "" && k == id[:min(len(k), len(id))] {
			out = append(out, k)
		}
	}
	return out
}

// peopleKeys returns the look-up keys of a call's external participants, in the
// order in which they are tried.
func peopleKeys(m consent.Matching) []string {
	var out []string
	for _, e := range m.Emails {
		out = append(out, "e:"+e)
	}
	for _, p := range m.Phones {
		if digits(p) != "" {
			out = append(out, "p:"+p)
		}
	}
	return out
}

func costOfPerson(key string) int {
	if e, ok := strings.CutPrefix(key, "e:"); ok {
		return costOfLiteral(e)
	}
	n := 0
	for _, f := range phoneForms(strings.TrimPrefix(key, "p:")) {
		n += 2 * costOfLiteral(f) // Phone and MobilePhone
	}
	return n
}

func costOfAccount(key string) int {
	if d, ok := strings.CutPrefix(key, "d:"); ok {
		return len(url.QueryEscape("Website LIKE '%" + d + "%' OR "))
	}
	return costOfLiteral(strings.TrimPrefix(key, "n:"))
}

// targets returns what was found for a call; nil if that is nothing. The rules
// stand in the package comment.
func (k *known) targets(m consent.Matching) connectors.Targets {
	t := connectors.Targets{}
	set := func(idName, id, howName, how string) {
		if id != "" {
			t[idName] = id
		}
		if how != "" {
			t[howName] = how
		}
	}
	p, how := k.person(m)
	set(targetWhoID, p.id, targetWho, how)
	if how != viaLead {
		id, how := k.subject(m)
		set(targetWhatID, id, targetWhat, how)
	}
	id, how := k.owner(m)
	set(targetOwnerID, id, targetOwner, how)
	if hidden := k.hidden(m); len(hidden) > 0 {
		t[targetHidden] = strings.Join(hidden, ",")
	}
	if len(t) == 0 {
		return nil
	}
	return t
}

// person returns whom the call was with and how that is known.
func (k *known) person(m consent.Matching) (person, string) {
	p, how := k.contact(m)
	if how != "" || k.namesRecord(m) {
		return p, how
	}
	p, how = pick(peopleKeys(m), k.leads, func([]person) []person { return nil })
	if how == "" {
		return p, ""
	}
	if how == ambiguous {
		return person{}, ambiguous
	}
	return p, viaLead
}

func (k *known) contact(m consent.Matching) (person, string) {
	p, how := pick(peopleKeys(m), k.contacts, func(list []person) []person {
		return slices.DeleteFunc(slices.Clone(list), func(p person) bool { return !belongsTo(p, m) })
	})
	if how == "" || how == ambiguous {
		return person{}, how
	}
	return p, viaContact
}

// pick returns the first person whom a key names beyond doubt. narrow returns
// those of several who are the right ones.
func pick(keys []string, all map[string]found[person], narrow func([]person) []person) (person, string) {
	how := ""
	for _, key := range keys {
		f := all[key]
		if len(f.list) > 1 {
			if narrowed := narrow(f.list); len(narrowed) > 0 {
				f.list = narrowed
			}
		}
		switch {
		case f.tooMany || len(f.list) > 1:
			how = ambiguous
		case len(f.list) == 1:
			return f.list[0], "found"
		}
	}
	return person{}, how
}

// belongsTo reports whether a contact's account is the call's.
func belongsTo(p person, m consent.Matching) bool {
	switch {
	case isID(m.AccountID, prefixAccount):
		return len(sameID(p.accountID, []string{m.AccountID})) > 0
	case m.AccountDomain != "" && p.accountHost == m.AccountDomain:
		return true
	}
	return m.AccountName != "" && strings.EqualFold(strings.TrimSpace(p.accountName), m.AccountName)
}

// namesRecord reports whether the call itself says which account or
// opportunity it is about; a lead, which can have neither, is not looked for
// then.
func (*known) namesRecord(m consent.Matching) bool {
	return isID(m.AccountID, prefixAccount) || isID(m.OpportunityID, prefixOpportunity)
}

func (k *known) wantsLead(m consent.Matching) bool {
	_, how := k.contact(m)
	return how == "" && !k.namesRecord(m)
}

// accountKeys returns what has to be looked up to know the call's account.
func (k *known) accountKeys(m consent.Matching) []string {
	if p, how := k.person(m); how == viaLead || p.accountID != "" || k.namesRecord(m) {
		return nil
	}
	var out []string
	if domainShape.MatchString(m.AccountDomain) {
		out = append(out, "d:"+m.AccountDomain)
	}
	if m.AccountName != "" {
		out = append(out, "n:"+strings.ToLower(m.AccountName))
	}
	return out
}

// account returns the id of the call's account and, where it cannot be told,
// why.
func (k *known) account(m consent.Matching) (id, how string) {
	p, via := k.person(m)
	switch {
	case via == viaLead:
		return "", ""
	case isID(m.AccountID, prefixAccount):
		return m.AccountID, viaAccount
	case p.accountID != "":
		return p.accountID, viaAccount
	}
	for _, key := range k.accountKeys(m) {
		f := k.accounts[key]
		switch {
		case f.tooMany || len(f.list) > 1:
			how = ambiguous
		case len(f.list) == 1:
			return f.list[0].id, viaAccount
		}
	}
	return "", how
}

// subject returns the record the call is about.
func (k *known) subject(m consent.Matching) (id, how string) {
	if isID(m.OpportunityID, prefixOpportunity) {
		return m.OpportunityID, viaOpportunity
	}
	id, how = k.account(m)
	if id == "" {
		return "", how
	}
	switch open := k.open[id]; {
	case open.tooMany || len(open.list) > 1:
		return id, severalOpen
	case len(open.list) == 1:
		return open.list[0], viaOpportunity
	}
	return id, viaAccount
}

// owner returns the user whose call it was.
func (k *known) owner(m consent.Matching) (id, how string) {
	if m.OwnerEmail == "" {
		return "", ""
	}
	f := k.owners[m.OwnerEmail]
	var active []owner
	for _, o := range f.list {
		if o.active {
			active = append(active, o)
		}
	}
	switch {
	case f.tooMany || len(active) > 1:
		return "", ambiguous
	case len(active) == 1:
		return active[0].id, viaUser
	case len(f.list) > 0:
		return "", inactive
	}
	return "", unknown
}

// hidden returns the objects that could not be searched for the call.
func (k *known) hidden(m consent.Matching) []string {
	var out []string
	if anyHidden(k.contacts, peopleKeys(m)) {
		out = append(out, viaContact)
	}
	if k.wantsLead(m) && anyHidden(k.leads, peopleKeys(m)) {
		out = append(out, viaLead)
	}
	if anyHidden(k.accounts, k.accountKeys(m)) {
		out = append(out, viaAccount)
	}
	if id, _ := k.account(m); id != "" && anyHidden(k.open, []string{id}) {
		out = append(out, viaOpportunity)
	}
	return out
}

func anyHidden[T any](all map[string]found[T], keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return all[key].hidden })
}

var domainShape = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)

// hostOf returns the host name of a website as people type it, without "www.":
// "https://www.Example.com/en" gives "example.com". "" if there is none.
func hostOf(website string) string {
	s := strings.ToLower(strings.TrimSpace(website))
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	if i := strings.IndexAny(s, "/?#:"); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "www."), ".")
	if !domainShape.MatchString(s) {
		return ""
	}
	return s
}

// digits returns the digits of a phone number.
func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// phoneDigits returns the digits by which a number in E.164 may be known:
// with the country's code, with the international prefix, and for North America
// without either. Numbers of other countries are not known without their code,
// because how long that is depends on the country.
func phoneDigits(e164 string) []string {
	d := digits(e164)
	if len(d) < 7 {
		return nil
	}
	out := []string{d, "00" + d}
	if len(d) == 11 && d[0] == '1' {
		out = append(out, d[1:])
	}
	return out
}

// phoneForms returns the ways in which a number in E.164 is usually written.
// Salesforce's own pages turn a number of ten digits into "(415) 555-0123".
func phoneForms(e164 string) []string {
	d := digits(e164)
	if len(d) < 7 {
		return nil
	}
	out := []string{"+" + d, d, "00" + d}
	if len(d) == 11 && d[0] == '1' {
		area, exchange, line := d[1:4], d[4:7], d[7:]
		out = append(out, d[1:],
			"("+area+") "+exchange+"-"+line,
			area+"-"+exchange+"-"+line,
			area+"."+exchange+"."+line,
			"+1 "+area+"-"+exchange+"-"+line,
			"+1 ("+area+") "+exchange+"-"+line,
			"+1-"+area+"-"+exchange+"-"+line,
		)
	}
	return out
}
