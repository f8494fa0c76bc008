package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func TestBadCallsAreRefusedByNameAndPlace(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	digest := strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		clients
		procedure, body string
		status          int
		words           string
	}{
		"not JSON":            {w.clients, "RolloutService/GetRollout", `{"id":`, 400, "unexpected EOF"},
		"empty body":          {w.clients, "RolloutService/GetRollout", ``, 400, "empty"},
		"unknown field":       {w.clients, "RolloutService/GetRollout", `{"id": 1, "idd": 2}`, 400, "idd"},
		"wrong type":          {w.clients, "RolloutService/GetRollout", `{"id": "x"}`, 400, "id"},
		"oversized":           {d.clients, "AgentService/Beacon", `{"seq": 1, "vitals": {"sandbox": ["` + strings.Repeat("x", 70<<10) + `"]}}`, 429, "larger than"},
		"unknown rollout":     {w.clients, "RolloutService/GetRollout", `{"id": 99}`, 404, "R-99"},
		"unknown policy key":  {w.clients, "RolloutService/StartRollout", `{"product": "acme/rules", "version": "1.0.0", "policy_json": "{\"ladderr\": []}"}`, 400, "ladderr"},
		"impossible policy":   {w.clients, "RolloutService/StartRollout", `{"product": "acme/rules", "version": "1.0.0", "policy_json": "{\"ladder\": [0]}"}`, 400, "rung 0 is 0"},
		"unknown release":     {w.clients, "RolloutService/StartRollout", `{"product": "acme/rules", "version": "9.9.9"}`, 404, "9.9.9"},
		"bad version":         {w.clients, "RolloutService/StartRollout", `{"product": "acme/rules", "version": "v1"}`, 400, "v1"},
		"bad vendor":          {w.clients, "CatalogService/AddVendor", `{"name": "Acme!"}`, 400, "Acme!"},
		"TUF role as vendor":  {w.clients, "CatalogService/AddVendor", `{"name": "snapshot"}`, 400, "snapshot"},
		"no delegation":       {w.clients, "CatalogService/AddVendor", `{"name": "zeta"}`, 400, "delegates nothing"},
		"product of nobody":   {w.clients, "CatalogService/AddProduct", `{"product": {"name": "zeta/x"}}`, 404, "zeta/x"},
		"bad tenant":          {w.clients, "AccountService/AddTenant", `{"name": "A B"}`, 400, "A B"},
		"token without scope": {w.clients, "AccountService/AddToken", `{"name": "x"}`, 400, "scope"},
		"token of nobody":     {w.clients, "AccountService/AddToken", `{"name": "x", "scope": "SCOPE_TENANT", "of": "nobody"}`, 404, "nobody"},
		"token name taken":    {w.clients, "AccountService/AddToken", `{"name": "admin", "scope": "SCOPE_OPERATOR"}`, 409, "admin"},
		"enrolment for ever":  {w.clients, "AccountService/NewEnrolmentToken", `{"tenant": "t1", "ttl_us": -1}`, 400, "ttl_us"},
		"wrong enrolment":     {w.clients, "AgentService/Enrol", `{"enrolment_token": "hgt_` + strings.Repeat("A", 43) + `", "secret": "` + strings.Repeat("A", 43) + `"}`, 401, "enrolment_token"},
		"short secret":        {w.clients, "AgentService/Enrol", `{"enrolment_token": "` + w.enrolToken + `", "secret": "AAAA"}`, 400, "secret"},
		"bad label":           {w.clients, "AgentService/Enrol", `{"enrolment_token": "` + w.enrolToken + `", "secret": "` + strings.Repeat("A", 43) + `", "labels": {"O S": "x"}}`, 400, "O S"},
		"bad product":         {w.clients, "AgentService/Enrol", `{"enrolment_token": "` + w.enrolToken + `", "secret": "` + strings.Repeat("A", 43) + `", "products": ["x"]}`, 400, "products[0]"},
		"grant of no digest":  {d.clients, "AgentService/Grant", `{"rollout": 1, "digest": "xyz"}`, 400, "xyz"},
		"grant of no rollout": {d.clients, "AgentService/Grant", `{"digest": "` + digest + `"}`, 400, "rollout"},
		"attempt of no state": {d.clients, "AgentService/Beacon", `{"seq": 1, "products": [{"product": "acme/rules", "attempt": {"rollout": 1, "digest": "` + digest + `"}}]}`, 400, "products[0].attempt: state"},
		"detail too long":     {d.clients, "AgentService/Beacon", `{"seq": 1, "products": [{"product": "acme/rules", "attempt": {"rollout": 1, "state": "ATTEMPT_STATE_HARMED", "digest": "` + digest + `", "detail": "` + strings.Repeat("x", 501) + `"}}]}`, 400, "501"},
		"bad page":            {w.clients, "FleetService/ListEndpoints", `{"page_token": "x"}`, 400, "page_token"},
		"state of nothing":    {w.clients, "FleetService/ListEndpoints", `{"state": "open"}`, 400, "without a rollout"},
		"proof of the future": {w.clients, "LedgerService/ProveInclusion", `{"seq": 1, "size": 99999}`, 400, "99999"},
		"no such procedure":   {w.clients, "LedgerService/Nothing", `{}`, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := c.post(t, "/headgate.v1."+c.procedure, c.body)
			if status != c.status || !strings.Contains(body, c.words) {
				t.Errorf("%d %s\nwant %d and %q", status, body, c.status, c.words)
			}
		})
	}
}

