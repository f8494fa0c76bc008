package control

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// world is a real store with a signed repository and a release.
type world struct {
	*store.Store
	pub  *Publisher
	jobs *Jobs
	now  time.Time
	ops  []*tuf.Key
	log  *slog.Logger
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKeys(t testing.TB, n int) (keys []*tuf.Key, pubs []tuf.PublicKey) {
	t.Helper()
	for range n {
		k, err := tuf.NewKey()
		check(t, err)
		keys, pubs = append(keys, k), append(pubs, k.Public())
	}
	return keys, pubs
}

func sign(t testing.TB, meta []byte, err error, keys ...*tuf.Key) []byte {
	t.Helper()
	check(t, err)
	for _, k := range keys {
		meta, err = tuf.Sign(meta, k)
		check(t, err)
	}
	return meta
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Now().UTC().Truncate(time.Microsecond), log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	var err error
	w.Store, err = store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "headgate.db"), w.log)
	check(t, err)
	t.Cleanup(func() { w.Close() })
	online, onlinePubs := newKeys(t, 3)
	w.pub = &Publisher{
		Repository: w.Store, Keys: func() (present, next tuf.Online) {
			return tuf.Online{Timestamp: online[0], Snapshot: online[1], Rollout: online[2]}, next
		},
		Life: tuf.DefaultLife, Cadence: rollout.DefaultCadence(), Now: func() time.Time { return w.now }, Log: w.log,
	}
	w.jobs, err = NewJobs(t.Context(), JobConfig{
		DB: w.DB(), Dialect: w.Dialect(), Renew: time.Hour, Checkpoint: time.Hour, Log: w.log,
		Acts: Acts{PublishPlan: w.pub.PublishPlan, Renew: w.pub.Renew, Checkpoint: func(context.Context) error { return nil }},
	})
	check(t, err)
	ops, opPubs := newKeys(t, 2)
	w.ops = ops
	vendor, vendorPubs := newKeys(t, 1)
	year := w.now.Add(365 * 24 * time.Hour)
	root, err := tuf.NewRoot(tuf.RootSpec{Operators: opPubs, Threshold: 2, Snapshot: onlinePubs[1], Timestamp: onlinePubs[0], Expires: year})
	root = sign(t, root, err, ops...)
	check(t, w.pub.Change(t.Context(), nil, func(s *Step) (tuf.Change, error) { return s.Repo().SetRoot(root, s.Now) }))
	targets, err := tuf.NewTargets(onlinePubs[2], year)
	check(t, err)
	targets, err = tuf.AddVendor(targets, tuf.Vendor{Name: "acme", Keys: vendorPubs, Threshold: 1}, year)
	targets = sign(t, targets, err, ops...)
	check(t, w.pub.Change(t.Context(), nil, func(s *Step) (tuf.Change, error) { return s.Repo().SetTargets(targets, s.Now) }))
	_, err = w.PutVendor(t.Context(), store.Vendor{Name: "acme", Threshold: 1, Keys: 1}, "operator:a", w.now)
	check(t, err)
	_, err = w.AddProduct(t.Context(), store.Product{Name: "acme/rules"}, "operator:a", w.now)
	check(t, err)
	w.publish(t, vendor[0], year)
	return w
}

const digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // of "abc"

func (w *world) publish(t *testing.T, vendor *tuf.Key, expires time.Time) {
	t.Helper()
	rel := release.Release{Product: "acme/rules", Version: "1.0.0", Digest: digest, Length: 3}
	meta, err := tuf.AddRelease("acme", nil, rel, 10, expires)
	meta = sign(t, meta, err, vendor)
	check(t, w.pub.Change(t.Context(), nil, func(s *Step) (tuf.Change, error) {
		s.Record(nil, []store.Release{{Release: rel, Published: s.Now, Listed: true}}, nil)
		return s.Repo().SetVendor("acme", meta, s.Now)
	}))
}

