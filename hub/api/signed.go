package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/webhooks"
)

// signature documents the headers of a signed call; webhooks reads them.
type signature struct {
	Org       string `path:"org" doc:"The org that the call is of." example:"org_acme"`
	ID        string `header:"webhook-id" doc:"Names the message, and is its idempotency key. The same when it is sent again." example:"msg_2aFzQ7"`
	Timestamp string `header:"webhook-timestamp" doc:"When it was signed, in seconds since 1970; at most 5 minutes from our clock." example:"1795219331"`
	Signature string `header:"webhook-signature" doc:"Signatures of version v1, separated by blanks." example:"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="`
}

func (a *API) registerSignedCalls() {
	handleRaw[signature, callBody, accepted](a, op{
		pattern: "POST /webhooks/calls/{org}", id: "postSignedCall", tag: tagCalls, summary: "Post a call, signed", status: http.StatusAccepted,
		text: "For producers that send webhooks after the Standard Webhooks specification: signed with a signing secret of the org instead of a key. Answered as `POST /v1/calls` is. " +
			"A wrong or an old signature is 401, and nothing is stored; whether there is such an org cannot be told from the answer.",
		request: example(callExample), answer: example(acceptedExample),
	}, a.postSigned)
}

// postSigned accepts one call that came with a signature.
func (a *API) postSigned(ctx context.Context, x *exchange, p *signature) ([]byte, error) {
	org := hub.OrgID(p.Org)
	id, secret, err := a.verify(ctx, x, org)
	if err != nil {
		return nil, err
	}
	if err := a.count(org, 1); err != nil {
		return nil, err
	}
	call, err := decodeCall(x.body)
	if err != nil {
		return nil, err
	}
	out, err := a.cfg.Intake.Accept(ctx, org, intake.Request{
		Actor: "signature:" + secret, Secret: secret, Call: call, Body: x.body, IdempotencyKey: "webhook:" + id,
	})
	if errors.Is(err, intake.ErrSender) {
		return nil, notSigned(webhooks.ErrSignature)
	}
	return out, err
}

// verify returns the webhook-id and the id of the secret that the request was
// signed with. An org that does not exist is one without secrets.
func (a *API) verify(ctx context.Context, x *exchange, org hub.OrgID) (id, secret string, err error) {
	address := a.cfg.ClientAddress(x.r)
	if a.strangers.empty(address) {
		return "", "", a.tooManyFailures(address)
	}
	// Our configuration may be older than the secret, or still have one that
	// was deleted; intake looks at the newest.
	for _, fresh := range []bool{false, true} {
		secrets, err := a.secretsOf(ctx, org, fresh)
		if err != nil {
			return "", "", err
		}
		id, secret, err = verifyOne(secrets, x)
		if err == nil {
			return id, secret, nil
		}
		if fresh || !errors.Is(err, webhooks.ErrSignature) {
			if _, ok := a.strangers.take(address, 1); !ok {
				return "", "", a.tooManyFailures(address)
			}
			return "", "", notSigned(err)
		}
	}
	return "", "", notSigned(webhooks.ErrSignature)
}

func (a *API) secretsOf(ctx context.Context, org hub.OrgID, fresh bool) ([]directory.SigningSecret, error) {
	if !hub.ValidOrgID(string(org)) {
		return nil, nil
	}
	secrets, err := a.cfg.Admin.SigningSecrets(ctx, org, fresh)
	if errors.Is(err, admin.ErrNotFound) {
		return nil, nil
	}
	return secrets, err
}

func verifyOne(secrets []directory.SigningSecret, x *exchange) (id, secret string, err error) {
	now := time.Now()
	for _, s := range secrets {
		if id, err = webhooks.Verify([]hub.Secret{s.Secret}, x.r.Header, x.body, now); err == nil {
			return id, s.ID, nil
		}
	}
	if err == nil { // no secret: the same answer as of a wrong signature
		_, err = webhooks.Verify(nil, x.r.Header, x.body, now)
	}
	return "", "", err
}

// notSigned is the answer to every signature that is not valid.
func notSigned(err error) error {
	return newProblem(http.StatusUnauthorized, codeSignature, "The request is not signed as it must be: "+err.Error()+".").
		with("WWW-Authenticate", `StandardWebhooks realm="callbridge"`)
}
