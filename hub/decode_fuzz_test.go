package hub_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/samples"
)

// FuzzDecodeCall holds the decoder against encoding/json: what is taken is
// JSON, means the same there, and comes back the same when it is written and
// read again; what is refused as no JSON is none.
func FuzzDecodeCall(f *testing.F) {
	f.Add([]byte(full))
	all, err := samples.Load()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range all {
		f.Add(s.Raw)
	}
	for _, c := range samples.Generate(rand.New(rand.NewPCG(3, 4)), 20) {
		raw, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, seed := range []string{
		``, `{}`, `[[[[[[[[[[[[[[[[[[`, `{"id":"\ud83d\ude00","title":"\u0000"}`, "{\"id\":\"\xff\"}", `{"custom":{"a":1e999,"a":"\u003c"}}`, `{"duration_seconds":1.8e3,"sentiment":-0.0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, wrong := hub.DecodeCall(data)
		checkDetails(t, wrong)
		if len(wrong) > 0 {
			checkRefused(t, data, c, wrong)
			return
		}
		checkTaken(t, data, c)
	})
}

func checkRefused(t *testing.T, data []byte, c hub.Call, wrong []hub.FieldError) {
	t.Helper()
	if len(wrong) > hub.MaxFieldErrors || !cmp.Equal(c, hub.Call{}) {
		t.Errorf("%d problems and a call", len(wrong))
	}
	for _, w := range wrong {
		if strings.Contains(w.Detail, "not valid JSON") && (len(wrong) > 1 || json.Valid(data)) {
			t.Errorf("refused as no JSON: %v", wrong)
		}
	}
}

func checkTaken(t *testing.T, data []byte, c hub.Call) {
	t.Helper()
	if !json.Valid(data) || !utf8.Valid(data) {
		t.Fatal("not JSON in UTF-8, and taken")
	}
	var std hub.Call
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&std); err != nil && !strings.Contains(err.Error(), "duration_seconds") { // encoding/json takes no 60.0 for an int
		t.Fatalf("encoding/json: %v", err)
	}
	std.DurationSeconds = c.DurationSeconds
	if a, b := hub.Canonical(c), hub.Canonical(std); !bytes.Equal(a, b) {
		t.Fatalf("encoding/json reads another call:\n%s\n%s", a, b)
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, wrong := hub.DecodeCall(encoded)
	if len(wrong) > 0 {
		t.Fatalf("its own encoding is refused: %v\n%s", wrong, encoded)
	}
	if diff := cmp.Diff(c, again); diff != "" {
		t.Fatalf("written and read again, it is another:\n%s", diff)
	}
	if !bytes.Equal(hub.Canonical(c), hub.Canonical(again)) {
		t.Fatal("written and read again, its canonical form is another")
	}
}

// FuzzSplitBatch holds the splitter against encoding/json.
func FuzzSplitBatch(f *testing.F) {
	for _, seed := range []string{
		`{"calls":[]}`, `{"calls":[` + full + `,` + full + `]}`, `{"calls":[1,"\ud800",[[[]]],{"a":{"b":[{}]}}]}`, `{"calls":[{]}`, `{"calls":{}}`, "{\"calls\":[\"\xff\"]}", `{"calls":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, wrong := hub.SplitBatch(data)
		checkDetails(t, wrong)
		if len(wrong) > 0 {
			if got != nil {
				t.Error("problems and calls")
			}
			return
		}
		var std struct {
			Calls []json.RawMessage `json:"calls"`
		}
		if err := json.Unmarshal(data, &std); err != nil && !strings.Contains(err.Error(), "exceeded max depth") {
			t.Fatalf("encoding/json: %v", err)
		} else if err != nil {
			return
		}
		if len(got) != len(std.Calls) {
			t.Fatalf("%d calls, encoding/json reads %d", len(got), len(std.Calls))
		}
		for i := range got {
			if !bytes.Equal(got[i], std.Calls[i]) {
				t.Errorf("call %d is %q, encoding/json reads %q", i, got[i], std.Calls[i])
			}
		}
	})
}

func BenchmarkDecodeCall(b *testing.B) {
	all, err := samples.Load()
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range []samples.Sample{all[0], all[5], all[10]} {
		b.Run(s.Name, func(b *testing.B) {
			b.SetBytes(int64(len(s.Raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, wrong := hub.DecodeCall(s.Raw); len(wrong) > 0 {
					b.Fatal(wrong)
				}
			}
		})
	}
}

// BenchmarkDecodeCallRefused measures the worst a body of 1 MiB can ask for.
func BenchmarkDecodeCallRefused(b *testing.B) {
	for name, data := range map[string][]byte{
		"escapes": []byte(`{"x":"` + strings.Repeat(`\u0041`, 170_000) + `"}`),
		"members": []byte(`{` + strings.Repeat(`"custom":{},`, 87_000) + `"x":1}`),
		"entries": []byte(`{"topics":[` + strings.Repeat(`"a",`, 260_000) + `"a"]}`),
		"nested":  []byte(`{"x":` + strings.Repeat(`[`, 1_000_000)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, wrong := hub.DecodeCall(data); len(wrong) == 0 {
					b.Fatal("taken")
				}
			}
		})
	}
}

func BenchmarkSplitBatch(b *testing.B) {
	data := []byte(`{"calls":[` + strings.Repeat(full+",", hub.MaxBatch-1) + full + `]}`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if calls, wrong := hub.SplitBatch(data); len(calls) != hub.MaxBatch {
			b.Fatal(wrong)
		}
	}
}
