package salesforce

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/mappings"
)

// description of an object, as far as it is needed.
type objectDescription struct {
	Createable bool             `json:"createable"`
	Updateable bool             `json:"updateable"`
	Fields     []describedField `json:"fields"`
}

type describedField struct {
	Name       string `json:"name"`
	Label      string `json:"label"`
	Type       string `json:"type"`
	Length     int    `json:"length"`
	Createable bool   `json:"createable"`
	Updateable bool   `json:"updateable"`
	Nillable   bool   `json:"nillable"`
	ExternalID bool   `json:"externalId"`
	Restricted bool   `json:"restrictedPicklist"`
	Values     []struct {
		Value  string `json:"value"`
		Active bool   `json:"active"`
	} `json:"picklistValues"`
}

func (a *api) describeTask(ctx context.Context) (objectDescription, *connectors.Error) {
	var d objectDescription
	body, err := a.call(ctx, http.MethodGet, "sobjects/Task/describe", nil)
	if err != nil {
		return d, err
	}
	if json.Unmarshal(body, &d) != nil || len(d.Fields) == 0 {
		return d, unreadable(a.op, true)
	}
	return d, nil
}

// Describe implements [connectors.Describer]: the standard fields that a
// mapping may set and the org's own, with the org's lengths and picklists.
func (c *connector) Describe(ctx context.Context, a connectors.Account, raw json.RawMessage) (mappings.Schema, error) {
	w := c.api(a, "describe")
	d, err := parseDestination(raw)
	if err != nil {
		return mappings.Schema{}, &connectors.Error{Class: connectors.Rejected, Op: w.op, Code: "bad_destination", Detail: "the destination cannot be understood", Err: err}
	}
	described, failure := w.describeTask(ctx)
	if failure != nil {
		return mappings.Schema{}, failure
	}
	standard := map[string]mappings.Field{}
	for _, f := range mappable() {
		standard[f.Name] = f
	}
	var s mappings.Schema
	for _, f := range described.Fields {
		known, ok := standard[f.Name]
		if !ok && (!isCustomField(f.Name) || strings.EqualFold(f.Name, d.ExternalIDField)) {
			continue
		}
		typ, can := fieldType(f.Type)
		if !f.Createable || !f.Updateable || !can {
			continue
		}
		s.Fields = append(s.Fields, mappings.Field{
			Name: f.Name, Title: f.Label, Type: typ, MaxLength: max(f.Length, 0), Values: f.values(), Required: known.Required || !f.Nillable && !ok,
		})
	}
	return s, nil
}

// values returns the values of a picklist that takes no others; nil for any
// other field.
func (f describedField) values() []string {
	if !f.Restricted {
		return nil
	}
	var out []string
	for _, v := range f.Values {
		if v.Active {
			out = append(out, v.Value)
		}
	}
	return out
}

// fieldType returns the mapping type of a field; false for those that a mapping
// cannot set, such as links and places.
func fieldType(t string) (mappings.Type, bool) {
	switch t {
	case "string", "textarea", "picklist", "combobox", "email", "phone", "url", "encryptedstring":
		return mappings.String, true
	case "multipicklist":
		return mappings.List, true
	case "int", "double", "currency", "percent", "long":
		return mappings.Number, true
	case "boolean":
		return mappings.Bool, true
	case "date":
		return mappings.Date, true
	case "datetime":
		return mappings.Time, true
	}
	return "", false
}

// Check implements [connectors.Checker]: tasks can be written, and the external
// id is one.
func (c *connector) Check(ctx context.Context, a connectors.Account, raw json.RawMessage) error {
	w := c.api(a, "check")
	refuse := func(code, detail string) error {
		return &connectors.Error{Class: connectors.Rejected, Op: w.op, Code: code, Detail: detail}
	}
	d, err := parseDestination(raw)
	if err != nil {
		return refuse("bad_destination", "the destination cannot be understood")
	}
	described, failure := w.describeTask(ctx)
	if failure != nil {
		return failure
	}
	if !described.Createable || !described.Updateable {
		return refuse("task_not_writable", "the connected user may not create and edit tasks; give it that permission in Salesforce")
	}
	if d.ExternalIDField == "" {
		return nil
	}
	for _, f := range described.Fields {
		switch {
		case !strings.EqualFold(f.Name, d.ExternalIDField):
		case !f.ExternalID || f.Type != "string" || f.Length < 26:
			return refuse("not_an_external_id", "the external id field must be a text field of 26 characters or more that is marked as an external id")
		case !f.Createable:
			return refuse("external_id_read_only", "the connected user may not write the external id field; give it that permission in Salesforce")
		default:
			return nil
		}
	}
	return refuse("external_id_missing", "the external id field does not exist in the Salesforce org, or the connected user cannot see it")
}
