package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// suite is all of the suite.
var suite = []struct {
	name string
	test func(*testing.T, func(testing.TB) string)
}{
	{"GrantThenProofIsCountedOnce", grantThenProof},
	{"WrongTokenFailsAlone", wrongToken},
	{"ProofBeforeProbationEndsIsNotTaken", earlyProof},
	{"SilencePastTheDeadline", silence},
	{"PreflightFailureCountsEachEndpointOnce", preflight},
	{"RevertByOrderIsNeitherProofNorSilence", reverted},
	{"RevertNeedsNoReportOfWhoNeverSwitched", neverSwitched},
	{"FailureDomainIsExposedOneAtATime", domains},
	{"PausedTenantGetsNoGrant", paused},
	{"WindowHoldsAgainstTwoServers", windowHolds},
	{"TwoDecidersOneCommit", twoDeciders},
	{"DecisionThatChangesNothingWritesNothing", idleDecision},
	{"ResumeAfterHaltTakesTwoOperators", resumeTakesTwo},
	{"HaltStopsGrantsAtOnce", haltStops},
	{"NewRolloutKeepsTheFinishedOneOnOffer", supersede},
	{"RolloutsGoForwardOnly", forwardOnly},
	{"StartIsIdempotent", startTwice},
	{"EnrolmentIsIdempotentAndLimited", enrolment},
	{"EnrolmentsOfOneCommitDoNotHarmEachOther", enrolTogether},
	{"AccountsAreKept", accounts},
	{"EvidenceGatesTheStart", evidenceGates},
	{"ArtifactIsWholeOrAbsent", artifacts},
	{"RepositoryCommitsAllOrNothing", repository},
	{"LedgerFindsTampering", tampering},
	{"PresenceCountsControls", presence},
	{"EndpointsArePaged", paging},
	{"BudgetCountsBothArmsByOneRule", bothArms},
	{"SilenceThatIsFoundLateCountsAtEveryHorizon", lateSilence},
	{"VitalsAreComparedOnceWithConcurrentControls", vitals},
	{"MeasuresAreComparedOnceEachWithConcurrentControls", measures},
	{"PoliciesAreRevisions", policies},
	{"OneOfTwoAppliesWins", oneApply},
	{"HaltedSegmentsAreCountedOut", segments},
	{"EarlyControlsAreCountedApart", early},
	{"CoverageIsCountedApart", coverage},
	{"TenantLimitsAreKept", limitsAreKept},
	{"TenantLimitsHoldAtTheGrant", limitsHold},
	{"WhoIsLimitedIsNotWaitedFor", limitedIsNotWaitedFor},
	{"ATenantMayStayBehind", staysBehind},
	{"WhyIsTheAnswer", whyIsTheAnswer},
	{"ToSwitchLanesTakesTwo", laneTakesTwo},
	{"DoctorFindsWhatDoesNotAddUp", doctorFinds},
	{"CountsAlwaysAddUp", countsAddUp},
	{"OrderAndRepetitionOfBeaconsChangeNothing", interleavings},
	{"ReportBecomesACaseThatIsItsFacts", caseLine},
	{"CaseIsNotThereForStrangers", caseStrangers},
	{"CaseTamperedWithIsFound", caseTampered},
	{"CaseTakesOneOfTwoWriters", caseTwoWriters},
	{"ReportSentTwiceIsOne", reportOnce},
	{"AffectedAreFollowedFromTheFreezeToTheProof", affectedStory},
	{"AffectedTellSinceWhenAndWhy", affectedTells},
	{"AffectedAreNotThereForStrangers", affectedNeedToKnow},
	{"RecipientsAreExactlyWhoMatches", recipientsAreExact},
	{"KillLosesNothingAcknowledged", killed},
	{"WavesTellExactlyTheAudienceOnce", wavesTell},
	{"NobodyIsToldLess", nobodyIsToldLess},
	{"NoticesAreReadByTheirTenantAndTheCase", noticesAreTheirs},
	{"DeliveriesSurviveTheirServer", deliveriesSurvive},
	{"ChecksCloseNoticesAndOpenThemAgain", checksClose},
	{"RemindersComeOnce", remindersComeOnce},
	{"FeedsShowTheirOwnTenantOnly", feedsAreTheirs},
	{"ReportFromOutsideIsKeptWholeAndOnce", submitOnce},
	{"LettersGoOnce", lettersGoOnce},
	{"CallsClimbUntilAnswered", callsClimb},
	{"CallsOfCasesClimb", caseCallsClimb},
	{"RewardTablesAreRevisions", rewardsAreRevisions},
	{"AnyReportCalls", anyReportCalls},
	{"WebhooksAreCalled", webhooksAreCalled},
	{"HookSecretsAreOfTheRoster", hookSecretsAreOfTheRoster},
}

