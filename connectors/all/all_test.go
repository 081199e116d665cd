package all_test

import (
	"slices"
	"testing"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/all"
)

// TestRegistry checks that every shipped connector can be opened with no
// settings, under a name of its own.
func TestRegistry(t *testing.T) {
	t.Parallel()
	r, err := connectors.NewRegistry(all.Descriptors(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"salesforce", "slack", "webhook"}; !slices.Equal(r.Names(), want) {
		t.Errorf("connectors %v, want %v", r.Names(), want)
	}
}