// curl -d says that it sends a form.
func TestACallThatDoesNotSayJSONIsToldTo(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	for _, said := range []string{"", "application/x-www-form-urlencoded"} {
		for procedure, c := range map[string]clients{"RolloutService/GetRollout": w.clients, "AgentService/Beacon": d.clients} {
			req, err := http.NewRequest(http.MethodPost, c.base+"/headgate.v1."+procedure, strings.NewReader(`{}`))
			check(t, err)
			req.Header.Set("Content-Type", said)
			status, body := c.do(req)
			if status != http.StatusUnsupportedMediaType || !strings.Contains(body, "want application/json") {
				t.Errorf("%s as %q: %d %s", procedure, said, status, body)
			}
		}
	}
}

func TestWrongEndpointSecretIsRefused(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	forged := d.token[:len(d.token)-43] + strings.Repeat("A", 43)
	status, body := newClients(w.base, forged).post(t, "/headgate.v1.AgentService/Beacon", `{"seq": 1}`)
	if status != http.StatusUnauthorized {
		t.Errorf("a forged token got %d %s", status, body)
	}
	if strings.Contains(body, forged) {
		t.Error("the error quotes the token")
	}
}

func TestReplayedGrantCountsOnce(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	d := w.enrol(1)[0]
	id := w.start("1.0.0", quick())
	until(t, "granted", func() bool {
		g, err := d.grant(t.Context(), id, digest)
		check(t, err)
		return g.Verdict == headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED
	})
	for range 5 {
		if _, err := d.grant(t.Context(), id, digest); err != nil {
			t.Fatal(err)
		}
	}
	if c := w.show(id).Counts; c.Exposed != 1 {
		t.Errorf("counts %v after replays; want one exposed", c)
	}
	g, err := d.grant(t.Context(), id, strings.Repeat("b", 64))
	check(t, err)
	if g.Reason != "wrong-digest" {
		t.Errorf("a grant for another artifact: %v", g)
	}
}

func TestBadArtifactsLeaveNothing(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxArtifact = 1 << 20 })
	body := bytes.Repeat([]byte("artifact"), 1000)
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	if status, answer := w.put(digest, bytes.NewReader(body[:len(body)-1])); status != http.StatusBadRequest {
		t.Errorf("truncated: %d %s", status, answer)
	}
	if status, answer := w.put("xyz", bytes.NewReader(body)); status != http.StatusBadRequest || !strings.Contains(answer, "xyz") {
		t.Errorf("no digest: %d %s", status, answer)
	}
	big := io.LimitReader(zeros{}, 2<<20)
	if status, answer := w.put(digest, big); status != http.StatusBadRequest || !strings.Contains(answer, "1048576") {
		t.Errorf("too long: %d %s", status, answer)
	}
	cutOff(t, w, digest, body)
	if _, err := w.store.OpenArtifact(t.Context(), digest); err == nil {
		t.Fatal("a bad upload left an artifact behind")
	}
	for range 2 { // a repeat is fine
		if got := w.upload(body); got != digest {
			t.Errorf("stored as %s", got)
		}
	}
}