// Run runs the whole suite. newDSN makes an empty database and names it.
func Run(t *testing.T, newDSN func(testing.TB) string) {
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) { c.test(t, newDSN) })
	}
}

func grantThenProof(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 5)
	ro := w.Roll(t, 3).ID
	b := store.Batch{}
	for i := range 5 {
		b.Asks = append(b.Asks, w.Ask(i, ro), w.Ask(i, ro)) // each twice
	}
	var got []rollout.Verdict
	for range 2 { // and the whole batch twice
		got = nil
		for _, a := range w.Commit(t, b, Start).Asks {
			got = append(got, a.Verdict)
		}
	}
	g, wait := rollout.Granted, rollout.Wait
	if want := []rollout.Verdict{g, g, g, g, g, g, wait, wait, wait, wait}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("verdicts %v, want %v", got, want)
	}
	later := Start.Add(15 * time.Second)
	for range 2 {
		w.Commit(t, store.Batch{Beacons: []store.BeaconReport{
			w.Beacon(0, ro, store.AttemptProven), w.Beacon(0, ro, store.AttemptProven),
			w.Beacon(1, ro, store.AttemptHarmed), w.Beacon(1, ro, store.AttemptProven), // harm is final
			w.Beacon(4, ro, store.AttemptProven), // never granted
		}}, later)
	}
	snap, err := w.Store.Snapshot(t.Context(), ro, Start)
	if err != nil {
		t.Fatal(err)
	}
	if want := (health.Counts{Exposed: 3, Proven: 1, Harmed: 1, Open: 1}); snap.Counts != want || snap.Reverted != 1 {
		t.Fatalf("counts %+v, reverted %d; want %+v and 1", snap.Counts, snap.Reverted, want)
	}
	if want := (health.Counts{Exposed: 2, Proven: 1, Open: 1}); snap.Segments["os=linux"] != want {
		t.Fatalf("os=linux has %+v, want %+v", snap.Segments["os=linux"], want)
	}
	e, err := w.Store.Endpoint(t.Context(), w.Endpoints[1].ID)
	if err != nil || len(e.Exposures) != 1 || e.Exposures[0].Reason != "crash-loop" || e.Exposures[0].Down != time.Second || !e.LastSeen.Equal(later) {
		t.Fatalf("endpoint %+v, %v", e, err)
	}
	Healthy(t, w.Store)
}

func wrongToken(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 2)
	ro := w.Roll(t, 5).ID
	forged := w.Ask(0, ro)
	forged.Secret = SecretOf(1)
	unknown := w.Ask(0, ro)
	unknown.Endpoint = 42
	beacon := w.Beacon(0, ro, store.AttemptHarmed)
	beacon.Secret = SecretOf(1)
	a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{forged, unknown, w.Ask(1, ro), w.Ask(1, 99)}, Beacons: []store.BeaconReport{beacon}}, Start)
	if !errors.Is(a.Asks[0].Err, store.ErrUnauthenticated) || !errors.Is(a.Asks[1].Err, store.ErrUnauthenticated) || !errors.Is(a.Beacons[0].Err, store.ErrUnauthenticated) {
		t.Errorf("forged: %v, unknown: %v, beacon: %v", a.Asks[0].Err, a.Asks[1].Err, a.Beacons[0].Err)
	}
	if a.Asks[2].Err != nil || a.Asks[2].Verdict != rollout.Granted {
		t.Errorf("the honest ask beside them: %+v", a.Asks[2])
	}
	if a.Asks[3].Code != "unknown-rollout" {
		t.Errorf("an ask for no rollout: %+v", a.Asks[3])
	}
	Healthy(t, w.Store)
}

func (w *World) counts(tb testing.TB, ro int64) health.Counts {
	tb.Helper()
	r, err := w.Store.Rollout(tb.Context(), ro)
	if err != nil {
		tb.Fatal(err)
	}
	return r.Counts
}

func earlyProof(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	ro := w.Roll(t, 5).ID
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro)}}, Start)
	proof := store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro, store.AttemptProven)}}
	w.Commit(t, proof, Start.Add(10*time.Second-time.Microsecond))
	if n := w.counts(t, ro); n.Open != 1 {
		t.Fatalf("proven before its probation was over: %+v", n)
	}
	w.Commit(t, proof, Start.Add(10*time.Second))
	if n := w.counts(t, ro); n.Proven != 1 {
		t.Fatalf("the repeated proof was not taken: %+v", n)
	}
}

