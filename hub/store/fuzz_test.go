package store

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
)

func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "1~x", "1795186800000~tr_1", "~", "1~", "nan~x", "inf~x", "-inf~x", "1e400~x", "0x1p3~y", "1~a~b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil {
			return
		}
		if math.IsNaN(c.score) {
			t.Fatalf("%q has no place in a list", s)
		}
		if s == "" {
			return
		}
		again, err := parseCursor(c.String())
		if err != nil || again != c {
			t.Fatalf("%q is %+v, which is written as %q and read as %+v, %v", s, c, c.String(), again, err)
		}
	})
}

func FuzzEntryID(f *testing.F) {
	for _, s := range []string{"1-0", "0-0", "-0", "1-1", "(1-0", "+1-0", "01-0", "9223372036854775808-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// Whatever is accepted stands behind "(" in a command: it must be a place in a stream and nothing else.
		if validEntryID(s) && strings.Trim(s, "0123456789-") != "" {
			t.Fatalf("%q was accepted", s)
		}
	})
}

func FuzzCopyRegister(f *testing.F) {
	f.Add(`{"x":"tr_1","n":"con_a","r":"2","g":1,"rc":"{\"id\":\"1\"}","rd":"d","pd":"p","at":1795186800000}`)
	f.Add(`{"x":"tr_1","n":"con_a","r":2,"g":"1","rc":"","at":1.795e12}`)
	f.Add(`{"rc":"[]"}`)
	f.Add(`{"rc":"null"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, reg string) {
		c, err := parseCopy(reg, "c1", "int_a")
		if err != nil {
			if len(reg) > 20 && strings.Contains(err.Error(), reg) {
				t.Fatalf("the error holds the register: %v", err)
			}
			return
		}
		if c.Call != "c1" || c.Integration != "int_a" {
			t.Fatalf("%q gives %+v", reg, c)
		}
	})
}

// What a script writes of a copy is read as it was meant.
func TestCopyRegisterForms(t *testing.T) {
	t.Parallel()
	want := Copy{
		Call: "c1", Integration: "int_a", Connection: "con_a", Transfer: "tr_1", Revision: 2, Grant: 3,
		Receipt: connectors.Receipt{"id": "a\"/\n"}, Released: "d", Payload: "p", At: ms("1795186800000"),
	}
	receipt, err := json.Marshal(want.Receipt)
	ok(t, err)
	quoted, err := json.Marshal(string(receipt))
	ok(t, err)
	for _, numbers := range []string{`"r":"2","g":"3","at":1795186800000`, `"r":2,"g":3,"at":1.7951868e+12`} {
		got, err := parseCopy(`{"x":"tr_1","n":"con_a",`+numbers+`,"rc":`+string(quoted)+`,"rd":"d","pd":"p"}`, "c1", "int_a")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func FuzzTransfer(f *testing.F) {
	f.Add("c1", "2", `{"id":"1"}`, "title,summary", `[{"field":"Subject","kind":"truncated"}]`, "1795186800000")
	f.Add("c1", "x", "", "", "[]", "")
	f.Add("c1", "1e99", "null", ",", "null", "-1")
	f.Fuzz(func(t *testing.T, call, number, receipt, fields, losses, at string) {
		v := make([]any, len(transferFields()))
		for i := range v {
			v[i] = number
		}
		v[0], v[14], v[15], v[16], v[18], v[19] = call, receipt, fields, losses, at, nil
		x, err := parseTransfer("tr_1", v)
		if err == nil && (x.ID != "tr_1" || x.Call != hub.CallID(call)) {
			t.Fatalf("%+v", x)
		}
	})
}
