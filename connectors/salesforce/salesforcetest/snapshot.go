package salesforcetest

import "maps"

// snapshot is what is needed to take an allOrNone call back.
type snapshot struct {
	byID   map[string]*record
	order  map[string][]*record
	unique map[string]map[string]*record
	values map[*record]record
}

func (d *store) snapshot() *snapshot {
	s := &snapshot{byID: maps.Clone(d.byID), order: maps.Clone(d.order), unique: map[string]map[string]*record{}, values: make(map[*record]record, len(d.byID))}
	for k, m := range d.unique {
		s.unique[k] = maps.Clone(m)
	}
	for _, r := range d.byID {
		s.values[r] = *r // fields are replaced as a whole, never changed
	}
	return s
}

func (d *store) restore(s *snapshot) {
	d.byID, d.order, d.unique = s.byID, s.order, s.unique
	for r, v := range s.values {
		*r = v
	}
}
