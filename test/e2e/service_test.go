// Package e2e drives the real binary with a real Redis and the fakes of the
// providers through the outer contract, and kills it.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/connectors/webhook/webhooktest"
	"github.com/optiwe/callbridge/test/redistest"
)

var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run builds the command once for all tests.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "callbridge-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "callbridge")
	out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// world is everything around the service.
type world struct {
	redis      *redistest.Server
	slack      *slacktest.Server
	salesforce *salesforcetest.Server
	webhook    *webhooktest.Server
	env        []string
	listen     string
}

// newWorld starts a Redis that keeps everything and the fakes.
func newWorld(t *testing.T, slack slacktest.Options) *world {
	t.Helper()
	w := &world{
		redis:      redistest.Start(t, redistest.Options{AppendFsync: "always"}),
		slack:      slacktest.New(t, slack),
		salesforce: salesforcetest.New(t),
		webhook:    webhooktest.New(t, webhooktest.Options{}),
		listen:     freeAddress(t),
	}
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	out, code := command(t, nil, "keyset", "new")
	if code != 0 {
		t.Fatalf("keyset new: exit %d", code)
	}
	if err := os.WriteFile(keyset, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	id, secret := w.salesforce.ClientCredentials()
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"CALLBRIDGE_REDIS_URL=" + w.redis.URL(),
		"CALLBRIDGE_LISTEN=" + w.listen,
		"CALLBRIDGE_KEYSET=file:" + keyset,
		"CALLBRIDGE_SALESFORCE_CLIENT_ID=" + id,
		"CALLBRIDGE_SALESFORCE_CLIENT_SECRET=" + secret,
		"CALLBRIDGE_SALESFORCE_LOGIN_URL=" + w.salesforce.URL,
		"CALLBRIDGE_SLACK_CLIENT_ID=1234.5678",
		"CALLBRIDGE_SLACK_CLIENT_SECRET=fake-client-secret",
		"CALLBRIDGE_SLACK_API_URL=" + w.slack.APIURL() + "/",
		"CALLBRIDGE_ALLOW_PRIVATE_HOSTS=" + strings.Join([]string{hostOf(w.slack.URL), hostOf(w.salesforce.URL), w.webhook.Host()}, ","),
		"CALLBRIDGE_LOG_LEVEL=debug",
		"CALLBRIDGE_LANE_LEASE=3s",
	}
	return w
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// freeAddress returns an address that was free a moment ago. It is below the
// range from which the system gives out ports by itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	for port := 18000 + os.Getpid()%1000; port < 20000; port++ {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// command runs the binary to its end and returns what it printed and its status.
func command(t *testing.T, env []string, args ...string) (stdout string, code int) {
	t.Helper()
	out, errs, code := commandAll(t, env, args...)
	if code != 0 {
		t.Logf("callbridge %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out, code
}

func commandAll(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = env
	if env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("callbridge %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// service is `callbridge serve` while it runs.
type service struct {
	cmd  *exec.Cmd
	done chan error
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts the service and waits until it can accept calls.
func (w *world) serve(t *testing.T, log *lockedBuffer) *service {
	t.Helper()
	s := &service{cmd: exec.Command(binary, "serve"), done: make(chan error, 1), log: log}
	s.cmd.Env = w.env
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	for range 600 {
		resp, err := http.Get("http://" + w.listen + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s
			}
		}
		select {
		case err := <-s.done:
			t.Fatalf("serve ended: %v\n%s", err, log)
		case <-time.After(25 * time.Millisecond):
		}
	}
	t.Fatalf("serve is not ready after 15 s\n%s", log)
	return nil
}

// kill ends the service without warning.
func (s *service) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// org is an org with its admin key.
type org struct {
	ID     string `json:"org_id"`
	Key    string `json:"api_key"`
	Secret string `json:"signing_secret"`
	base   string
}

func (w *world) createOrg(t *testing.T, name string) *org {
	t.Helper()
	out, code := command(t, w.env, "org", "create", name)
	if code != 0 {
		t.Fatalf("org create: exit %d", code)
	}
	o := &org{base: "http://" + w.listen}
	if err := json.Unmarshal([]byte(out), o); err != nil || o.ID == "" || o.Key == "" {
		t.Fatalf("org create printed %q: %v", out, err)
	}
	return o
}

// call makes a request and returns the status and the answer.
func (o *org) call(ctx context.Context, method, path string, body any) (int, []byte, error) {
	b, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+o.Key)
	if b != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// must makes a request that must end with the status, and reads the answer.
func (o *org) must(t *testing.T, status int, method, path string, body any) map[string]any {
	t.Helper()
	got, answer, err := o.call(t.Context(), method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if got != status {
		t.Fatalf("%s %s: %d, want %d: %s", method, path, got, status, answer)
	}
	out := map[string]any{}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, answer)
		}
	}
	return out
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

func items(m map[string]any, name string) []map[string]any {
	list, _ := m[name].([]any)
	out := make([]map[string]any, 0, len(list))
	for _, x := range list {
		if e, ok := x.(map[string]any); ok {
			out = append(out, e)
		}
	}
	return out
}

// connect imports the three accounts and returns their connections' ids.
func (w *world) connectSalesforce(t *testing.T, o *org) string {
	t.Helper()
	access, refresh := w.salesforce.Authorize()
	return text(o.must(t, 201, "POST", "/v1/connections", map[string]any{
		"provider": "salesforce", "instance_url": w.salesforce.URL, "access_token": access, "refresh_token": refresh,
	}), "id")
}

func (w *world) connectSlack(t *testing.T, o *org) string {
	t.Helper()
	return text(o.must(t, 201, "POST", "/v1/connections", map[string]any{
		"provider": "slack", "access_token": w.slack.Token(), "team_id": w.slack.TeamID(),
	}), "id")
}

func (w *world) connectWebhook(t *testing.T, o *org) string {
	t.Helper()
	return text(o.must(t, 201, "POST", "/v1/connections", map[string]any{
		"provider": "webhook", "url": w.webhook.URL, "secret": w.webhook.Secret(),
	}), "id")
}

// integrate makes and enables an integration.
func (o *org) integrate(t *testing.T, conn string, destination any, fields ...string) string {
	t.Helper()
	id := text(o.must(t, 201, "POST", "/v1/integrations", map[string]any{
		"connection_id": conn, "name": "e2e", "fields": fields, "destination": destination,
	}), "id")
	o.must(t, 200, "POST", "/v1/integrations/"+id+"/enable", map[string]any{"accepted_terms": "2020-05-01"})
	return id
}

// await waits until no transfer of the call is open, and returns them.
func (o *org) await(t *testing.T, callID string) []map[string]any {
	t.Helper()
	for range 1200 {
		list := items(o.must(t, 200, "GET", "/v1/transfers?call_id="+url.QueryEscape(callID)+"&limit=100", nil), "items")
		open := 0
		for _, tr := range list {
			switch text(tr, "state") {
			case "waiting", "sending", "held":
				open++
			}
		}
		if open == 0 {
			return list
		}
		<-time.After(25 * time.Millisecond)
	}
	t.Fatalf("transfers of %s are still open after 30 s", callID)
	return nil
}
