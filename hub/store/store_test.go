package store

import (
	"testing"
)

// TestStore runs every case on every kind of Redis.
func TestStore(t *testing.T) {
	eachBackend(t, func(t *testing.T, b backend) {
		for _, group := range [][]testCase{acceptCases(), laneCases(), settleCases(), readCases(), configCases()} {
			for _, c := range group {
				t.Run(c.name, func(t *testing.T) { c.run(t, b.new(t)) })
			}
		}
	})
}

type testCase struct {
	name string
	run  func(*testing.T, *harness)
}
