package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/internal/span"
)

// Field documents one field of the policy document.
type Field struct {
	Path string // as in the JSON; an element of a list is "[]"
	Text string // what it does, its unit, and what 0 or leaving it out means
}

// Fields lists every field of a policy, in the order of the document.
func Fields() []Field { return slices.Clone(fields) }

var fields = []Field{
	{"name", "what people call it; recorded with each rollout"},
	{"ladder", "without a budget: how many endpoints each rung may add"},
	{"growth", "without a budget: past the ladder's end each rung is so many times the last"},
	{"canaries", "without a budget: endpoint ids that go first, alone"},
	{"probation", "how long an endpoint must stay healthy after its switch to count as proven"},
	{"grant_ttl", "how long a grant lives: a halt is final after it; at most 1m"},
	{"grace", "added to grant and probation before an open exposure counts as silent"},
	{"max_harmed", "without a budget: halt at so many harmed or silent, or at the share, the greater of both"},
	{"max_harmed_share", "without a budget: the same as a share of the exposed"},
	{"max_preflight_failed", "halt when so many endpoints refused the release in preflight"},
	{"min_proven", "without a budget: the share of a rung that must be proven to climb"},
	{"min_controls", "hold while less than this share of the unexposed endpoints is heard from"},
	{"fill_timeout", "how long a rung may stay unfilled before more endpoints are called"},
	{"revert_on_halt", "order everybody back when the evidence halts the rollout"},
	{"poll", "how often endpoints ask for the plan meanwhile"},
	{"poll_jitter", "by which share each poll varies at random"},
	{"beacon", "how often endpoints report meanwhile"},
	{"ages", "ages after the switch at which an endpoint reports besides"},
	{"evidence", "kinds of test evidence that must be attested before it may start, such as compatibility"},
	{"budget", "pace by evidence: bound of the excess failure rate × exposed <= harm budget"},
	{"budget.horizons", "one harm budget for each age, by rising age; a rollout waits for each at each gate"},
	{"budget.horizons[].age", "the budget holds for faults that show by this age after the grant"},
	{"budget.horizons[].harm", "how many endpoints such a fault may harm; 0 is no limit in number"},
	{"budget.horizons[].share", "the same as a share of the fleet, never below 30 endpoints; the smaller rules"},
	{"budget.delta", "the probability with which a bad release may overrun a budget"},
	{"budget.alpha", "the probability of halting a good release, over its whole life"},
	{"budget.alpha_segment", "the probability of wrongly halting any segment of a good release"},
	{"budget.gates", "the least number of gates before everyone; 0 is as few as the budget needs"},
	{"budget.cover", "endpoints chosen because they cover pairs of labels; at most a fiftieth of the fleet"},
	{"budget.cover_per_tenant", "how many of those may be one tenant's; 0 is any number"},
	{"budget.critical", "combinations such as \"arch=arm64 & driver=X\" of which one endpoint is chosen whatever their size"},
	{"budget.segments", "halt a segment alone where its labels explain the harm"},
	{"budget.max_segment", "the largest share of the fleet that one halted segment may have"},
	{"budget.max_excluded", "the largest share of the fleet in halted segments; beyond it everything halts"},
	{"budget.slow_share", "the share of the fleet that the release may slow down beyond the controls' 95th percentile; 0 is not to judge"},
	{"budget.slow_doubt", "the probability with which a good release may be doubted for its vitals: while it is, a step exposes at most four times as many; 0 or left out is never"},
	{"budget.measures", "what else endpoints are compared by, each with slow_share as its budget; at most 8"},
	{"budget.measures[].measure", "crashes, start, or the name that the product's check command says"},
	{"budget.measures[].over", "how many there were over 1m, 10m or 1h, for which an endpoint must have run the version; left out is no count but a value"},
	{"budget.measures[].worse", "by how much it may grow, or with a minus sign fall, and not be worse: \"20%\", of a value also \"-10%\""},
	{"budget.holdback", "the share of the fleet that stays control until the finish"},
	{"budget.baseline", "the share of healthy endpoints that fail by the first horizon all the same; plans the cohorts, judges nothing"},
	{"signals", "things outside that the rollout looks at, in the server's Prometheus; what cannot be read holds it"},
	{"signals[].name", "what people call it"},
	{"signals[].query", "PromQL; $product, $version and $rollout stand for the rollout's own; each series of the result is judged"},
	{"signals[].is", "above or below: the side of the threshold on which it is bad"},
	{"signals[].threshold", "the bound, in the query's unit; on it is not bad"},
	{"signals[].for", "how long without a break it must be bad, up to 24h; until then it holds; left out is at once"},
	{"signals[].then", "halt or hold"},
	{"emergency", "what the policy may do where a hole is exploited"},
	{"emergency.overrides", "what it overrides of tenants' limits where the tenant says emergency: follow; a list of defer and window"},
	{"emergency.operators", "how many operators it takes to switch a running rollout to an emergency's policy: 1 or 2; left out is 2"},
	{"emergency.lane", "the policy, a preset or NAME[@REVISION], by which a start or a running rollout goes when a case says exploited"},
	{"emergency.trade", "what a lane is weighed by that is taken without anybody's entering a trade; left out is a hazard of 1e-4 and bad of 1e-3, recorded as assumed"},
	{"emergency.trade.hazard_per_hour", "the probability that an unprotected endpoint is compromised within an hour"},
	{"emergency.trade.bad", "the probability that the release is bad"},
	{"emergency.trade.cost_compromised", "of one compromised endpoint, in any one unit; both costs left out are 1"},
	{"emergency.trade.cost_harmed", "of one harmed endpoint, in the same unit"},
	{"declared", "what the author promises of this policy; headgate policy check --simulate holds it to that"},
	{"declared.minutes_to_99", "a good release protects 99 % of the reachable in so many minutes, in 95 of 100 rollouts"},
	{"declared.harmed", "by fault of headgate simulate: it harms at most so many endpoints, in 95 of 100 rollouts"},
}

