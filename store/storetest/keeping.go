package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

func enrolment(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	if _, err := s.AddTenant(ctx, "north", "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	token := sha256.Sum256([]byte("t"))
	if err := s.AddEnrolmentToken(ctx, store.EnrolmentToken{Hash: token, Tenant: "north", Uses: 1, Expires: Start.Add(time.Hour)}, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	e := store.Enrolment{Token: token, Secret: SecretOf(1), Name: "a", Labels: fleet.Labels{"os": "linux"}, Products: []string{Product}}
	first, err1 := s.Enrol(ctx, e, Start)
	again, err2 := s.Enrol(ctx, e, Start.Add(2*time.Hour))
	if err1 != nil || err2 != nil || first.ID != again.ID || !first.New || again.New || first.Tenant != "north" {
		t.Fatalf("%+v, %+v, %v, %v", first, again, err1, err2)
	}
	e.Secret = SecretOf(2)
	if _, err := s.Enrol(ctx, e, Start); !errors.Is(err, store.ErrUnauthenticated) {
		t.Fatalf("enrolled with a token that is used up: %v", err)
	}
	if n, err := s.CountEndpoints(ctx); err != nil || n != 1 {
		t.Fatalf("%d endpoints, %v", n, err)
	}
	Healthy(t, s)
}

func accounts(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	hash := sha256.Sum256([]byte("secret"))
	if _, err := s.AddToken(ctx, store.Token{Name: "ann", Scope: store.ScopeOperator}, hash, "operator:root", Start); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddToken(ctx, store.Token{Name: "ann", Scope: store.ScopeVendor, Of: "acme"}, sha256.Sum256([]byte("b")), "operator:root", Start); !errors.Is(err, store.ErrExists) {
		t.Fatalf("one name for two: %v", err)
	}
	if got, err := s.TokenByHash(ctx, hash); err != nil || got.Name != "ann" || got.Scope != store.ScopeOperator || !got.Created.Equal(Start) {
		t.Fatalf("%+v, %v", got, err)
	}
	for range 2 {
		if err := s.RevokeToken(ctx, "ann", "operator:root", Start); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.TokenByHash(ctx, hash); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a revoked token opens: %v", err)
	}
	if err := s.RevokeToken(ctx, "nobody", "operator:root", Start); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("revoked what is not there: %v", err)
	}
	if _, err := s.AddProduct(ctx, store.Product{Name: "nobody/x"}, "operator:root", Start); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a product without vendor: %v", err)
	}
	first, err1 := s.AddTenant(ctx, "north", "operator:root", Start)
	again, err2 := s.AddTenant(ctx, "north", "operator:root", Start.Add(time.Hour))
	if err1 != nil || err2 != nil || first != again {
		t.Fatalf("%+v, %+v, %v, %v", first, again, err1, err2)
	}
	Healthy(t, s)
}

func artifacts(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<17+3) // two chunks and a bit
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	broken := errors.New("line dropped")
	for name, c := range map[string]struct {
		r    io.Reader
		max  int64
		want error
	}{
		"cut short":  {bytes.NewReader(body[:len(body)-1]), 1 << 30, store.ErrInvalid},
		"too long":   {bytes.NewReader(body), int64(len(body)) - 1, store.ErrInvalid},
		"read error": {io.MultiReader(bytes.NewReader(body[:1<<20]), iotest.ErrReader(broken)), 1 << 30, broken},
	} {
		if _, err := s.PutArtifact(ctx, digest, c.r, c.max, Start); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := s.OpenArtifact(ctx, digest); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: something stayed: %v", name, err)
		}
	}
	for range 2 {
		if n, err := s.PutArtifact(ctx, digest, bytes.NewReader(body), 1<<30, Start); err != nil || n != int64(len(body)) {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	a, err := s.OpenArtifact(ctx, digest)
	if err != nil || a.Length() != int64(len(body)) {
		t.Fatal(err)
	}
	if err := iotest.TestReader(a, body); err != nil {
		t.Fatal(err)
	}
}

func repository(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	d, err := ledger.New("repository.published", "root", "operator:ann", map[string]int{"version": 1})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.CommitRepository(ctx, store.RepositoryCommit{Put: []store.File{{Path: "1.root.json", Version: 1, Body: []byte("r1")}, {Path: "timestamp.json", Version: 1, Body: []byte("t1")}}, Drafts: []ledger.Draft{d}}, Start, nil)
	if err != nil || v != 1 {
		t.Fatalf("version %d, %v", v, err)
	}
	_, err = s.CommitRepository(ctx, store.RepositoryCommit{Put: []store.File{{Path: "timestamp.json", Version: 9, Body: []byte("late")}}, Drafts: []ledger.Draft{d}}, Start, nil)
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("committed from a version long past: %v", err)
	}
	d.Actor = "" // which the ledger refuses
	_, err = s.CommitRepository(ctx, store.RepositoryCommit{Base: 1, Put: []store.File{{Path: "timestamp.json", Version: 2, Body: []byte("t2")}}, Drafts: []ledger.Draft{d}}, Start, nil)
	if err == nil {
		t.Fatal("committed without its ledger entry")
	}
	v, err = s.CommitRepository(ctx, store.RepositoryCommit{Base: 1, Put: []store.File{{Path: "timestamp.json", Version: 2, Body: []byte("t2")}}, Delete: []string{"1.root.json"}}, Start, nil)
	if err != nil || v != 2 {
		t.Fatalf("version %d, %v", v, err)
	}
	files, v, err := s.RepositoryFiles(ctx, "")
	if err != nil || v != 2 || len(files) != 1 || string(files[0].Body) != "t2" {
		t.Fatalf("%+v, version %d, %v", files, v, err)
	}
	if _, err := s.RepositoryFile(ctx, "1.root.json"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a deleted file: %v", err)
	}
	Healthy(t, s)
}

