package response

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/link"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
)

// endpoint is one endpoint: what it runs, and how old its key is.
type endpoint struct {
	id, tenant, token string
	product           ipc.Product
	key               time.Time // when its API key was written
	away              bool      // switched off

	seq      int64
	switched time.Time // when probation began; zero if it is over
	last     time.Time // beacon; zero: one is due now
	asked    []*v1.Check
	told     map[string]v1.CheckState
}

// enrol brings n endpoints of a tenant that run a product.
func (w *world) enrol(tenant, product string, n int) error {
	for i := range n {
		secret := make([]byte, 32)
		rand.Read(secret)
		res, err := w.agent.Enrol(w.ctx, connect.NewRequest(&v1.EnrolRequest{
			EnrolmentToken: w.tokens[tenant], Secret: base64.RawURLEncoding.EncodeToString(secret), Name: fmt.Sprintf("%s-%03d", tenant, i+1),
			Labels: map[string]string{"os": "linux"}, Products: []string{product}, AgentVersion: "1.0.0",
		}))
		if err != nil {
			return err
		}
		w.fleet = append(w.fleet, &endpoint{
			id: res.Msg.EndpointId, tenant: tenant, token: res.Msg.Token, product: ipc.Product{Product: product, Healthy: true}, key: w.clock(), told: map[string]v1.CheckState{},
		})
	}
	return nil
}

// turn does what is due on an endpoint.
func (e *endpoint) turn(w *world) error {
	if e.away {
		return nil
	}
	now := w.clock()
	if a := e.product.Attempt; !e.switched.IsZero() && !now.Before(e.switched.Add(e.probation(w.plan))) {
		a.State, e.switched, e.last = ipc.AttemptProven, time.Time{}, time.Time{}
	}
	if err := e.ask(w); err != nil {
		return err
	}
	every := link.Pace(w.plan.Beacon)
	if !e.switched.IsZero() {
		every = tick
	}
	if now.Before(e.last.Add(every)) && len(e.results()) == 0 {
		return nil
	}
	return e.beacon(w)
}

// probation is how long what runs must be healthy.
func (e *endpoint) probation(p release.Plan) time.Duration {
	for _, o := range p.Offers {
		if o.Digest == e.product.Digest {
			return o.Probation.Std()
		}
	}
	return 0
}

// ask follows the plan, and switches if it is granted.
func (e *endpoint) ask(w *world) error {
	want := link.Choose(w.plan, e.id, []link.Have{{Product: e.product}})[0]
	if want.Do != link.DoAsk {
		return nil
	}
	req := connect.NewRequest(&v1.GrantRequest{Rollout: want.Offer.Rollout, Digest: want.Offer.Digest})
	req.Header().Set("Authorization", "Bearer "+e.token)
	res, err := w.agent.Grant(w.ctx, req)
	if err != nil || res.Msg.Verdict != v1.GrantVerdict_GRANT_VERDICT_GRANTED {
		return err
	}
	o := want.Offer
	e.product.Version, e.product.Digest = o.Version, o.Digest
	e.product.Attempt = &ipc.Attempt{Rollout: o.Rollout, Digest: o.Digest, State: ipc.AttemptProbation}
	e.switched, e.last = w.clock(), time.Time{}
	return nil
}

// beacon reports, and hears what is to be checked.
func (e *endpoint) beacon(w *world) error {
	now := w.clock()
	e.seq++
	req := connect.NewRequest(link.BeaconOf(e.seq, ipc.Status{Products: []ipc.Product{e.product}}, false, now))
	req.Msg.CheckResults = e.results()
	req.Header().Set("Authorization", "Bearer "+e.token)
	res, err := w.agent.Beacon(w.ctx, req)
	if err != nil {
		return err
	}
	e.last = now
	for _, r := range req.Msg.CheckResults {
		e.told[r.Id] = r.State
	}
	e.asked = res.Msg.Checks
	return nil
}

// results are what the checks show that the server has not heard yet.
func (e *endpoint) results() (out []*v1.CheckResult) {
	for _, c := range e.asked {
		state := v1.CheckState_CHECK_STATE_FAILED
		ask := release.Check{Kind: release.CheckKind(c.Kind), Product: c.Product, Probe: c.Probe, Want: c.Want}
		found := e.product.Version
		if ask.Kind == release.CheckAge {
			found = strconv.FormatInt(e.key.UnixMicro(), 10)
		}
		if ok, err := ask.Holds(found); err == nil && ok {
			state = v1.CheckState_CHECK_STATE_PASSED
		}
		if e.told[c.Id] != state {
			out = append(out, &v1.CheckResult{Id: c.Id, State: state})
		}
	}
	return out
}
