package salesforcetest

import (
	"regexp"
	"slices"
	"strings"
)

// FieldType is the type of a field, as Describe names it.
type FieldType string

// The types of fields that the fake knows.
const (
	ID        FieldType = "id"
	Text      FieldType = "string"
	Area      FieldType = "textarea"
	Picklist  FieldType = "picklist"
	Combobox  FieldType = "combobox"
	Email     FieldType = "email"
	Phone     FieldType = "phone"
	URL       FieldType = "url"
	Int       FieldType = "int"
	Double    FieldType = "double"
	Boolean   FieldType = "boolean"
	Date      FieldType = "date"
	DateTime  FieldType = "datetime"
	Reference FieldType = "reference"
)

// Field is one field of an object. Names are matched without regard to case,
// as Salesforce does.
type Field struct {
	Name       string
	Label      string // "" means Name
	Type       FieldType
	Length     int      // characters (UTF-16 units), or digits of an Int; 0 is no limit
	Values     []string // of a picklist
	Restricted bool     // a value outside Values is refused
	RefersTo   []string // objects a Reference may name
	Relation   string   // name of the relationship, for "Account.Name" in a query
	ExternalID bool
	Unique     bool
	Required   bool // must be given when a record is created
	Default    any  // value at creation where none is given

	readOnly   bool // computed, or set by the system
	createOnly bool // "this field isn't updateable"
	noFilter   bool // long text cannot stand in WHERE
}

// object is one kind of record.
type object struct {
	name, label, prefix string
	fields              []*Field
	byName              map[string]*Field // lower-case name
}

func newObject(name, label, prefix string, fields ...*Field) *object {
	system := []*Field{
		{Name: "Id", Label: "Record ID", Type: ID, Length: 18, readOnly: true},
		{Name: "IsDeleted", Label: "Deleted", Type: Boolean, readOnly: true},
		{Name: "CreatedDate", Label: "Created", Type: DateTime, readOnly: true},
		{Name: "CreatedById", Label: "Created By", Type: Reference, RefersTo: []string{"User"}, Relation: "CreatedBy", readOnly: true},
		{Name: "LastModifiedDate", Label: "Last Modified", Type: DateTime, readOnly: true},
		{Name: "SystemModstamp", Type: DateTime, readOnly: true},
	}
	o := &object{name: name, label: label, prefix: prefix, byName: map[string]*Field{}}
	for _, f := range slices.Concat(system, fields) {
		o.add(f)
	}
	return o
}

func (o *object) add(f *Field) {
	if f.Label == "" {
		f.Label = f.Name
	}
	o.fields = append(o.fields, f)
	o.byName[strings.ToLower(f.Name)] = f
}

// field returns the field of that name, in any case, or nil.
func (o *object) field(name string) *Field { return o.byName[strings.ToLower(name)] }

// relation returns the reference field whose relationship has that name, or
// nil.
func (o *object) relation(name string) *Field {
	for _, f := range o.fields {
		if f.Relation != "" && strings.EqualFold(f.Relation, name) {
			return f
		}
	}
	return nil
}

var idShape = regexp.MustCompile(`^[A-Za-z0-9]{15}([A-Za-z0-9]{3})?$`)

