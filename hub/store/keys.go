package store

import (
	"fmt"

	"github.com/optiwe/callbridge/hub"
)

// Key names. Every key of an org carries the hash tag of its shard, so a script
// may touch the call, its transfers, their lane, the shard's line and the org's
// audit stream in one step. The scripts in lua/ build the same names from the
// prefix of KEYS[1].
//
//	cb:{NN}:orgs                    zset  org -> when it was made, ms
//	cb:{NN}:org:<org>               hash  doc (sealed), st, ver, keyset (wrapped), aseq, open, chg, noted
//	cb:{NN}:keys:<org>              hash  key id -> sealed key record
//	cb:{NN}:secrets:<org>           hash  secret id -> sealed signing secret
//	cb:{NN}:conns:<org>             set   connection ids
//	cb:{NN}:conn:<org>:<conn>       hash  doc (sealed), st, why, pv, tok (sealed), tv, fence, lease, pause, …
//	cb:{NN}:integs:<org>            set   integration ids
//	cb:{NN}:integ:<org>:<integ>     hash  doc (sealed), en, gr, fly (transfers being sent)
//	cb:{NN}:grants:<org>:<integ>    list  sealed grants, oldest first
//	cb:{NN}:call:<org>:<call>       hash  rev, dg, ct (sealed), sh, tok, keep, gone, xl (all transfers),
//	                                      open, x:<integ> (the last transfer there)
//	cb:{NN}:xfer:<org>:<transfer>   hash  a transfer, see lua/common.lua
//	cb:{NN}:lane:<org>:<conn>       zset  open transfer -> when it is due, ms; never, while it waits behind another one
//	cb:{NN}:pace:<org>:<conn>       hash  pace key -> tickets of that place, see lua/claim.lua
//	cb:{NN}:lanes:<org>             zset  connection -> when its lane is due, or its lease ends
//	cb:{NN}:ready                   zset  org -> when its first lane is due
//	cb:{NN}:audit:<org>             stream
//	cb:{NN}:cp:<org>:<call>         hash  integration -> the copy, JSON
//	cb:{NN}:cpx:<org>               zset  "call integ" -> when the copy was last written
//	cb:{NN}:subject:<org>:<digest>  set   calls that concern a person
//	cb:{NN}:xs:<org>[:<state>]      zset  transfer -> when it was made
//	cb:{NN}:idem:<org>:<key>        string, with a time to live
//	cb:{NN}:retain                  zset  "org|call" -> when its content may go
//	cb:{NN}:expire                  zset  "org|call|integ" -> when the copy is to be erased
//	cb:{NN}:claim:<token>           string, with a time to live
func shardPrefix(shard int) string { return fmt.Sprintf("cb:{%02d}:", shard) }

func prefix(org hub.OrgID) string { return shardPrefix(org.Shard()) }

func orgKey(org hub.OrgID) string { return prefix(org) + "org:" + string(org) }

func orgsKey(shard int) string { return shardPrefix(shard) + "orgs" }

func readyKey(shard int) string { return shardPrefix(shard) + "ready" }

func connKey(org hub.OrgID, c hub.ConnectionID) string {
	return prefix(org) + "conn:" + string(org) + ":" + string(c)
}

func integKey(org hub.OrgID, i hub.IntegrationID) string {
	return prefix(org) + "integ:" + string(org) + ":" + string(i)
}

func callKey(org hub.OrgID, c hub.CallID) string {
	return prefix(org) + "call:" + string(org) + ":" + string(c)
}

func xferKey(org hub.OrgID, t hub.TransferID) string {
	return prefix(org) + "xfer:" + string(org) + ":" + string(t)
}

func laneKey(org hub.OrgID, c hub.ConnectionID) string {
	return prefix(org) + "lane:" + string(org) + ":" + string(c)
}

func auditKey(org hub.OrgID) string { return prefix(org) + "audit:" + string(org) }

func copiesKey(org hub.OrgID, c hub.CallID) string {
	return prefix(org) + "cp:" + string(org) + ":" + string(c)
}

func copyIndexKey(org hub.OrgID) string { return prefix(org) + "cpx:" + string(org) }

func subjectKey(org hub.OrgID, digest string) string {
	return prefix(org) + "subject:" + string(org) + ":" + digest
}

func idemKey(org hub.OrgID, key string) string {
	return prefix(org) + "idem:" + string(org) + ":" + key
}

func indexKey(org hub.OrgID, state hub.TransferState) string {
	k := prefix(org) + "xs:" + string(org)
	if state != "" {
		k += ":" + string(state)
	}
	return k
}