func tampering(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	var head ledger.Head
	for i := range 40 {
		d, err1 := ledger.New("fact.noted", "R-1", "server", i)
		h, err2 := s.AppendLedger(ctx, Start, d, d)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		head = h
		if i%7 == 0 {
			root, err := tlog.TreeHash(h.Size, s.LedgerHashes(ctx))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SaveCheckpoint(ctx, store.Checkpoint{Size: h.Size, Root: ledger.Hash(root), Note: []byte("note"), Time: Start}); err != nil {
				t.Fatal(err)
			}
		}
	}
	report, err := s.VerifyLedger(ctx)
	if err != nil || report.Head != head || report.Checkpoints != 6 || string(report.Latest) != "note" {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := s.SaveCheckpoint(ctx, store.Checkpoint{Size: 2, Note: []byte("other")}); !errors.Is(err, ledger.ErrBroken) {
		t.Fatalf("two roots for one size: %v", err)
	}
	page, err := s.ListEntries(ctx, store.EntryQuery{Limit: 3, Descending: true, Subject: "R-1"})
	if err != nil || len(page) != 3 || page[0].Seq != 79 || page[0].Hash() != head.Last {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, change := range []string{
		`UPDATE ledger_entry SET actor = 'operator:eve' WHERE seq = 17`,
		`UPDATE ledger_hash SET hash = (SELECT hash FROM ledger_hash WHERE id = 3) WHERE id = 12`,
		`DELETE FROM ledger_entry WHERE seq = 79`,
		`UPDATE ledger_head SET size = 79`,
		`UPDATE ledger_checkpoint SET root = (SELECT root FROM ledger_checkpoint WHERE size = 2) WHERE size = 16`,
	} {
		tx, err := s.DB().BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, change); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.VerifyLedger(ctx); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("not found: %s: %v", change, err)
		}
	}
}

func presence(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 6)
	ro := w.Roll(t, 1).ID
	bye := w.Beacon(4, 0, "")
	bye.Goodbye = true
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro)}, Beacons: []store.BeaconReport{w.Beacon(0, 0, ""), w.Beacon(1, 0, ""), w.Beacon(2, 0, ""), w.Beacon(3, 0, ""), bye}}, Start)
	later := Start.Add(time.Minute)
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, 0, ""), w.Beacon(1, 0, "")}}, later)
	// Seen 10 s after, with a grain of an hour: not rewritten.
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(2, 0, "")}, SeenGrain: time.Hour}, later)
	got, err := w.Store.Presence(t.Context(), ro, later, later)
	want := health.Control{Fit: 6, Online: 2, Unexposed: 5, Heard: 1, Gone: 2}
	if err != nil || got != want {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
}

