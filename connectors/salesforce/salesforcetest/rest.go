package salesforcetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// rowResult is one entry of a collections answer.
type rowResult struct {
	ID      string      `json:"id,omitempty"`
	Success bool        `json:"success"`
	Created *bool       `json:"created,omitempty"`
	Errors  []*RowError `json:"errors"`
}

func done(id string) rowResult {
	return rowResult{ID: id, Success: true, Errors: []*RowError{}}
}

func doneUpsert(id string, created bool) rowResult {
	r := done(id)
	r.Created = &created
	return r
}

func failed(e *RowError) rowResult { return rowResult{Errors: []*RowError{e}} }

// cursor is the rest of a query's result.
type cursor struct {
	q    *query
	rows []*record
}

// query answers /query, /queryAll and their further pages.
func (s *Server) query(r *http.Request, parts []string, version string) reply {
	if r.Method != http.MethodGet {
		return failure(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "HTTP Method '%s' not allowed. Allowed are GET", r.Method)
	}
	if len(parts) == 2 {
		locator, from, ok := strings.Cut(parts[1], "-")
		offset, err := strconv.Atoi(from)
		c := s.cursors[locator]
		if !ok || err != nil || c == nil || offset < 0 || offset > len(c.rows) {
			return failure(http.StatusBadRequest, "INVALID_QUERY_LOCATOR", "invalid query locator")
		}
		return s.page(c, locator, offset, version)
	}
	text := r.URL.Query().Get("q")
	if text == "" {
		return failure(http.StatusBadRequest, "MALFORMED_QUERY", "A query string has to be specified")
	}
	q, err := s.d.parse(text)
	if err != nil {
		qe, ok := errors.AsType[*queryError](err)
		if !ok {
			qe = &queryError{"MALFORMED_QUERY", err.Error()}
		}
		return failure(http.StatusBadRequest, qe.code, "\n%s\n%s", text, qe.message)
	}
	rows := s.d.run(q, parts[0] == "queryAll")
	if q.count {
		return reply{status: http.StatusOK, body: map[string]any{"totalSize": len(rows), "done": true, "records": []any{}}}
	}
	c := &cursor{q: q, rows: rows}
	locator := ""
	if len(rows) > pageSize {
		locator = fmt.Sprintf("01gbn%013d", len(s.cursors)+1)
		s.cursors[locator] = c
	}
	return s.page(c, locator, 0, version)
}

// page returns the rows of c from offset on.
func (s *Server) page(c *cursor, locator string, offset int, version string) reply {
	end := min(offset+pageSize, len(c.rows))
	records := make([]map[string]any, 0, end-offset)
	for _, rec := range c.rows[offset:end] {
		records = append(records, s.project(c.q, rec, version))
	}
	body := map[string]any{"totalSize": len(c.rows), "done": end == len(c.rows), "records": records}
	if end < len(c.rows) {
		body["nextRecordsUrl"] = fmt.Sprintf("/services/data/v%s.0/query/%s-%d", version, locator, end)
	}
	return reply{status: http.StatusOK, body: body, rows: len(records)}
}

// project returns the fields of rec that q selects.
func (s *Server) project(q *query, rec *record, version string) map[string]any {
	out := map[string]any{"attributes": attributes(rec, version)}
	p := &parser{d: s.d, o: q.object}
	for _, name := range q.fields {
		path, _ := p.path(name) // was resolved when parsed
		if path.through == nil {
			out[path.last.Name] = rec.value(s.d, path.last.Name)
			continue
		}
		other := s.d.reference(rec, path.through.Name)
		if other == nil {
			out[path.through.Relation] = nil
			continue
		}
		nested, ok := out[path.through.Relation].(map[string]any)
		if !ok {
			nested = map[string]any{"attributes": attributes(other, version)}
			out[path.through.Relation] = nested
		}
		nested[path.last.Name] = other.value(s.d, path.last.Name)
	}
	return out
}

func attributes(r *record, version string) map[string]string {
	return map[string]string{"type": r.object.name, "url": fmt.Sprintf("/services/data/v%s.0/sobjects/%s/%s", version, r.object.name, r.id)}
}

