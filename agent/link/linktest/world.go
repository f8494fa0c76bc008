// Package linktest is the world outside an agent, for tests: a server with a
// real signed repository (release/tuf's own authoring), behind the generated
// Connect interface, whose answers a test sets and whose files it may spoil.
//
// It is not the server: it decides and counts nothing.
package linktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/artifact"
	"github.com/headgate/headgate/release/tuf"
)

// World is a server with a repository.
type World struct {
	t    testing.TB
	HTTP *httptest.Server
	Root []byte // root.json, version 1

	mu      sync.Mutex // guards all below
	repo    tuf.Repo
	files   map[string][]byte
	vendors map[string][]*tuf.Key
	meta    map[string][]byte // signed vendor metadata
	ids     map[string]string // endpoint id by secret
	names   map[string]*v1.EnrolRequest
	beacons map[string][]*v1.BeaconRequest
	asks    []Ask
	grant   func(endpoint string, r *v1.GrantRequest) (*v1.GrantResponse, error)
	beacon  func(endpoint string, r *v1.BeaconRequest) error
	checks  []*v1.Check
	before  func(w http.ResponseWriter, r *http.Request) bool
	spoil   map[string]func([]byte) []byte
	headgatev1connect.UnimplementedAgentServiceHandler
}

// Ask is one Grant request and when it came.
type Ask struct {
	Endpoint string
	*v1.GrantRequest
	At time.Time
}

// Vendor is the vendor of every World; Product is its product.
const (
	Vendor  = "acme"
	Product = "acme/rules"
)

// New starts a world; it ends with the test.
func New(t testing.TB, useTLS bool) *World {
	t.Helper()
	w := &World{
		t: t, files: map[string][]byte{}, vendors: map[string][]*tuf.Key{}, meta: map[string][]byte{}, ids: map[string]string{},
		names: map[string]*v1.EnrolRequest{}, beacons: map[string][]*v1.BeaconRequest{}, spoil: map[string]func([]byte) []byte{},
	}
	w.author()
	mux := http.NewServeMux()
	mux.Handle(headgatev1connect.NewAgentServiceHandler(w))
	mux.HandleFunc("/tuf/", w.serveFile)
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		before := w.before
		w.mu.Unlock()
		if before == nil || before(rw, r) {
			mux.ServeHTTP(rw, r)
		}
	})
	if useTLS {
		w.HTTP = httptest.NewTLSServer(h)
	} else {
		w.HTTP = httptest.NewServer(h)
	}
	t.Cleanup(w.HTTP.Close)
	return w
}

