// Package vault keeps the tokens of connections: sealed, versioned, and
// refreshed by one process at a time.
//
// A refresh is the dangerous moment. Providers spend a refresh token on its
// first use, and Salesforce revokes everything that came of it when it is used
// again. So a refresh is one exchange with the [Store] before and one after:
//
//	take   the right to refresh, with a lease longer than the call can take,
//	       noted as an intent before the call is made
//	call   the provider, once
//	put    the new pair, if version and taker are still ours, before anybody
//	       uses it; repeated until it is certain, never the call
//
// What this cannot prevent: if the process dies, or loses the store for good,
// after the provider has spent the old token and before the new pair is
// stored, the new pair is lost. The intent then stays behind, so that it is
// noticed: the access token is used while it lives, after that one more try is
// made, and if the provider refuses that, the connection needs an admin.
package vault