// collectionsRequest is the body of a collections write.
type collectionsRequest struct {
	AllOrNone bool              `json:"allOrNone"`
	Records   []json.RawMessage `json:"records"`
}

// collections answers /composite/sobjects….
func (s *Server) collections(r *http.Request, parts []string, body []byte, version string) reply {
	if len(parts) == 0 && r.Method == http.MethodDelete {
		return s.deleteMany(r)
	}
	if (r.Method == http.MethodGet || r.Method == http.MethodPost) && len(parts) == 1 {
		return s.retrieveMany(r, parts[0], body, version)
	}
	if (r.Method != http.MethodPost && r.Method != http.MethodPatch) || len(parts) == 1 || len(parts) > 2 || (len(parts) == 2 && r.Method != http.MethodPatch) {
		return failure(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "HTTP Method '%s' not allowed", r.Method)
	}
	var in collectionsRequest
	if out := decode(body, &in); out != nil {
		return *out
	}
	if in.Records == nil {
		return failure(http.StatusBadRequest, "INVALID_INPUT", "records is required")
	}
	if len(in.Records) > maxRows {
		return failure(http.StatusBadRequest, "EXCEEDED_ID_LIMIT", "record limit reached. cannot submit more than %d records in one call", maxRows)
	}
	rows, out := s.readRows(in.Records)
	if out != nil {
		return *out
	}
	var write func(i int, row inRow) rowResult
	switch {
	case len(parts) == 2:
		w, refused := s.upsertMany(parts[0], parts[1], rows)
		if refused != nil {
			return *refused
		}
		write = w
	case r.Method == http.MethodPost:
		write = func(_ int, row inRow) rowResult { return s.createRow(row) }
	default:
		write = func(_ int, row inRow) rowResult { return s.updateRow(row) }
	}
	return s.writeAll(in.AllOrNone, rows, write)
}

// writeAll applies write to every row, and takes all back if one failed and
// allOrNone is set.
func (s *Server) writeAll(allOrNone bool, rows []inRow, write func(i int, row inRow) rowResult) reply {
	var undo *snapshot
	if allOrNone {
		undo = s.d.snapshot()
	}
	results := make([]rowResult, len(rows))
	bad := false
	for i, row := range rows {
		results[i] = write(i, row)
		bad = bad || !results[i].Success
	}
	if bad && allOrNone {
		s.d.restore(undo)
		for i := range results {
			if results[i].Success {
				results[i] = failed(refuse("ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back because not all records were valid and the request was using AllOrNone header"))
			}
		}
	}
	return reply{status: http.StatusOK, body: results, rows: len(rows)}
}

// inRow is one record of a collections write.
type inRow struct {
	object *object
	fields map[string]any
}

// readRows reads the records of a collections write. What cannot even be read
// as a record of its object refuses the whole call, as does a field that does
// not exist.
func (s *Server) readRows(raw []json.RawMessage) ([]inRow, *reply) {
	refusal := func(code, format string, args ...any) *reply {
		out := failure(http.StatusBadRequest, code, format, args...)
		return &out
	}
	rows := make([]inRow, len(raw))
	for i, b := range raw {
		m, err := decodeRecord(b)
		if err != nil {
			return nil, refusal("JSON_PARSER_ERROR", "%s", err.Error())
		}
		a, _ := m["attributes"].(map[string]any)
		name, _ := a["type"].(string)
		o := s.d.object(name)
		if name == "" {
			return nil, refusal("INVALID_INPUT", "sobject type needs to be specified in attributes")
		}
		if o == nil {
			return nil, refusal("INVALID_TYPE", "sObject type '%s' is not supported.", name)
		}
		for f := range m {
			if f != "attributes" && o.field(f) == nil {
				return nil, refusal("INVALID_FIELD", "No such column '%s' on sobject of type %s", f, o.name)
			}
		}
		rows[i] = inRow{o, m}
	}
	return rows, nil
}