// Pin is the fingerprint of the server's certificate.
func (w *World) Pin() string {
	if w.HTTP.Certificate() == nil {
		return ""
	}
	sum := sha256.Sum256(w.HTTP.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

func (w *World) key() *tuf.Key {
	k, err := tuf.NewKey()
	w.must(err)
	return k
}

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// author makes the repository: two operators, the online keys, one vendor with
// two keys, both needed.
func (w *World) author() {
	expires := time.Now().Add(365 * 24 * time.Hour)
	op1, op2 := w.key(), w.key()
	online := tuf.Online{Timestamp: w.key(), Snapshot: w.key(), Rollout: w.key()}
	public := func(s tuf.Signer) tuf.PublicKey { return s.(*tuf.Key).Public() }
	root, err := tuf.NewRoot(tuf.RootSpec{Operators: []tuf.PublicKey{op1.Public(), op2.Public()}, Threshold: 2,
		Snapshot: public(online.Snapshot), Timestamp: public(online.Timestamp), Expires: expires})
	w.must(err)
	root = w.sign(root, op1, op2)
	w.Root = root
	w.repo = tuf.Repo{State: tuf.State{}, Online: online, Life: tuf.DefaultLife}
	c, err := w.repo.SetRoot(root, time.Now())
	w.must(err)
	w.apply(c)
	w.vendors[Vendor] = []*tuf.Key{w.key(), w.key()}
	targets, err := tuf.NewTargets(public(online.Rollout), expires)
	w.must(err)
	targets, err = tuf.AddVendor(targets, tuf.Vendor{Name: Vendor, Threshold: 2,
		Keys: []tuf.PublicKey{w.vendors[Vendor][0].Public(), w.vendors[Vendor][1].Public()}}, expires)
	w.must(err)
	c, err = w.repo.SetTargets(w.sign(targets, op1, op2), time.Now())
	w.must(err)
	w.apply(c)
}

func (w *World) sign(meta []byte, keys ...*tuf.Key) []byte {
	for _, k := range keys {
		var err error
		meta, err = tuf.Sign(meta, k)
		w.must(err)
	}
	return meta
}

func (w *World) apply(c tuf.Change) {
	for path, b := range c.Files {
		w.files[path] = b
	}
	w.repo.State = w.repo.State.With(c)
}

// Publish packs a product folder, signs it by the vendor, with what else the
// vendor says of it, and serves it.
func (w *World) Publish(version, dir string, custom ...release.Custom) release.Release {
	w.t.Helper()
	var tar bytes.Buffer
	w.must(artifact.Pack(dir, &tar))
	sum := sha256.Sum256(tar.Bytes())
	r := release.Release{Product: Product, Version: version, Digest: hex.EncodeToString(sum[:]), Length: int64(tar.Len())}
	if len(custom) > 0 {
		r.Custom = custom[0]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	meta, err := tuf.AddRelease(Vendor, w.meta[Vendor], r, 10, time.Now().Add(90*24*time.Hour))
	w.must(err)
	meta = w.sign(meta, w.vendors[Vendor]...)
	c, err := w.repo.SetVendor(Vendor, meta, time.Now())
	w.must(err)
	w.apply(c)
	w.meta[Vendor] = meta
	w.files[tuf.TargetFile(release.Target(r.Product, r.Version), r.Digest)] = tar.Bytes()
	return r
}

// SetPlan signs and serves a plan; extra keys are added to the JSON.
func (w *World) SetPlan(p release.Plan, extra ...string) {
	w.t.Helper()
	b, err := json.Marshal(p)
	w.must(err)
	for _, kv := range extra {
		b = append(b[:len(b)-1], ("," + kv + "}")...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.repo.SetPlan(b, time.Now())
	w.must(err)
	w.apply(c)
}

// SetLife sets how long online metadata lives, from the next change on.
func (w *World) SetLife(l tuf.Life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repo.Life = l
}

// OnGrant sets the answer to asks; the default grants for 60 s.
func (w *World) OnGrant(f func(endpoint string, r *v1.GrantRequest) (*v1.GrantResponse, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.grant = f
}

// OnBeacon may refuse beacons.
func (w *World) OnBeacon(f func(endpoint string, r *v1.BeaconRequest) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beacon = f
}

// SetChecks sets what every beacon's answer asks to be checked. None is what a
// server says that does not know checks.
func (w *World) SetChecks(checks ...*v1.Check) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checks = checks
}

// Results are an endpoint's reports of one check, in order of arrival.
func (w *World) Results(endpoint, check string) (out []*v1.CheckResult) {
	for _, b := range w.Beacons(endpoint) {
		for _, r := range b.CheckResults {
			if r.Id == check {
				out = append(out, r)
			}
		}
	}
	return out
}

// Before sees each request first; if it returns false it has answered. Nil ends it.
func (w *World) Before(f func(rw http.ResponseWriter, r *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = f
}

// Spoil changes what is served for paths under /tuf/ that contain part.
func (w *World) Spoil(part string, f func([]byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f == nil {
		delete(w.spoil, part)
		return
	}
	w.spoil[part] = f
}

// Beacons are an endpoint's, in order of arrival.
func (w *World) Beacons(endpoint string) []*v1.BeaconRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*v1.BeaconRequest(nil), w.beacons[endpoint]...)
}

// Asks are all Grant requests so far.
func (w *World) Asks() []Ask {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Ask(nil), w.asks...)
}

// Enrolled are the requests of all endpoints, by id.
func (w *World) Enrolled() map[string]*v1.EnrolRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]*v1.EnrolRequest{}
	for id, r := range w.names {
		out[id] = r
	}
	return out
}

func (w *World) serveFile(rw http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/tuf/")
	w.mu.Lock()
	b, ok := w.files[path]
	for part, f := range w.spoil {
		if ok && strings.Contains(path, part) {
			b = f(append([]byte(nil), b...))
		}
	}
	w.mu.Unlock()
	if !ok {
		http.NotFound(rw, r)
		return
	}
	etag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(b))[:16])
	rw.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	rw.Write(b)
}

// Enrol implements the service: any enrolment token will do but "hgt_bad".
func (w *World) Enrol(_ context.Context, r *connect.Request[v1.EnrolRequest]) (*connect.Response[v1.EnrolResponse], error) {
	if r.Msg.EnrolmentToken == "hgt_bad" {
		return nil, connect.NewError(connect.CodeUnauthenticated, fmt.Errorf("enrolment token is not known"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok := w.ids[r.Msg.Secret]
	if !ok {
		id = ids.Format("E", ids.New(time.Now()))
		w.ids[r.Msg.Secret] = id
		w.names[id] = r.Msg
	}
	return connect.NewResponse(&v1.EnrolResponse{EndpointId: id, Tenant: "test", Token: "hge_" + strings.TrimPrefix(id, "E-") + "_" + r.Msg.Secret, Root: w.Root}), nil
}

// endpoint authenticates a request.
func (w *World) endpoint(h http.Header) (string, error) {
	parts := strings.SplitN(strings.TrimPrefix(h.Get("Authorization"), "Bearer hge_"), "_", 2)
	if len(parts) == 2 && w.ids[parts[1]] == "E-"+parts[0] {
		return "E-" + parts[0], nil
	}
	return "", connect.NewError(connect.CodeUnauthenticated, fmt.Errorf("endpoint token is not known"))
}

// Grant implements the service.
func (w *World) Grant(_ context.Context, r *connect.Request[v1.GrantRequest]) (*connect.Response[v1.GrantResponse], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := w.endpoint(r.Header())
	if err != nil {
		return nil, err
	}
	w.asks = append(w.asks, Ask{id, r.Msg, time.Now()})
	if w.grant == nil {
		return connect.NewResponse(&v1.GrantResponse{Verdict: v1.GrantVerdict_GRANT_VERDICT_GRANTED, Reason: "granted", TtlUs: 60e6}), nil
	}
	resp, err := w.grant(id, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// Beacon implements the service.
func (w *World) Beacon(_ context.Context, r *connect.Request[v1.BeaconRequest]) (*connect.Response[v1.BeaconResponse], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := w.endpoint(r.Header())
	if err != nil {
		return nil, err
	}
	if w.beacon != nil {
		if err := w.beacon(id, r.Msg); err != nil {
			return nil, err
		}
	}
	w.beacons[id] = append(w.beacons[id], r.Msg)
	return connect.NewResponse(&v1.BeaconResponse{AckedSeq: r.Msg.Seq, Checks: w.checks}), nil
}