// fullID returns the 18-character form of a 15-character id: three characters
// that each carry which of five characters are upper-case letters.
func fullID(id string) string {
	if len(id) != 15 {
		return id
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
	suffix := make([]byte, 0, 3)
	for part := range 3 {
		bits := 0
		for i := range 5 {
			if c := id[part*5+i]; c >= 'A' && c <= 'Z' {
				bits |= 1 << i
			}
		}
		suffix = append(suffix, alphabet[bits])
	}
	return id + string(suffix)
}

// standardObjects returns the objects of a new org. Types and lengths are those
// of Salesforce's field reference; only what a connector for calls could touch
// is there.
func standardObjects() map[string]*object {
	owner := func() *Field {
		return &Field{Name: "OwnerId", Label: "Assigned To", Type: Reference, RefersTo: []string{"User"}, Relation: "Owner"}
	}
	list := []*object{
		newObject("Organization", "Organization", "00D",
			&Field{Name: "Name", Type: Text, Length: 80},
			&Field{Name: "IsSandbox", Type: Boolean, readOnly: true},
			&Field{Name: "InstanceName", Type: Text, Length: 5, readOnly: true},
			&Field{Name: "OrganizationType", Type: Picklist, readOnly: true},
		),
		newObject("User", "User", "005",
			&Field{Name: "Username", Type: Text, Length: 80, Required: true},
			&Field{Name: "Name", Type: Text, Length: 121},
			&Field{Name: "Email", Type: Email, Length: 128, Required: true},
			&Field{Name: "IsActive", Label: "Active", Type: Boolean, Default: true},
			&Field{Name: "UserType", Label: "User Type", Type: Picklist, Length: 40, Default: "Standard"},
		),
		newObject("Account", "Account", "001",
			&Field{Name: "Name", Label: "Account Name", Type: Text, Length: 255, Required: true},
			&Field{Name: "Website", Type: URL, Length: 255},
			&Field{Name: "Phone", Type: Phone, Length: 40},
			&Field{Name: "Industry", Type: Picklist, Length: 255},
			&Field{Name: "Description", Type: Area, Length: 32000, noFilter: true},
			owner(),
		),
		newObject("Contact", "Contact", "003",
			&Field{Name: "FirstName", Label: "First Name", Type: Text, Length: 40},
			&Field{Name: "LastName", Label: "Last Name", Type: Text, Length: 80, Required: true},
			&Field{Name: "Name", Type: Text, Length: 121, readOnly: true},
			&Field{Name: "Title", Type: Text, Length: 128},
			&Field{Name: "Email", Type: Email, Length: 80},
			&Field{Name: "Phone", Type: Phone, Length: 40},
			&Field{Name: "MobilePhone", Label: "Mobile", Type: Phone, Length: 40},
			&Field{Name: "AccountId", Label: "Account", Type: Reference, RefersTo: []string{"Account"}, Relation: "Account"},
			owner(),
		),
		newObject("Lead", "Lead", "00Q",
			&Field{Name: "FirstName", Label: "First Name", Type: Text, Length: 40},
			&Field{Name: "LastName", Label: "Last Name", Type: Text, Length: 80, Required: true},
			&Field{Name: "Name", Type: Text, Length: 121, readOnly: true},
			&Field{Name: "Company", Type: Text, Length: 255, Required: true},
			&Field{Name: "Title", Type: Text, Length: 128},
			&Field{Name: "Email", Type: Email, Length: 80},
			&Field{Name: "Phone", Type: Phone, Length: 40},
			&Field{Name: "MobilePhone", Label: "Mobile", Type: Phone, Length: 40},
			&Field{Name: "IsConverted", Label: "Converted", Type: Boolean, Default: false},
			owner(),
		),
		newObject("Opportunity", "Opportunity", "006",
			&Field{Name: "Name", Label: "Opportunity Name", Type: Text, Length: 120, Required: true},
			&Field{Name: "AccountId", Label: "Account", Type: Reference, RefersTo: []string{"Account"}, Relation: "Account"},
			&Field{Name: "StageName", Label: "Stage", Type: Picklist, Length: 255, Required: true},
			&Field{Name: "Amount", Type: Double},
			&Field{Name: "CloseDate", Label: "Close Date", Type: Date, Required: true},
			&Field{Name: "IsClosed", Label: "Closed", Type: Boolean, readOnly: true},
			&Field{Name: "IsWon", Label: "Won", Type: Boolean, readOnly: true},
			owner(),
		),
		newObject("Task", "Task", "00T",
			&Field{Name: "Subject", Type: Combobox, Length: 255},
			&Field{Name: "Description", Label: "Comments", Type: Area, Length: 32000, noFilter: true},
			&Field{Name: "Status", Type: Picklist, Length: 255, Default: "Not Started", Values: []string{"Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred"}},
			&Field{Name: "Priority", Type: Picklist, Length: 255, Default: "Normal", Values: []string{"High", "Normal", "Low"}},
			&Field{Name: "TaskSubtype", Label: "Task Subtype", Type: Picklist, Length: 40, Default: "Task", Restricted: true, Values: []string{"Task", "Email", "ListEmail", "Cadence", "Call", "LinkedIn"}, createOnly: true},
			&Field{Name: "ActivityDate", Label: "Due Date", Type: Date},
			&Field{Name: "CallType", Label: "Call Type", Type: Picklist, Length: 40, Restricted: true, Values: []string{"Internal", "Inbound", "Outbound"}},
			&Field{Name: "CallDurationInSeconds", Label: "Call Duration", Type: Int, Length: 8},
			&Field{Name: "CallDisposition", Label: "Call Result", Type: Text, Length: 255},
			&Field{Name: "CallObject", Label: "Call Object Identifier", Type: Text, Length: 255},
			&Field{Name: "WhoId", Label: "Name", Type: Reference, RefersTo: []string{"Contact", "Lead"}, Relation: "Who"},
			&Field{Name: "WhatId", Label: "Related To", Type: Reference, RefersTo: []string{"Account", "Opportunity"}, Relation: "What"},
			&Field{Name: "AccountId", Label: "Account", Type: Reference, RefersTo: []string{"Account"}, Relation: "Account", readOnly: true},
			&Field{Name: "IsClosed", Label: "Closed", Type: Boolean, readOnly: true},
			&Field{Name: "IsArchived", Label: "Archived", Type: Boolean, readOnly: true},
			owner(),
		),
	}
	out := make(map[string]*object, len(list))
	for _, o := range list {
		out[strings.ToLower(o.name)] = o
	}
	return out
}