func (s *Server) createRow(row inRow) rowResult {
	if id := takeField(row.fields, "Id"); id != nil {
		return failed(refuse("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call", "Id"))
	}
	rec, err := s.d.create(row.object, row.fields)
	if err != nil {
		return failed(err)
	}
	return done(rec.id)
}

func (s *Server) updateRow(row inRow) rowResult {
	id, _ := takeField(row.fields, "Id").(string)
	if id == "" {
		return failed(refuse("MISSING_ARGUMENT", "Id not specified in an update call"))
	}
	rec, err := s.find(row.object, id)
	if err == nil {
		err = s.d.update(rec, row.fields)
	}
	if err != nil {
		return failed(err)
	}
	return done(rec.id)
}

// find returns the record of that id, which may be deleted.
func (s *Server) find(o *object, id string) (*record, *RowError) {
	if !idShape.MatchString(id) || (o != nil && !strings.HasPrefix(id, o.prefix)) {
		return nil, refuse("MALFORMED_ID", "malformed id "+id)
	}
	rec := s.d.get(id)
	if rec == nil {
		return nil, refuse("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
	}
	return rec, nil
}

// takeField removes the field from m, in any case, and returns it.
func takeField(m map[string]any, name string) any {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			delete(m, k)
			return v
		}
	}
	return nil
}

// upsertMany returns what upserts one row by an external id.
func (s *Server) upsertMany(objectName, fieldName string, rows []inRow) (func(int, inRow) rowResult, *reply) {
	o, f, out := s.externalID(objectName, fieldName)
	if out != nil {
		return nil, out
	}
	for _, row := range rows {
		if row.object != o {
			refused := failure(http.StatusBadRequest, "INVALID_INPUT", "all records must be of type %s", o.name)
			return nil, &refused
		}
	}
	seen := map[string]bool{}
	return func(_ int, row inRow) rowResult {
		if takeField(row.fields, "Id") != nil {
			return failed(refuse("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an upsert by external id", "Id"))
		}
		value, _ := takeField(row.fields, f.Name).(string)
		if value == "" {
			return failed(refuse("MISSING_ARGUMENT", f.Name+" not specified"))
		}
		if seen[strings.ToLower(value)] {
			return failed(refuse("DUPLICATE_VALUE", "Duplicate external id specified: "+value, f.Name))
		}
		seen[strings.ToLower(value)] = true
		id, created, err := s.upsert(o, f, value, row.fields)
		if err != nil {
			return failed(err)
		}
		return doneUpsert(id, created)
	}, nil
}

