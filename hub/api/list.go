package api

import (
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/store"
)

// list is a page of a list.
type list[T any] struct {
	Items []T     `json:"items" nullable:"false" doc:"The page."`
	Next  *string `json:"next_cursor" doc:"Where the list goes on: the cursor of the next request. null at the end."`
}

// Page is what every list takes.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many items the page has at most."`
	Cursor string `query:"cursor" maxLength:"512" doc:"next_cursor of the page before. Left out for the first page."`
}

func (p Page) store() store.Page { return store.Page{Cursor: p.Cursor, Limit: p.Limit} }

// listOf makes a page of what the store gave.
func listOf[F, T any](from []F, next string, view func(F) T) list[T] {
	out := list[T]{Items: make([]T, 0, len(from)), Next: textOrNull(next)}
	for _, f := range from {
		out.Items = append(out.Items, view(f))
	}
	return out
}

// cut makes a page of a list that is there as a whole. Its cursor is the key of
// the last item of the page before: of items that came or went in between
// nothing is shown twice.
func cut[F, T any](p Page, all []F, key func(F) string, view func(F) T) (list[T], error) {
	from := 0
	if p.Cursor != "" {
		i := slices.IndexFunc(all, func(f F) bool { return key(f) == p.Cursor })
		if i < 0 {
			return list[T]{}, invalidInput(hub.FieldError{Pointer: "/cursor", Detail: "is not one that this list gave out, or its item is gone"})
		}
		from = i + 1
	}
	rest, next := all[from:], ""
	if len(rest) > p.Limit {
		rest = rest[:p.Limit]
		next = key(rest[len(rest)-1])
	}
	return listOf(rest, next, view), nil
}

// sortedBy returns all sorted by time and then by id.
func sortedBy[F any](all []F, at func(F) time.Time, id func(F) string) []F {
	slices.SortFunc(all, func(x, y F) int {
		if c := at(x).Compare(at(y)); c != 0 {
			return c
		}
		return strings.Compare(id(x), id(y))
	})
	return all
}

// Members that are null when there is nothing to say.

func textOrNull[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}

func numberOrNull(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

// timeOrNull also leaves out times that RFC 3339 cannot say: that of a transfer
// that waits behind another one never comes.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() || t.Year() > 9999 {
		return nil
	}
	return &t
}

// orEmpty returns s, never nil, so that it is [] in JSON.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