func (w *world) start(t *testing.T) store.Rollout {
	t.Helper()
	r, err := w.StartRollout(t.Context(), store.Start{Product: "acme/rules", Version: "1.0.0", Policy: rollout.DefaultPolicy(), Seed: make([]byte, 32), Actor: "operator:a"}, w.now, w.jobs.EnqueuePublish)
	check(t, err)
	return r
}

func (w *world) plan(t *testing.T) release.Plan {
	t.Helper()
	w.pub.mu.Lock()
	defer w.pub.mu.Unlock()
	check(t, w.pub.load(t.Context()))
	return w.pub.held.plan
}

func TestPlanIsPublishedOnlyWhenItChanges(t *testing.T) {
	w := newWorld(t)
	check(t, w.pub.PublishPlan(t.Context()))
	first := w.plan(t)
	v, err := w.RepositoryVersion(t.Context())
	check(t, err)
	for range 3 {
		check(t, w.pub.PublishPlan(t.Context()))
	}
	if again, err := w.RepositoryVersion(t.Context()); err != nil || again != v {
		t.Errorf("repository went from version %d to %d (%v) for the same plan", v, again, err)
	}
	w.start(t)
	check(t, w.pub.PublishPlan(t.Context()))
	if p := w.plan(t); p.Version != first.Version+1 || len(p.Offers) != 1 {
		t.Errorf("plan %d with %d offers; want %d with one", p.Version, len(p.Offers), first.Version+1)
	}
}

// Two publishers on one database each hold the repository in memory; what one
// commits the other must see before its own change.
func TestTwoPublishersNeverOverwriteEachOther(t *testing.T) {
	w := newWorld(t)
	other := &Publisher{Repository: w.Store, Keys: w.pub.Keys, Life: w.pub.Life, Cadence: w.pub.Cadence, Now: w.pub.Now, Log: w.log}
	check(t, other.PublishPlan(t.Context()))
	w.start(t)
	check(t, w.pub.PublishPlan(t.Context()))
	check(t, other.PublishPlan(t.Context()))
	if p := w.plan(t); len(p.Offers) != 1 || p.Version != 2 {
		t.Errorf("plan %d with %d offers; want 2 with one", p.Version, len(p.Offers))
	}
}

func TestSupersededFilesGoAfterTheirGrace(t *testing.T) {
	w := newWorld(t)
	check(t, w.pub.PublishPlan(t.Context()))
	w.start(t)
	check(t, w.pub.PublishPlan(t.Context()))
	old := tuf.MetaFile(tuf.Rollout, 1)
	if _, err := w.RepositoryFile(t.Context(), old); err != nil {
		t.Fatalf("%s went at once: %v", old, err)
	}
	w.now = w.now.Add(2 * supersededGrace)
	check(t, w.pub.Renew(t.Context()))
	if _, err := w.RepositoryFile(t.Context(), old); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s is still there: %v", old, err)
	}
	files, _, err := w.RepositoryFiles(t.Context(), "")
	check(t, err)
	for _, f := range files {
		if f.Path == tuf.MetaFile(tuf.Root, 1) {
			return
		}
	}
	t.Error("root 1, from which endpoints walk forward, is gone")
}

// The wish to publish is in the decision's transaction: who commits and dies has
// it done by the next start.
func TestCommittedWishIsCarriedOutByTheNextStart(t *testing.T) {
	w := newWorld(t)
	w.start(t) // enqueues, and nobody works
	if p := w.plan(t); p.Version != 0 {
		t.Fatal("a plan was published by nobody")
	}
	check(t, w.jobs.Start(t.Context()))
	defer func() { check(t, w.jobs.Stop(context.Background())) }()
	for end := time.Now().Add(10 * time.Second); len(w.plan(t).Offers) != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the plan was not published within 10 s")
		}
	}
}

