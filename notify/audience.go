package notify

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"slices"
)

// Resource is one thing of a tenant's that a case concerns, and why.
type Resource struct {
	ID      string `json:"id"`             // an endpoint's id, or a name that the tenant knows
	Name    string `json:"name,omitempty"` // as its owner calls it
	Product string `json:"product"`
	Version string `json:"version"`
	Reason  string `json:"reason"` // which range or component matched, and how
}

func (r Resource) compare(o Resource) int {
	return cmp.Or(cmp.Compare(r.ID, o.ID), cmp.Compare(r.Product, o.Product), cmp.Compare(r.Version, o.Version), cmp.Compare(r.Reason, o.Reason))
}

// Match is resources of one tenant that a case concerns. A tenant may be in
// several matches.
type Match struct {
	Tenant    string
	Resources []Resource
}

// Recipient is a tenant that must hear, and its resources.
type Recipient struct {
	Tenant    string     `json:"tenant"`
	Resources []Resource `json:"resources"` // sorted, each once
}

// Audience is who must hear of a case: a frozen answer, in a form that hashes to
// one value whatever the order of the matches.
type Audience struct {
	Recipients []Recipient `json:"recipients"` // by tenant
}

// NewAudience makes the audience of matches: the tenants with at least one
// resource, exactly. A match without a tenant, or a resource without an id, is an
// error, since dropping it would leave somebody untold.
func NewAudience(matches []Match) (Audience, error) {
	by := map[string][]Resource{}
	for i, m := range matches {
		if m.Tenant == "" {
			return Audience{}, invalid("match %d: no tenant", i)
		}
		for j, r := range m.Resources {
			if r.ID == "" {
				return Audience{}, invalid("match %d of tenant %s: resource %d: no id", i, m.Tenant, j)
			}
		}
		by[m.Tenant] = append(by[m.Tenant], m.Resources...)
	}
	a := Audience{Recipients: make([]Recipient, 0, len(by))}
	for tenant, rs := range by {
		if len(rs) == 0 {
			continue
		}
		slices.SortFunc(rs, Resource.compare)
		rs = slices.Compact(rs)
		if len(rs) > maxResources {
			return Audience{}, invalid("tenant %s: %d resources, limit %d", tenant, len(rs), maxResources)
		}
		a.Recipients = append(a.Recipients, Recipient{Tenant: tenant, Resources: rs})
	}
	slices.SortFunc(a.Recipients, func(x, y Recipient) int { return cmp.Compare(x.Tenant, y.Tenant) })
	return a, nil
}

// Hash is the SHA-256 of the audience's canonical JSON.
func (a Audience) Hash() [32]byte {
	b, err := json.Marshal(a)
	if err != nil {
		panic("notify: an audience is plain strings and must marshal: " + err.Error())
	}
	return sha256.Sum256(b)
}

// Of finds a tenant's part; false if it hears nothing.
func (a Audience) Of(tenant string) (Recipient, bool) {
	i, ok := slices.BinarySearchFunc(a.Recipients, tenant, func(r Recipient, t string) int { return cmp.Compare(r.Tenant, t) })
	if !ok {
		return Recipient{}, false
	}
	return a.Recipients[i], true
}

// Told is what a tenant was told in its newest edition: the rung, and the hash of
// the resources named there.
type Told struct {
	Rung      Rung
	Resources [32]byte
}

// Wave is who must be told now: one edition each.
type Wave struct {
	Rung       Rung
	Recipients []Recipient
}

// NextWave is who must hear at rung: recipients that have not heard at this rung
// or a later one, and those to whom resources were added (late joiners). It is
// empty while the rung tells tenants nothing. A tenant whose resources only
// became fewer is not told again: its checks will say so.
func NextWave(a Audience, rung Rung, told map[string]Told) Wave {
	w := Wave{Rung: rung}
	if !reaches(rung, Tenants) {
		return w
	}
	for _, r := range a.Recipients {
		before, ok := told[r.Tenant]
		if ok && reaches(before.Rung, rung) && before.Resources == HashResources(r.Resources) {
			continue
		}
		w.Recipients = append(w.Recipients, r)
	}
	return w
}

// HashResources is the SHA-256 of which resources a notice names, whatever their
// versions and reasons: an update that runs must not raise a new wave.
func HashResources(rs []Resource) [32]byte {
	var b bytes.Buffer
	last := ""
	for _, r := range rs {
		if r.ID != last {
			b.WriteString(r.ID)
			b.WriteByte(0)
		}
		last = r.ID
	}
	return sha256.Sum256(b.Bytes())
}