func paging(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 25)
	ro := w.Roll(t, 10).ID
	var b store.Batch
	for i := range 25 {
		b.Asks = append(b.Asks, w.Ask(i, ro))
	}
	w.Commit(t, b, Start)
	for _, c := range []struct {
		q    store.EndpointQuery
		want int
	}{
		{store.EndpointQuery{}, 25}, {store.EndpointQuery{Tenant: "north"}, 25}, {store.EndpointQuery{Tenant: "south"}, 0},
		{store.EndpointQuery{Rollout: ro}, 10}, {store.EndpointQuery{Rollout: ro, State: health.Open, Tenant: "north"}, 10},
		{store.EndpointQuery{Rollout: ro, State: health.Harmed}, 0},
	} {
		n := 0
		for c.q.Limit = 4; ; {
			page, err := w.Store.ListEndpoints(t.Context(), c.q)
			if err != nil {
				t.Fatal(err)
			}
			if n += len(page); len(page) < 4 {
				break
			}
			if len(page[0].Installations) != 1 {
				t.Fatalf("no installation: %+v", page[0])
			}
			c.q.After = page[3].ID
		}
		if n != c.want {
			t.Errorf("%+v: %d endpoints, want %d", c.q, n, c.want)
		}
	}
	if _, err := w.Store.Endpoint(t.Context(), 5); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an endpoint that is not there: %v", err)
	}
}

func domains(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	w := NewWorld(t, s, 0)
	for i := range int64(3) {
		who, err := s.Enrol(ctx, store.Enrolment{Token: sha256.Sum256([]byte("enrol")), Secret: SecretOf(i), Domain: "pair", Products: []string{Product}}, Start)
		if err != nil {
			t.Fatal(err)
		}
		w.Endpoints = append(w.Endpoints, Endpoint{who.ID, SecretOf(i)})
	}
	ro := w.Roll(t, 10).ID
	ask := func(i int, now time.Time) string {
		return w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(i, ro)}}, now).Asks[0].Code
	}
	a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro), w.Ask(1, ro)}}, Start)
	if a.Asks[0].Verdict != rollout.Granted || a.Asks[1].Code != "domain-busy" {
		t.Fatalf("within a batch: %+v", a.Asks)
	}
	if got := ask(1, Start); got != "domain-busy" {
		t.Fatalf("while the other is in probation: %s", got)
	}
	proven := Start.Add(10 * time.Second)
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro, store.AttemptProven)}}, proven)
	if got := ask(1, proven); got != "granted" {
		t.Fatalf("after the other is proven: %s", got)
	}
	if _, err := s.SweepSilent(ctx, proven.Add(time.Hour), 10); err != nil {
		t.Fatal(err)
	}
	if got := ask(2, proven.Add(time.Hour)); got != "domain-busy" {
		t.Fatalf("while the other is silent, and may be down: %s", got)
	}
	// Who went back in the midst of its probation runs what it ran before: its site
	// is not busy, least of all for the release that mends it.
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(1, ro, store.AttemptProven)}}, proven.Add(time.Hour))
	if got := ask(2, proven.Add(time.Hour)); got != "granted" {
		t.Fatalf("after the other spoke: %s", got)
	}
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(2, ro, store.AttemptReverted)}}, proven.Add(time.Hour))
	if _, err := w.order(t, ro, rollout.VerbHalt, "ann"); err != nil {
		t.Fatal(err)
	}
	ro = w.Roll(t, 10).ID
	if got := ask(0, proven.Add(time.Hour)); got != "granted" {
		t.Fatalf("under the next rollout, after the other went back: %s", got)
	}
	Healthy(t, s)
}

func doctorFinds(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 4)
	ro := w.Roll(t, 10).ID
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro), w.Ask(1, ro)}, Beacons: []store.BeaconReport{w.Beacon(2, ro, store.AttemptPreflightFailed)}}, Start)
	Healthy(t, w.Store)
	found := map[string]bool{}
	for _, c := range []struct{ change, code string }{
		{`UPDATE rollout_count SET proven = proven + 1, exposed = exposed + 1 WHERE segment = 'os=linux'`, "recount"},
		{`UPDATE rollout SET reverted = 5`, "reverted"},
		{`DELETE FROM preflight_failure`, "preflight"},
		{`INSERT INTO preflight_failure (rollout, endpoint, at, reason, detail) VALUES (1, 77, 0, '', '')`, "orphan"},
		{`UPDATE ledger_head SET size = size - 1`, "ledger-head"},
	} {
		if _, err := w.Store.DB().ExecContext(t.Context(), c.change); err != nil {
			t.Fatal(err)
		}
		problems, err := w.Store.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			found[p.Code] = true
		}
		if !found[c.code] {
			t.Errorf("not found: %s: %+v", c.change, problems)
		}
	}
	if _, err := w.Store.DB().ExecContext(t.Context(), `UPDATE rollout_count SET exposed = exposed + 1`); err == nil {
		t.Error("the database takes counts that do not add up")
	}
}
