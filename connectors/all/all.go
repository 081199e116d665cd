// Package all lists the connectors that are shipped. It is the one line that a
// new connector adds outside its own folder.
package all

import (
	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/salesforce"
	"github.com/optiwe/callbridge/connectors/slack"
	"github.com/optiwe/callbridge/connectors/webhook"
)

// Descriptors returns every shipped connector, in the order in which people see
// them.
func Descriptors() []connectors.Descriptor {
	return []connectors.Descriptor{
		salesforce.Descriptor(),
		slack.Descriptor(),
		webhook.Descriptor(),
	}
}
