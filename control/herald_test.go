package control

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
	"github.com/headgate/headgate/store/storetest"
)

// heraldWorld is a case about what two endpoints may run, with a herald.
type heraldWorld struct {
	*storetest.World
	*testing.T
	herald *Herald
	id     int64
	now    time.Time
	queued int
}

// runs has endpoint i report that it runs 1.0.0, and the case's affected follow.
func (w *heraldWorld) runs(i int) {
	w.Helper()
	w.now = w.now.Add(time.Minute)
	b := store.BeaconReport{Endpoint: w.Endpoints[i].ID, Secret: w.Endpoints[i].Secret, Seq: 1,
		Installations: []store.Installation{{Product: storetest.Product, Version: "1.0.0", Digest: storetest.Digest, Healthy: true}}}
	if a := w.Commit(w.T, store.Batch{Beacons: []store.BeaconReport{b}}, w.now); a.Beacons[0].Err != nil {
		w.Fatal(a.Beacons[0].Err)
	}
}

// add records a fact of the case.
func (w *heraldWorld) add(v store.Viewer, b psirt.Body) {
	w.Helper()
	w.now = w.now.Add(time.Minute)
	if _, err := w.Store.CommitFacts(w.Context(), v, w.id, store.AnyRevision, []psirt.Fact{storetest.Draft(w.T, b)}, w.now, nil); err != nil {
		w.Fatal(err)
	}
}

// tell has the herald look at the audiences, and gives the notices there are.
func (w *heraldWorld) tell() []store.Notice {
	w.Helper()
	w.now = w.now.Add(time.Minute)
	if err := w.herald.Tell(w.Context()); err != nil {
		w.Fatal(err)
	}
	all, err := w.Store.ListNotices(w.Context(), store.Engine("test"), store.NoticeQuery{}, w.now)
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func TestAnOpenedRungTellsItsAudienceAndLateJoiners(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "h.db"))
	w := &heraldWorld{World: storetest.NewWorld(t, s, 2), T: t, now: storetest.Start}
	w.herald = &Herald{
		Notices: s, Policy: notify.DefaultPolicy(), Letterhead: storetest.Letterhead, As: store.Engine("herald"),
		Now: func() time.Time { return w.now }, Queued: func() { w.queued++ },
	}
	w.runs(0)
	kase, err := s.OpenCase(t.Context(), storetest.Ann, store.Opening{Title: "overflow"}, w.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.id = kase.ID
	w.add(storetest.Ann, &psirt.AffectedSet{Ranges: []psirt.AffectedRange{{Name: storetest.Product, Range: "vers:semver/<2.0.0"}}})
	if _, err := s.FreezeAffected(t.Context(), storetest.Ann, w.id, w.now, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.PrepareNotices(t.Context(), storetest.Ann, w.id, storetest.NoticeContent(), w.now); err != nil {
		t.Fatal(err)
	}
	if got := w.tell(); len(got) != 0 || w.queued != 0 {
		t.Fatalf("a sealed case told %d tenants", len(got))
	}
	w.add(store.Engine("ladder"), &psirt.RungOpened{Rung: psirt.TenantsRung, Decision: []byte(`{}`)})
	for range 2 { // a second look tells nobody twice
		if got := w.tell(); len(got) != 1 || got[0].Tenant != "north" || got[0].Edition != 1 || len(got[0].Progress.Resources) != 1 || w.queued != 1 {
			t.Fatalf("told %+v, queued %d times", got, w.queued)
		}
	}
	w.runs(1)
	if _, err := s.UpdateAffected(t.Context(), w.id, w.now); err != nil {
		t.Fatal(err)
	}
	got := w.tell()
	if len(got) != 1 || got[0].Edition != 2 || len(got[0].Progress.Resources) != 2 || !strings.Contains(got[0].Progress.Resources[1].Reason, "2.0.0") {
		t.Fatalf("after a late joiner: %+v", got)
	}
	w.add(storetest.Ann, &psirt.CaseClosed{Why: "done"})
	if got := w.tell(); len(got) != 1 || !got[0].Ended {
		t.Fatalf("after the case was closed: %+v", got)
	}
}