func silence(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 3)
	ro := w.Roll(t, 5).ID
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro), w.Ask(1, ro), w.Ask(2, ro)}}, Start)
	deadline := Start.Add(30 * time.Second) // grant TTL, probation and grace
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro, store.AttemptProven)}}, deadline)
	for i, want := range []int{0, 1, 1, 0} { // limit 1
		n, err := w.Store.SweepSilent(t.Context(), deadline.Add(time.Duration(i)*time.Second), 1)
		if err != nil || n != want {
			t.Fatalf("sweep %d turned %d, %v; want %d", i, n, err, want)
		}
	}
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(1, ro, store.AttemptProven)}}, deadline.Add(time.Hour))
	if n, want := w.counts(t, ro), (health.Counts{Exposed: 3, Proven: 2, Silent: 1}); n != want {
		t.Fatalf("%+v, want %+v", n, want)
	}
	Healthy(t, w.Store)
}

func preflight(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 2)
	ro := w.Roll(t, 5).ID
	b := store.Batch{Beacons: []store.BeaconReport{
		w.Beacon(0, ro, store.AttemptPreflightFailed), w.Beacon(0, ro, store.AttemptPreflightFailed), w.Beacon(1, ro, store.AttemptPreflightFailed),
	}}
	w.Commit(t, b, Start)
	w.Commit(t, b, Start)
	r, err := w.Store.Rollout(t.Context(), ro)
	if err != nil || r.PreflightFailed != 2 || r.Counts.Exposed != 0 {
		t.Fatalf("%d preflight failures, %+v, %v", r.PreflightFailed, r.Counts, err)
	}
	Healthy(t, w.Store)
}

func reverted(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 3)
	ro := w.Roll(t, 5).ID
	w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro), w.Ask(1, ro), w.Ask(2, ro)}}, Start)
	w.Commit(t, store.Batch{Beacons: []store.BeaconReport{w.Beacon(0, ro, store.AttemptProven)}}, Start.Add(10*time.Second))
	back := store.Batch{Beacons: []store.BeaconReport{
		w.Beacon(0, ro, store.AttemptReverted), w.Beacon(1, ro, store.AttemptReverted), w.Beacon(2, ro, store.AttemptHarmed), w.Beacon(2, ro, store.AttemptReverted),
	}}
	w.Commit(t, back, Start.Add(11*time.Second))
	w.Commit(t, back, Start.Add(12*time.Second))
	n, err := w.Store.SweepSilent(t.Context(), Start.Add(time.Hour), 100)
	if err != nil || n != 0 {
		t.Fatalf("%d of those who reported went silent, %v", n, err)
	}
	r, err := w.Store.Rollout(t.Context(), ro)
	if want := (health.Counts{Exposed: 3, Proven: 1, Harmed: 1, Open: 1}); err != nil || r.Reverted != 3 || r.Counts != want {
		t.Fatalf("%d reverted, %+v, %v", r.Reverted, r.Counts, err)
	}
	e, err := w.Store.Endpoint(t.Context(), w.Endpoints[0].ID)
	if err != nil || !e.Exposures[0].Reverted || !e.Exposures[0].Settled.Equal(Start.Add(10*time.Second)) {
		t.Fatalf("going back by order forgot when it was proven: %+v, %v", e.Exposures, err)
	}
	Healthy(t, w.Store)
}

func paused(t *testing.T, newDSN func(testing.TB) string) {
	w := NewWorld(t, Open(t, newDSN(t)), 1)
	ro := w.Roll(t, 5).ID
	for _, pause := range []bool{true, false} {
		if _, err := w.Store.PauseTenant(t.Context(), "north", pause, "operator:ann", Start); err != nil {
			t.Fatal(err)
		}
		a := w.Commit(t, store.Batch{Asks: []store.GrantAsk{w.Ask(0, ro)}}, Start)
		if granted := a.Asks[0].Verdict == rollout.Granted; granted == pause {
			t.Fatalf("paused %v: %+v", pause, a.Asks[0])
		}
	}
}

func windowHolds(t *testing.T, newDSN func(testing.TB) string) {
	dsn := newDSN(t)
	w := NewWorld(t, Open(t, dsn), 120)
	ro := w.Roll(t, 37).ID
	servers := []*store.Store{w.Store, Open(t, dsn)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	granted := map[int]bool{}
	for worker := range 8 {
		wg.Go(func() {
			for at := 0; at < 120; at += 10 {
				b, who := store.Batch{}, []int{}
				for k := range 10 {
					i := (at + k + worker*13) % 120
					b.Asks, who = append(b.Asks, w.Ask(i, ro)), append(who, i)
				}
				a, err := servers[worker%2].CommitBatch(t.Context(), b, Start)
				if err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				mu.Lock()
				for k, x := range a.Asks {
					if x.Verdict == rollout.Granted {
						granted[who[k]] = true
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := w.counts(t, ro); len(granted) != 37 || n.Exposed != 37 {
		t.Fatalf("a window of 37 let %d through and counted %+v", len(granted), n)
	}
	Healthy(t, w.Store)
}