func TestRolledBackDecisionEnqueuesNothing(t *testing.T) {
	w := newWorld(t)
	count := func() (n int) {
		check(t, w.DB().QueryRow("SELECT COUNT(*) FROM river_job").Scan(&n))
		return n
	}
	before := count()
	boom := errors.New("boom")
	_, err := w.StartRollout(t.Context(), store.Start{Product: "acme/rules", Version: "1.0.0", Policy: rollout.DefaultPolicy(), Seed: make([]byte, 32), Actor: "operator:a"}, w.now,
		func(tx *sql.Tx) error { return errors.Join(w.jobs.EnqueuePublish(tx), boom) })
	if !errors.Is(err, boom) || count() != before {
		t.Errorf("%v; %d jobs, %d before", err, count(), before)
	}
}

// racer lets somebody else decide between the snapshot and the commit.
type racer struct {
	Rollouts
	between func()
}

func (r *racer) CommitDecision(ctx context.Context, c store.DecisionCommit, now time.Time, inTx store.InTx) (store.Rollout, error) {
	if f := r.between; f != nil {
		r.between = nil
		f()
	}
	return r.Rollouts.CommitDecision(ctx, c, now, inTx)
}

func TestDecisionOnAnOldSnapshotIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	ro := w.start(t)
	race := &racer{Rollouts: w.Store, between: func() {
		_, err := w.OrderRollout(t.Context(), ro.ID, rollout.Order{Verb: rollout.VerbHold, Operator: "alice"}, w.now, nil)
		check(t, err)
	}}
	d := &Decider{Rollouts: race, Every: time.Second, Now: func() time.Time { return w.now }, Log: w.log, Publish: w.jobs.EnqueuePublish}
	check(t, d.Decide(t.Context(), ro.ID))
	got, err := w.Rollout(t.Context(), ro.ID)
	check(t, err)
	if got.State != rollout.Held || got.HeldBy != "alice" {
		t.Errorf("the operator's hold was overrun: %s held by %q", got.State, got.HeldBy)
	}
}

func TestUnchangedDecisionIsNotRecordedAgain(t *testing.T) {
	w := newWorld(t)
	ro := w.start(t)
	d := &Decider{Rollouts: w.Store, Every: time.Second, Now: func() time.Time { return w.now }, Log: w.log, Publish: w.jobs.EnqueuePublish}
	check(t, d.Decide(t.Context(), ro.ID))
	head, err := w.LedgerHead(t.Context())
	check(t, err)
	w.now = w.now.Add(time.Second)
	check(t, d.Decide(t.Context(), ro.ID))
	after, err := w.LedgerHead(t.Context())
	check(t, err)
	if head != after {
		t.Errorf("the ledger grew from %d to %d entries by looking", head.Size, after.Size)
	}
	if d.Looked(ro.ID) != w.now {
		t.Errorf("looked at %s; want %s", d.Looked(ro.ID), w.now)
	}
}

func TestCheckpointThatForksIsNotSigned(t *testing.T) {
	w := newWorld(t)
	private, public, err := note.GenerateKey(nil, ledger.Origin)
	check(t, err)
	signer, err := note.NewSigner(private)
	check(t, err)
	verifier, err := note.NewVerifier(public)
	check(t, err)
	check(t, SignCheckpoint(t.Context(), w.Store, w.now, signer))
	c, err := w.LatestCheckpoint(t.Context())
	check(t, err)
	if _, err := ledger.OpenCheckpoint(c.Note, verifier); err != nil {
		t.Error(err)
	}
	w.start(t)
	if err := SignCheckpoint(t.Context(), forked{w.Store}, w.now, signer); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("signed a second history: %v", err)
	}
	check(t, SignCheckpoint(t.Context(), w.Store, w.now, signer))
}

// forked is a log whose last checkpoint is of another history.
type forked struct{ *store.Store }

func (f forked) LatestCheckpoint(ctx context.Context) (store.Checkpoint, error) {
	c, err := f.Store.LatestCheckpoint(ctx)
	c.Root[0] ^= 1
	return c, err
}
