package server

import (
	"testing"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/rollout"
)

// A tenant's token sets its own limits and explains its own endpoints, and no
// others; what it set is what the endpoint is answered and what is said of it.
func TestATenantSetsItsOwnLimitsOnly(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	device := w.enrol(1)[0]
	_, err := w.account.AddTenant(t.Context(), connect.NewRequest(&headgatev1.AddTenantRequest{Name: "t2"}))
	check(t, err)
	own, other := w.as("t1-bot", headgatev1.Scope_SCOPE_TENANT, "t1"), w.as("t2-bot", headgatev1.Scope_SCOPE_TENANT, "t2")

	set := &headgatev1.SetTenantLimitsRequest{Tenant: "t1", Json: `{"rules":[{"product":"` + product + `","opt_out":true}]}`}
	if _, err := other.account.SetTenantLimits(t.Context(), connect.NewRequest(set)); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("another tenant's limits: %v", err)
	}
	if _, err := other.account.GetTenantLimits(t.Context(), connect.NewRequest(&headgatev1.GetTenantLimitsRequest{Tenant: "t1"})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("reading another tenant's limits: %v", err)
	}
	got, err := own.account.SetTenantLimits(t.Context(), connect.NewRequest(set))
	check(t, err)
	if got.Msg.Limits.Revision != 1 {
		t.Errorf("%+v", got.Msg.Limits)
	}
	set.Json = `{"rules":[{"pin":"newest"}]}`
	if _, err := own.account.SetTenantLimits(t.Context(), connect.NewRequest(set)); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a pin to no version: %v", err)
	}
	set.Json = ""
	if _, err := own.account.SetTenantLimits(t.Context(), connect.NewRequest(set)); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("on an old revision: %v", err)
	}

	id := w.start("1.0.0", rollout.DefaultPolicy())
	answer, err := device.grant(t.Context(), id, digest)
	check(t, err)
	explain := &headgatev1.ExplainEndpointRequest{Id: device.id}
	if _, err := other.fleet.ExplainEndpoint(t.Context(), connect.NewRequest(explain)); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("another tenant's endpoint: %v", err)
	}
	why, err := own.fleet.ExplainEndpoint(t.Context(), connect.NewRequest(explain))
	check(t, err)
	delays := why.Msg.Standings[0].Delays
	if len(delays) == 0 || delays[0].Code != answer.Reason || answer.Reason != "tenant-opted-out" || delays[0].By != "tenant" {
		t.Errorf("answered %q, explained by %+v", answer.Reason, delays)
	}
	// Nobody is left to wait for, which is said; the rollout is not stuck for an
	// unknown reason.
	w.decideNow(id)
	if r := w.show(id); len(r.Reasons) == 0 || r.Reasons[0].Code != "all-deferred" {
		t.Errorf("%+v", r.Reasons)
	}
}

// decideNow has the decider count afresh and decide.
func (w *world) decideNow(id int64) {
	w.Helper()
	check(w, w.decider.Decide(w.Context(), id))
}