// Declared is what a policy's author promises of it, on a fleet of the size that
// it is checked with. Nothing decides by it: it is for headgate policy check.
type Declared struct {
	MinutesTo99 float64            `json:"minutes_to_99,omitempty"`
	Harmed      map[string]float64 `json:"harmed,omitempty"` // by fault
}

func (d Declared) check() (field string, err error) {
	if !(d.MinutesTo99 >= 0) {
		return "minutes_to_99", fmt.Errorf("%v; want at least 0", d.MinutesTo99)
	}
	for fault, n := range d.Harmed {
		if !(n >= 0) {
			return "harmed", fmt.Errorf("%v by %s; want at least 0", n, fault)
		}
	}
	return "", nil
}

// spans are the fields that hold a length of time: package json does not say
// which one an unreadable text stood in.
var spans = []string{"probation", "grant_ttl", "grace", "fill_timeout", "poll", "beacon", "ages", "budget.horizons[].age", "budget.measures[].over", "signals[].for"}

// misread finds the field whose length of time cannot be read, "" if none.
func misread(document []byte) (field string) {
	for _, path := range spans {
		var v any
		if json.Unmarshal(document, &v) != nil {
			return ""
		}
		for _, leaf := range leaves(v, path) {
			b, err := json.Marshal(leaf)
			if err != nil {
				continue
			}
			if new(span.Duration).UnmarshalJSON(b) != nil {
				return path
			}
		}
	}
	return ""
}

// leaves are the values at a path, those of every element where it crosses a
// list.
func leaves(v any, path string) (out []any) {
	if list, ok := v.([]any); ok {
		for _, x := range list {
			out = append(out, leaves(x, path)...)
		}
		return out
	}
	if path == "" {
		return []any{v}
	}
	step, rest, _ := strings.Cut(path, ".")
	object, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	if x, ok := object[strings.TrimSuffix(step, "[]")]; ok {
		return leaves(x, rest)
	}
	return nil
}
