package wire

import (
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
)

// checks are the machine checks that the server asks an endpoint for. A simulated
// endpoint has versions and no files: what asks for more is unknown, which never
// closes a step.
type checks struct {
	asked []*v1.Check
	told  map[string]v1.CheckState // by id, as the server acknowledged it
}

// results are those that the server has not acknowledged.
func (e *endpoint) results() (out []*v1.CheckResult) {
	for _, c := range e.checks.asked {
		if r := e.look(c); e.checks.told[c.Id] != r.State {
			out = append(out, r)
		}
	}
	return out
}

func (e *endpoint) look(c *v1.Check) *v1.CheckResult {
	r := &v1.CheckResult{Id: c.Id, State: v1.CheckState_CHECK_STATE_UNKNOWN, Reason: "unsupported"}
	ask := release.Check{Kind: release.CheckKind(c.Kind), Product: c.Product, Probe: c.Probe, Want: c.Want}
	if ask.Kind != release.CheckRuns || ask.Validate() != nil {
		return r
	}
	r.Reason = "not-running"
	for i := range e.products {
		p := &e.products[i]
		if p.Product.Product != c.Product || p.Version == "" || !p.Healthy {
			continue
		}
		holds, err := ask.Holds(p.Version)
		switch {
		case err != nil:
			r.Reason = "probe-error"
		case holds:
			r.State, r.Reason = v1.CheckState_CHECK_STATE_PASSED, ""
		default:
			r.State, r.Reason = v1.CheckState_CHECK_STATE_FAILED, "differs"
		}
	}
	return r
}

// took takes in what the server asks for, and what it was told.
func (e *endpoint) took(asked []*v1.Check, told []*v1.CheckResult) {
	if len(asked) == 0 && e.checks.told == nil {
		return
	}
	state := map[string]v1.CheckState{}
	for _, c := range asked {
		if s, ok := e.checks.told[c.Id]; ok {
			state[c.Id] = s
		}
	}
	for _, r := range told {
		state[r.Id] = r.State
	}
	e.checks = checks{asked: asked, told: state}
}