// externalID resolves the object and the field of an upsert.
func (s *Server) externalID(objectName, fieldName string) (*object, *Field, *reply) {
	o := s.d.object(objectName)
	if o == nil {
		out := failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
		return nil, nil, &out
	}
	f := o.field(fieldName)
	if f == nil || !f.ExternalID {
		out := failure(http.StatusNotFound, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: %s", fieldName)
		return nil, nil, &out
	}
	return o, f, nil
}

// upsert writes the record whose external id is value. Several such records
// are an error.
func (s *Server) upsert(o *object, f *Field, value string, fields map[string]any) (id string, created bool, err *RowError) {
	found := s.d.byExternalID(o, f, value)
	switch len(found) {
	case 0:
		fields[f.Name] = value
		rec, err := s.d.create(o, fields)
		if err != nil {
			return "", false, err
		}
		return rec.id, true, nil
	case 1:
		return found[0].id, false, s.d.update(found[0], fields)
	}
	var several []string
	for _, r := range found {
		several = append(several, r.id)
	}
	return "", false, refuse("DUPLICATE_EXTERNAL_ID", fmt.Sprintf("%s: more than one record found for external id field: %v", f.Name, several), f.Name)
}

func (s *Server) deleteMany(r *http.Request) reply {
	ids := strings.Split(r.URL.Query().Get("ids"), ",")
	if len(ids) > maxRows {
		return failure(http.StatusBadRequest, "EXCEEDED_ID_LIMIT", "record limit reached. cannot submit more than %d records in one call", maxRows)
	}
	rows := make([]inRow, len(ids))
	return s.writeAll(r.URL.Query().Get("allOrNone") == "true", rows, func(i int, _ inRow) rowResult {
		rec, err := s.find(nil, ids[i])
		if err == nil {
			err = s.d.remove(rec)
		}
		if err != nil {
			return failed(err)
		}
		return done(rec.id)
	})
}

func (s *Server) retrieveMany(r *http.Request, objectName string, body []byte, version string) reply {
	in := struct {
		IDs    []string `json:"ids"`
		Fields []string `json:"fields"`
	}{}
	if r.Method == http.MethodGet {
		in.IDs = strings.Split(r.URL.Query().Get("ids"), ",")
		in.Fields = strings.Split(r.URL.Query().Get("fields"), ",")
	} else if out := decode(body, &in); out != nil {
		return *out
	}
	o := s.d.object(objectName)
	if o == nil {
		return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
	}
	if len(in.IDs) > maxIDs {
		return failure(http.StatusBadRequest, "EXCEEDED_ID_LIMIT", "too many ids")
	}
	for _, f := range in.Fields {
		if o.field(f) == nil {
			return failure(http.StatusBadRequest, "INVALID_FIELD", "No such column '%s' on sobject of type %s", f, o.name)
		}
	}
	out := make([]map[string]any, len(in.IDs))
	for i, id := range in.IDs {
		rec, err := s.find(o, id)
		if err != nil || rec.deleted {
			continue // null
		}
		out[i] = map[string]any{"attributes": attributes(rec, version), "Id": rec.id}
		for _, f := range in.Fields {
			out[i][o.field(f).Name] = rec.value(s.d, f)
		}
	}
	return reply{status: http.StatusOK, body: out, rows: len(in.IDs)}
}

// sobjects answers /sobjects….
func (s *Server) sobjects(r *http.Request, parts []string, body []byte, version string) reply {
	if len(parts) == 0 {
		var list []map[string]any
		for _, name := range []string{"Account", "Contact", "Lead", "Opportunity", "Task", "User"} {
			o := s.d.object(name)
			list = append(list, map[string]any{"name": o.name, "label": o.label, "keyPrefix": o.prefix, "queryable": true, "createable": true, "updateable": true})
		}
		return reply{status: http.StatusOK, body: map[string]any{"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": list}}
	}
	o := s.d.object(parts[0])
	if o == nil {
		return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
	}
	switch {
	case len(parts) == 1 && r.Method == http.MethodPost:
		return s.createOne(o, body)
	case len(parts) == 2 && parts[1] == "describe" && r.Method == http.MethodGet:
		return reply{status: http.StatusOK, body: describe(o)}
	case len(parts) == 2:
		return s.one(r, o, parts[1], body, version)
	case len(parts) == 3:
		return s.byExternalID(r, o, parts[1], parts[2], body, version)
	}
	return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
}

func (s *Server) createOne(o *object, body []byte) reply {
	m, err := decodeRecord(body)
	if err != nil {
		return failure(http.StatusBadRequest, "JSON_PARSER_ERROR", "%s", err.Error())
	}
	res := s.createRow(inRow{o, m})
	if !res.Success {
		return rowFailure(res.Errors[0])
	}
	return reply{status: http.StatusCreated, body: res, rows: 1}
}

// one reads, changes or deletes the record of an id.
func (s *Server) one(r *http.Request, o *object, id string, body []byte, version string) reply {
	rec, rowErr := s.find(o, id)
	if rowErr != nil {
		return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
	}
	if rec.deleted {
		return failure(http.StatusNotFound, "ENTITY_IS_DELETED", "entity is deleted")
	}
	switch r.Method {
	case http.MethodGet:
		return reply{status: http.StatusOK, body: s.whole(rec, r.URL.Query().Get("fields"), version), rows: 1}
	case http.MethodPatch:
		m, err := decodeRecord(body)
		if err != nil {
			return failure(http.StatusBadRequest, "JSON_PARSER_ERROR", "%s", err.Error())
		}
		if rowErr := s.d.update(rec, m); rowErr != nil {
			return rowFailure(rowErr)
		}
		return reply{status: http.StatusNoContent, rows: 1}
	case http.MethodDelete:
		if rowErr := s.d.remove(rec); rowErr != nil {
			return rowFailure(rowErr)
		}
		return reply{status: http.StatusNoContent, rows: 1}
	}
	return failure(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "HTTP Method '%s' not allowed", r.Method)
}

// whole returns a record with the fields named, or with all.
func (s *Server) whole(rec *record, fields, version string) map[string]any {
	out := map[string]any{"attributes": attributes(rec, version), "Id": rec.id}
	for _, f := range rec.object.fields {
		if fields == "" || containsFold(strings.Split(fields, ","), f.Name) {
			out[f.Name] = rec.value(s.d, f.Name)
		}
	}
	return out
}

func containsFold(list []string, s string) bool {
	for _, e := range list {
		if strings.EqualFold(strings.TrimSpace(e), s) {
			return true
		}
	}
	return false
}

// byExternalID reads, upserts or deletes the record of an external id.
func (s *Server) byExternalID(r *http.Request, o *object, fieldName, value string, body []byte, version string) reply {
	_, f, out := s.externalID(o.name, fieldName)
	if out != nil {
		return *out
	}
	if r.Method == http.MethodPatch {
		return s.upsertOne(r, o, f, value, body, version)
	}
	found := s.d.byExternalID(o, f, value)
	if len(found) == 0 {
		return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
	}
	if len(found) > 1 {
		return multiple(found, version)
	}
	return s.one(r, o, found[0].id, body, version)
}

// multiple is the answer where several records carry one external id: nothing
// was done.
func multiple(found []*record, version string) reply {
	urls := make([]string, len(found))
	for i, r := range found {
		urls[i] = attributes(r, version)["url"]
	}
	return reply{status: http.StatusMultipleChoices, body: urls}
}

func (s *Server) upsertOne(r *http.Request, o *object, f *Field, value string, body []byte, version string) reply {
	m, err := decodeRecord(body)
	if err != nil {
		return failure(http.StatusBadRequest, "JSON_PARSER_ERROR", "%s", err.Error())
	}
	for _, name := range []string{f.Name, "Id"} {
		if takeField(m, name) != nil {
			return failure(http.StatusBadRequest, "INVALID_FIELD", "The %s field should not be specified in the sobject data.", name)
		}
	}
	found := s.d.byExternalID(o, f, value)
	if len(found) > 1 {
		return multiple(found, version)
	}
	if len(found) == 0 && r.URL.Query().Get("updateOnly") == "true" {
		return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
	}
	id, created, rowErr := s.upsert(o, f, value, m)
	if rowErr != nil {
		return rowFailure(rowErr)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return reply{status: status, body: doneUpsert(id, created), rows: 1}
}

// describe returns the description of an object.
func describe(o *object) map[string]any {
	fields := make([]map[string]any, 0, len(o.fields))
	for _, f := range o.fields {
		values := []map[string]any{}
		for _, v := range f.Values {
			values = append(values, map[string]any{"value": v, "label": v, "active": true, "defaultValue": v == f.Default})
		}
		refs := f.RefersTo
		if refs == nil {
			refs = []string{}
		}
		length, digits := f.Length, 0
		if f.Type == Int {
			length, digits = 0, f.Length
		}
		fields = append(fields, map[string]any{
			"name": f.Name, "label": f.Label, "type": f.Type, "length": length, "digits": digits,
			"createable": !f.readOnly, "updateable": !f.readOnly && !f.createOnly,
			"nillable": !f.Required, "defaultedOnCreate": f.Default != nil,
			"externalId": f.ExternalID, "idLookup": f.ExternalID || f.Type == ID, "unique": f.Unique,
			"custom": strings.HasSuffix(f.Name, "__c"), "filterable": !f.noFilter,
			"picklistValues": values, "restrictedPicklist": f.Restricted,
			"referenceTo": refs, "relationshipName": orNil(f.Relation),
		})
	}
	return map[string]any{"name": o.name, "label": o.label, "keyPrefix": o.prefix, "createable": true, "updateable": true, "deletable": true, "queryable": true, "fields": fields}
}
