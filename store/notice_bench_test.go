package store_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/headgate/headgate/internal/cputime"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
	"github.com/headgate/headgate/store/storetest"
)

// BenchmarkNotices renders and queues the notices of 10,000 tenants, half of them
// in Japanese, with mail for all and a webhook for every tenth. It reports tenants
// per second of this process's CPU time: what one core does.
func BenchmarkNotices(b *testing.B) {
	const tenants = 10_000
	s, err := store.Open(b.Context(), sqliteDSN(b), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	w := storetest.NewTold(b, s)
	var matches []notify.Match
	for i := range tenants {
		name := fmt.Sprintf("tenant-%05d", i)
		k := store.Contact{Tenant: name, Language: []notify.Language{notify.English, notify.Japanese}[i%2], Email: name + "@mail.example"}
		if i%10 == 0 {
			k.Webhook, k.Secret = "https://hooks.example/"+name, make([]byte, 32)
		}
		if _, err := s.AddTenant(b.Context(), name, "operator:ann", storetest.Start); err != nil {
			b.Fatal(err)
		}
		if _, err := s.SetContact(b.Context(), storetest.Ann, k, storetest.Start); err != nil {
			b.Fatal(err)
		}
		m := notify.Match{Tenant: name}
		for r := range 3 {
			m.Resources = append(m.Resources, notify.Resource{ID: fmt.Sprintf("E-%05d-%d", i, r), Product: "acme/rules", Version: "0.9", Reason: "0.9 is within <1.0.0"})
		}
		matches = append(matches, m)
	}
	if w.Draft.Audience, err = notify.NewAudience(matches); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		kase, err := s.OpenCase(b.Context(), storetest.Ann, store.Opening{Title: "overflow"}, storetest.Start, nil)
		if err != nil {
			b.Fatal(err)
		}
		w.Case, w.Draft.Case = kase.ID, kase.ID
		w.OpenRung(b, psirt.TenantsRung)
		began, told := cputime.Used(), 0
		for more := true; more; {
			wave, err := s.QueueWave(b.Context(), storetest.Ann, w.Draft, storetest.Start)
			if err != nil {
				b.Fatal(err)
			}
			told, more = told+wave.Notices, wave.More
		}
		if told != tenants {
			b.Fatalf("told %d", told)
		}
		b.ReportMetric(float64(tenants)/(cputime.Used()-began).Seconds(), "tenants/cpu-s(goal>10000)")
	}
}
