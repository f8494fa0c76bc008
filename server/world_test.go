package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
)

const product = "acme/rules"

// quick is a policy whose whole life passes within a second or two.
func quick() rollout.Policy {
	d := func(d time.Duration) span.Duration { return span.Duration(d) }
	p := rollout.DefaultPolicy()
	p.Name, p.Ladder, p.Growth = "quick", []int64{2, 10}, 10
	p.Probation, p.Grace, p.GrantTTL, p.FillTimeout = d(20*time.Millisecond), d(time.Minute), d(time.Minute), d(50*time.Millisecond)
	p.MinProven, p.MinControls = 0.9, 0
	p.Poll, p.Beacon = d(50*time.Millisecond), d(time.Minute)
	return p
}

func policyJSON(t testing.TB, p rollout.Policy) string {
	t.Helper()
	b, err := json.Marshal(p)
	check(t, err)
	return string(b)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a running server with an operator's clients, and the keys that stay
// outside of it.
type world struct {
	testing.TB
	*Server
	clients
	ops, vendorKeys []*tuf.Key
	vendorMeta      []byte
	enrolToken      string
}

// clients speak to a server with one token.
type clients struct {
	base    string
	token   string
	web     *http.Client
	agent   headgatev1connect.AgentServiceClient
	account headgatev1connect.AccountServiceClient
	catalog headgatev1connect.CatalogServiceClient
	fleet   headgatev1connect.FleetServiceClient
	ledger  headgatev1connect.LedgerServiceClient
	repo    headgatev1connect.RepositoryServiceClient
	rollout headgatev1connect.RolloutServiceClient
	cases   headgatev1connect.CaseServiceClient
	reports headgatev1connect.ReportServiceClient
}

func newClients(base, token string) clients {
	hc := &http.Client{
		Timeout: time.Minute,
		Transport: bearerTransport{token, &http.Transport{
			MaxIdleConnsPerHost: 256, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // TestFingerprintIsTheCertificates checks the certificate
		}},
	}
	return clients{
		base: base, token: token, web: hc,
		agent: headgatev1connect.NewAgentServiceClient(hc, base), account: headgatev1connect.NewAccountServiceClient(hc, base),
		catalog: headgatev1connect.NewCatalogServiceClient(hc, base), fleet: headgatev1connect.NewFleetServiceClient(hc, base),
		ledger: headgatev1connect.NewLedgerServiceClient(hc, base), repo: headgatev1connect.NewRepositoryServiceClient(hc, base),
		rollout: headgatev1connect.NewRolloutServiceClient(hc, base),
		cases:   headgatev1connect.NewCaseServiceClient(hc, base), reports: headgatev1connect.NewReportServiceClient(hc, base),
	}
}

// bearerTransport adds a token to each request.
type bearerTransport struct {
	token string
	next  http.RoundTripper
}

func (b bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" && r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

func testConfig(t testing.TB) Config {
	cfg := Config{Data: t.TempDir(), Listen: "127.0.0.1:0", InsecureHTTP: true, DecideEvery: span.Duration(50 * time.Millisecond), CheckpointEvery: span.Duration(200 * time.Millisecond)}
	if os.Getenv("HEADGATE_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return cfg
}

func startServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	check(t, err)
	check(t, s.Start(context.Background()))
	return s
}

func stopServer(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// newWorld starts a server with a published repository, vendor acme (2 of 3),
// product acme/rules and tenant t1.
func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	cfg := testConfig(t)
	for _, f := range change {
		f(&cfg)
	}
	s := startServer(t, cfg)
	t.Cleanup(func() { stopServer(t, s) })
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	w.found()
	return w
}

func (w *world) adminToken() string {
	b, err := os.ReadFile(filepath.Join(w.cfg.Data, "operator.token"))
	check(w, err)
	return strings.TrimSpace(string(b))
}

func newKeys(t testing.TB, n int) (keys []*tuf.Key, pubs []tuf.PublicKey) {
	for range n {
		k, err := tuf.NewKey()
		check(t, err)
		keys, pubs = append(keys, k), append(pubs, k.Public())
	}
	return keys, pubs
}

func sign(t testing.TB, meta []byte, keys ...*tuf.Key) []byte {
	t.Helper()
	for _, k := range keys {
		var err error
		meta, err = tuf.Sign(meta, k)
		check(t, err)
	}
	return meta
}

// year is an expiry far enough away.
func year() time.Time { return time.Now().Add(365 * 24 * time.Hour).UTC().Truncate(time.Second) }

// found publishes root and targets and makes vendor, product and tenant.
func (w *world) found() {
	w.Helper()
	ctx := w.Context()
	online, err := w.repo.GetOnlineKeys(ctx, connect.NewRequest(&headgatev1.GetOnlineKeysRequest{}))
	check(w, err)
	pub := func(b []byte) tuf.PublicKey {
		k, err := tuf.ParsePublic(b)
		check(w, err)
		return k
	}
	var opPubs, vendorPubs []tuf.PublicKey
	w.ops, opPubs = newKeys(w, 3)
	w.vendorKeys, vendorPubs = newKeys(w, 3)
	root, err := tuf.NewRoot(tuf.RootSpec{Operators: opPubs, Threshold: 2, Snapshot: pub(online.Msg.SnapshotKey), Timestamp: pub(online.Msg.TimestampKey), Expires: year()})
	check(w, err)
	_, err = w.repo.PublishRoot(ctx, connect.NewRequest(&headgatev1.PublishRootRequest{Root: sign(w, root, w.ops[0], w.ops[1])}))
	check(w, err)
	targets, err := tuf.NewTargets(pub(online.Msg.RolloutKey), year())
	check(w, err)
	targets, err = tuf.AddVendor(targets, tuf.Vendor{Name: "acme", Keys: vendorPubs, Threshold: 2}, year())
	check(w, err)
	_, err = w.repo.PublishTargets(ctx, connect.NewRequest(&headgatev1.PublishTargetsRequest{Targets: sign(w, targets, w.ops[0], w.ops[2])}))
	check(w, err)
	_, err = w.catalog.AddVendor(ctx, connect.NewRequest(&headgatev1.AddVendorRequest{Name: "acme"}))
	check(w, err)
	_, err = w.catalog.AddProduct(ctx, connect.NewRequest(&headgatev1.AddProductRequest{Product: &headgatev1.Product{Name: product}}))
	check(w, err)
	_, err = w.account.AddTenant(ctx, connect.NewRequest(&headgatev1.AddTenantRequest{Name: "t1"}))
	check(w, err)
	tok, err := w.account.NewEnrolmentToken(ctx, connect.NewRequest(&headgatev1.NewEnrolmentTokenRequest{Tenant: "t1"}))
	check(w, err)
	w.enrolToken = tok.Msg.Token
	until(w, "the first plan", func() bool {
		files, _, err := w.store.RepositoryFiles(ctx, "targets/plan/")
		check(w, err)
		return len(files) > 0
	})
}

// upload puts an artifact and returns its digest.
func (w *world) upload(body []byte) string {
	w.Helper()
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	status, answer := w.put(digest, bytes.NewReader(body))
	if status != http.StatusOK {
		w.Fatalf("upload: %d %s", status, answer)
	}
	return digest
}

func (c clients) put(digest string, body io.Reader) (int, string) {
	req, err := http.NewRequest(http.MethodPut, c.base+"/v1/artifacts/"+digest, body)
	if err != nil {
		return 0, err.Error()
	}
	return c.do(req)
}

func (c clients) do(req *http.Request) (int, string) {
	res, err := c.web.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

func (c clients) get(t testing.TB, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.base+path, nil)
	check(t, err)
	return c.do(req)
}

// post sends JSON as curl would.
func (c clients) post(t testing.TB, procedure, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.base+procedure, strings.NewReader(body))
	check(t, err)
	req.Header.Set("Content-Type", "application/json")
	return c.do(req)
}

// draft makes the vendor's next metadata with one more release, unsigned.
func (w *world) draft(version, digest string, length int) []byte {
	w.Helper()
	meta, err := tuf.AddRelease("acme", w.vendorMeta, release.Release{Product: product, Version: version, Digest: digest, Length: int64(length)}, 10, year())
	check(w, err)
	return meta
}

func (w *world) publishMeta(version string, meta []byte) error {
	_, err := w.catalog.PublishRelease(w.Context(), connect.NewRequest(&headgatev1.PublishReleaseRequest{Product: product, Version: version, Metadata: meta}))
	return err
}

// release uploads and publishes a version and returns its digest.
func (w *world) release(version string) string {
	w.Helper()
	body := []byte("artifact of " + version)
	digest := w.upload(body)
	meta := sign(w, w.draft(version, digest, len(body)), w.vendorKeys[0], w.vendorKeys[1])
	check(w, w.publishMeta(version, meta))
	w.vendorMeta = meta
	return digest
}

func (w *world) start(version string, p rollout.Policy) int64 {
	w.Helper()
	r, err := w.rollout.StartRollout(w.Context(), connect.NewRequest(&headgatev1.StartRolloutRequest{Product: product, Version: version, PolicyJson: policyJSON(w, p)}))
	check(w, err)
	return r.Msg.Rollout.Id
}

// device is an enrolled endpoint.
type device struct {
	clients
	id  string
	seq int64
}

func (w *world) enrol(n int) []*device {
	w.Helper()
	anon := newClients(w.base, "")
	out := make([]*device, n)
	for i := range out {
		secret := make([]byte, 32)
		rand.Read(secret)
		res, err := anon.agent.Enrol(w.Context(), connect.NewRequest(&headgatev1.EnrolRequest{
			EnrolmentToken: w.enrolToken, Secret: base64.RawURLEncoding.EncodeToString(secret), Name: fmt.Sprint("host", i),
			Labels: map[string]string{"os": "linux"}, Products: []string{product}, AgentVersion: "1.0.0",
		}))
		check(w, err)
		out[i] = &device{clients: newClients(w.base, res.Msg.Token), id: res.Msg.EndpointId}
		out[i].web.Transport = bearerTransport{res.Msg.Token, w.web.Transport.(bearerTransport).next} // one pool of connections
	}
	return out
}

func (d *device) grant(ctx context.Context, id int64, digest string) (*headgatev1.GrantResponse, error) {
	res, err := d.agent.Grant(ctx, connect.NewRequest(&headgatev1.GrantRequest{Rollout: id, Digest: digest}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func (d *device) beacon(ctx context.Context, a *headgatev1.Attempt) error {
	d.seq++
	_, err := d.agent.Beacon(ctx, connect.NewRequest(&headgatev1.BeaconRequest{
		Seq: d.seq, ClockUs: time.Now().UnixMicro(), Products: []*headgatev1.ProductState{{Product: product, Healthy: true, Attempt: a}},
	}))
	return err
}

func (d *device) report(ctx context.Context, id int64, digest string, state headgatev1.AttemptState) error {
	return d.beacon(ctx, &headgatev1.Attempt{Rollout: id, Digest: digest, State: state, Reason: "test"})
}

func (w *world) show(id int64) *headgatev1.Rollout {
	w.Helper()
	r, err := w.rollout.GetRollout(w.Context(), connect.NewRequest(&headgatev1.GetRolloutRequest{Id: id}))
	check(w, err)
	return r.Msg.Rollout
}

// until polls until ok, for at most 15 seconds.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited 15 s in vain: %s", what)
		}
	}
}

func (w *world) untilState(id int64, state rollout.State) *headgatev1.Rollout {
	w.Helper()
	var r *headgatev1.Rollout
	until(w, fmt.Sprintf("R-%d is %s", id, state), func() bool {
		r = w.show(id)
		return r.State == string(state)
	})
	return r
}

// plan reads the published plan as an endpoint does, through the TUF client.
func (w *world) plan() release.Plan {
	w.Helper()
	_, root := w.get(w, "/tuf/1.root.json")
	c, err := tuf.Open(w.TempDir(), []byte(root), tuf.NewHTTP(w.base+"/tuf/", w.web))
	check(w, err)
	_, err = c.Refresh(w.Context(), time.Now())
	check(w, err)
	p, err := c.Plan()
	check(w, err)
	return p
}

// offer waits until the plan asks action of a rollout.
func (w *world) untilOffer(id int64, action release.Action) {
	w.Helper()
	until(w, fmt.Sprintf("the plan says %s of R-%d", action, id), func() bool {
		for _, o := range w.plan().Offers {
			if o.Rollout == id {
				return o.Action == action
			}
		}
		return false
	})
}

// code asserts an API error's code and that its text names what was wrong.
func wantCode(t testing.TB, err error, code connect.Code, words ...string) {
	t.Helper()
	if connect.CodeOf(err) != code {
		t.Fatalf("got %v; want %s", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not name %q", err, w)
		}
	}
}

// startLog is the log of what a test opens beside a server.
func startLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
