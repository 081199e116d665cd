package api

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/all"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/intake"
)

func TestDoc(t *testing.T) {
	reg, err := connectors.NewRegistry(all.Descriptors(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Admin: admin.New(admin.Config{Connectors: reg}), Intake: intake.New(intake.Config{}), Ready: func(context.Context) error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile("/tmp/openapi.json", a.Document(), 0o600)
}
