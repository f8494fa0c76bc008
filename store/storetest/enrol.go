package storetest

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/headgate/headgate/store"
)

// enrolTogether enrols five at once: two new ones, one of them twice, one with
// an unknown token, and one more than its token allows.
func enrolTogether(t *testing.T, newDSN func(testing.TB) string) {
	s, ctx := Open(t, newDSN(t)), t.Context()
	if _, err := s.AddTenant(ctx, "north", "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	token := sha256.Sum256([]byte("t"))
	if err := s.AddEnrolmentToken(ctx, store.EnrolmentToken{Hash: token, Tenant: "north", Uses: 2, Expires: Start.Add(time.Hour)}, "operator:ann", Start); err != nil {
		t.Fatal(err)
	}
	before, err := s.LedgerHead(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e := func(token store.Hash, i int64) store.Enrolment {
		return store.Enrolment{Token: token, Secret: SecretOf(i), Products: []string{Product}}
	}
	got, err := s.EnrolAll(ctx, []store.Enrolment{e(token, 1), e(sha256.Sum256([]byte("no")), 2), e(token, 1), e(token, 3), e(token, 4)}, Start)
	if err != nil {
		t.Fatal(err)
	}
	if !got[0].New || got[2].New || got[0].ID != got[2].ID || !got[3].New || got[3].ID == got[0].ID {
		t.Errorf("two new ones and a repeat: %+v", got)
	}
	for _, i := range []int{1, 4} {
		if !errors.Is(got[i].Err, store.ErrUnauthenticated) {
			t.Errorf("enrolment %d: %v; want a refusal", i, got[i].Err)
		}
	}
	after, err := s.LedgerHead(ctx)
	if err != nil || after.Size != before.Size+1 {
		t.Errorf("ledger grew from %d to %d, %v; want one entry", before.Size, after.Size, err)
	}
	if n, err := s.CountEndpoints(ctx); err != nil || n != 2 {
		t.Errorf("%d endpoints, %v; want 2", n, err)
	}
	Healthy(t, s)
}
