// Package all is the list of the connectors that Callbridge ships. A new
// connector is one folder and one line here.
package all

import (
	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/salesforce"
	"github.com/optiwe/callbridge/connectors/slack"
	"github.com/optiwe/callbridge/connectors/webhook"
)

// Descriptors returns every shipped connector, in the order the console shows
// them.
func Descriptors() []connectors.Descriptor {
	return []connectors.Descriptor{
		salesforce.Descriptor(),
		slack.Descriptor(),
		webhook.Descriptor(),
	}
}
