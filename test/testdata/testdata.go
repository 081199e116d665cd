// Package testdata embeds the files that tests and the demo share. Read them
// through package samples.
package testdata

import "embed"

// Files holds calls/ (sample calls, one JSON document each), crm.json and
// workspace.json.
//
//go:embed calls/*.json crm.json workspace.json
var Files embed.FS