// cutOff uploads and hangs up in the middle.
func cutOff(t *testing.T, w *world, digest string, body []byte) {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr())
	check(t, err)
	defer c.Close()
	head := "PUT /v1/artifacts/" + digest + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + w.token + "\r\nContent-Length: 8000\r\n\r\n"
	_, err = c.Write(append([]byte(head), body[:4000]...))
	check(t, err)
	check(t, c.(*net.TCPConn).CloseWrite())
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	io.Copy(io.Discard, c)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBadReleasesAreRefusedWhole(t *testing.T) {
	w := newWorld(t)
	body := []byte("artifact")
	digest := w.upload(body)
	before, err := w.store.RepositoryVersion(t.Context())
	check(t, err)
	good := w.draft("1.0.0", digest, len(body))
	stranger, _ := newKeys(t, 2)
	wantCode(t, w.publishMeta("1.0.0", good), connect.CodeInvalidArgument, "acme")
	wantCode(t, w.publishMeta("1.0.0", sign(t, good, w.vendorKeys[0])), connect.CodeInvalidArgument, "under-signed", "acme")
	wantCode(t, w.publishMeta("1.0.0", sign(t, good, stranger...)), connect.CodeInvalidArgument, "under-signed")
	signed := sign(t, good, w.vendorKeys[0], w.vendorKeys[1])
	wantCode(t, w.publishMeta("1.0.0", bytes.Replace(signed, []byte(digest[:8]), []byte("00000000"), 1)), connect.CodeInvalidArgument, "acme")
	wantCode(t, w.publishMeta("1.0.0", signed[:len(signed)/2]), connect.CodeInvalidArgument, "malformed")
	wantCode(t, w.publishMeta("2.0.0", signed), connect.CodeInvalidArgument, "1.0.0")
	missing := w.draft("1.0.0", strings.Repeat("c", 64), 5)
	wantCode(t, w.publishMeta("1.0.0", sign(t, missing, w.vendorKeys[0], w.vendorKeys[1])), connect.CodeFailedPrecondition, "not uploaded")
	short := w.draft("1.0.0", digest, len(body)-1)
	wantCode(t, w.publishMeta("1.0.0", sign(t, short, w.vendorKeys[0], w.vendorKeys[1])), connect.CodeInvalidArgument, "bytes")
	after, err := w.store.RepositoryVersion(t.Context())
	check(t, err)
	list, err := w.store.ListReleases(t.Context(), "")
	check(t, err)
	if before != after || len(list) != 0 {
		t.Fatalf("refused releases changed the repository from version %d to %d, %d releases", before, after, len(list))
	}
	check(t, w.publishMeta("1.0.0", signed))
	check(t, w.publishMeta("1.0.0", signed)) // the same bytes again
}

func TestUnderSignedRootAndTargetsAreRefused(t *testing.T) {
	s := startServer(t, testConfig(t))
	t.Cleanup(func() { stopServer(t, s) })
	w := &world{TB: t, Server: s}
	w.clients = newClients(s.URL(), w.adminToken())
	_, err := w.repo.PublishTargets(t.Context(), connect.NewRequest(&headgatev1.PublishTargetsRequest{Targets: []byte("{}")}))
	if err == nil {
		t.Fatal("targets without a root were taken")
	}
	_, err = w.repo.PublishRoot(t.Context(), connect.NewRequest(&headgatev1.PublishRootRequest{Root: []byte(`{"signed":{}}`)}))
	wantCode(t, err, connect.CodeInvalidArgument, "root")
	if status, _ := w.get(t, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready without a root: %d", status)
	}
	w.found()
	if status, _ := w.get(t, "/readyz"); status != http.StatusOK {
		until(t, "ready", func() bool { status, _ := w.get(t, "/readyz"); return status == http.StatusOK })
	}
}

// A database that fails gives a clear answer, and the log its cause.
func TestDatabaseFailureIsUnavailable(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	w.store.DB().Close()
	err := d.beacon(t.Context(), nil)
	wantCode(t, err, connect.CodeUnavailable)
	if strings.Contains(err.Error(), "sql") {
		t.Errorf("the answer tells of the database's inside: %v", err)
	}
}
