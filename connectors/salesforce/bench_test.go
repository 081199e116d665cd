package salesforce

import (
	"strings"
	"testing"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

func BenchmarkRender(b *testing.B) {
	c, err := newConnector(connectors.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for name, summary := range map[string]string{
		"usual":   discovery().Summary,
		"long":    strings.Repeat("Some *words* of a [summary](https://x.example) and `more`.\n", 800),
		"hostile": strings.Repeat("[*_`~", 10_000),
	} {
		call := discovery()
		call.Summary = summary
		item := itemOf(consenttest.Release(b, call, everyField()...), withID)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Render(item); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
