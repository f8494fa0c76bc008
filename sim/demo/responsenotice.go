package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// noticeWait is how long the demo waits for the endpoints' checks: an agent looks
// once a minute.
const noticeWait = 3 * time.Minute

// notice is what the demo reads of a notice.
type notice struct {
	ID     string `json:"id"`
	Tenant string `json:"tenant"`
	State  string `json:"state"`
	Closed bool   `json:"closed"`
	Steps  []struct {
		State   string `json:"state"`
		Passed  int64  `json:"passed,string"`
		Failed  int64  `json:"failed,string"`
		Unknown int64  `json:"unknown,string"`
	} `json:"steps"`
	Resources []struct {
		ID string `json:"id"`
	} `json:"resources"`
}

// deployFix starts the rollout of the fix, and tells the affected tenants as soon
// as their rung opens.
func (r *response) deployFix(ctx context.Context) error {
	r.step("The fix goes out in the emergency lane, in steps all the same; the affected tenants hear as soon as half of them are proven to have it")
	for i, t := range affectedTenants {
		lang := []string{"ja", "en", "en"}[i]
		if _, err := r.command(ctx, "tenant", "contact", "set", t, "--language", lang, "--yes"); err != nil {
			return err
		}
	}
	if err := r.writeKeys(time.Now().Add(-90 * 24 * time.Hour)); err != nil {
		return err
	}
	// In haste: what it costs to wait and to go is weighed, and recorded with who
	// signed it.
	policy, err := r.emergencyPolicy("compatibility", "data-integrity")
	if err != nil {
		return err
	}
	err = r.start(ctx, product, versions[2], policy, "--exploit-hazard", "0.001", "--regression-probability", "0.01")
	if err != nil {
		return err
	}
	if err := r.each(ctx, r.fact("rollout.bound", `{"rollout":3}`)); err != nil {
		return err
	}
	if err := r.awaitRung(ctx, "tenants"); err != nil {
		return err
	}
	return r.tell(ctx)
}

// awaitRung waits until a rung is open.
func (r *response) awaitRung(ctx context.Context, rung string) error {
	for {
		var l struct {
			Gates []struct {
				Rung   string `json:"rung"`
				Open   bool   `json:"open"`
				Detail string `json:"detail"`
			} `json:"gates"`
			Rung string `json:"rung"`
		}
		if err := r.json(ctx, &l, "ladder", "show", r.kase); err != nil {
			return err
		}
		order := []string{"sealed", "partners", "tenants", "public", "details"}
		if slices.Index(order, l.Rung) >= slices.Index(order, rung) {
			return nil
		}
		if err := r.alive(); err != nil {
			return err
		}
		if time.Since(r.demo.start) > watchLimit+noticeWait {
			return fmt.Errorf("rung %s did not open: %+v", rung, l.Gates)
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// tell sends each affected tenant its own resources and steps: all must update,
// one must rotate a key besides.
func (r *response) tell(ctx context.Context) error {
	update := map[string]any{
		"text":  map[string]string{"en": "Let the update to " + versions[2] + " through.", "ja": versions[2] + " への更新を許可してください。"},
		"check": map[string]string{"kind": "version", "product": product, "want": versions[2]},
	}
	rotate := map[string]any{
		"text":  map[string]string{"en": "Replace the engine's API key.", "ja": "エンジンの API キーを交換してください。"},
		"check": map[string]string{"kind": "file_age", "product": product, "probe": "api-key", "want": time.Now().UTC().Format(time.RFC3339)},
	}
	for name, c := range map[string]struct {
		action  string
		steps   []any
		tenants []string
	}{
		"update": {"update", []any{update}, affectedTenants[:2]},
		"rotate": {"rotate", []any{update, rotate}, []string{rotating}},
	} {
		content := map[string]any{
			"version": 1, "product": product, "severity": "critical", "action": c.action, "steps": c.steps,
			"title":   map[string]string{"en": "Update acme/rules now", "ja": "acme/rules を今すぐ更新してください"},
			"summary": map[string]string{"en": "An odd event makes rules look away. Your resources below run a version that is affected.", "ja": "特殊なイベントによりルールが無効になります。下記のリソースは影響を受けるバージョンを実行しています。"},
		}
		audience, err := r.audience(ctx, c.tenants)
		if err != nil {
			return err
		}
		if err := r.tellOne(ctx, name, content, audience); err != nil {
			return err
		}
	}
	return r.tenantsSeeTheirOwn(ctx)
}

func (r *response) tellOne(ctx context.Context, name string, content, audience any) error {
	files := map[string]any{"content": content, "audience": audience}
	args := []string{"notice", "tell", r.kase, "--rung", "tenants"}
	for _, what := range []string{"content", "audience"} {
		b, err := json.Marshal(files[what])
		if err != nil {
			return fmt.Errorf("write %s of the notice: %w", what, err)
		}
		file := r.path(name + "-" + what + ".json")
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return fmt.Errorf("write %s of the notice: %w", what, err)
		}
		args = append(args, "--"+what, file)
	}
	return r.each(ctx, args)
}

// audience is the affected resources of some tenants, as the case keeps them.
func (r *response) audience(ctx context.Context, tenants []string) ([]map[string]any, error) {
	by := map[string][]map[string]string{}
	for after := ""; ; {
		var page struct {
			Resources []struct {
				Endpoint  string `json:"endpoint"`
				Tenant    string `json:"tenant"`
				Intervals []struct {
					Reason string `json:"reason"`
				} `json:"intervals"`
			} `json:"resources"`
		}
		args := []string{"affected", "show", r.kase, "--limit", "1000"}
		if after != "" {
			args = append(args, "--after", after)
		}
		if err := r.json(ctx, &page, args...); err != nil {
			return nil, err
		}
		for _, x := range page.Resources {
			after = x.Endpoint
			reason := ""
			if len(x.Intervals) > 0 {
				reason = x.Intervals[0].Reason
			}
			by[x.Tenant] = append(by[x.Tenant], map[string]string{"id": x.Endpoint, "product": product, "version": versions[0], "reason": reason})
		}
		if len(page.Resources) < 1000 {
			break
		}
	}
	var out []map[string]any
	for _, t := range tenants {
		if len(by[t]) == 0 {
			return nil, fmt.Errorf("tenant %s has no affected resource", t)
		}
		out = append(out, map[string]any{"tenant": t, "resources": by[t]})
	}
	return out, nil
}

// notices lists the case's notices, or a tenant's own by its token.
func (r *response) notices(ctx context.Context, args ...string) (map[string]notice, error) {
	var list struct {
		Notices []notice `json:"notices"`
	}
	if err := r.json(ctx, &list, append([]string{"notice", "list"}, args...)...); err != nil {
		return nil, err
	}
	out := map[string]notice{}
	for _, n := range list.Notices {
		out[n.Tenant] = n
	}
	return out, nil
}

// tenantsSeeTheirOwn looks with each tenant's own token: the three have one notice
// each, of their own resources; the nine have none.
func (r *response) tenantsSeeTheirOwn(ctx context.Context) error {
	for _, t := range append(slices.Clone(affectedTenants), otherTenants...) {
		token, err := r.command(ctx, "token", "add", t, "--scope", "tenant", "--of", t, "--yes")
		if err != nil {
			return err
		}
		file := r.path("keys", t+".access")
		if err := os.WriteFile(file, token, 0o600); err != nil {
			return fmt.Errorf("write token of %s: %w", t, err)
		}
		mine, err := r.notices(ctx, "--token-file", file)
		if err != nil {
			return err
		}
		affected := slices.Contains(affectedTenants, t)
		if len(mine) > 1 || (len(mine) == 1) != affected {
			r.failf("tenant %s sees %d notices; affected: %v", t, len(mine), affected)
			continue
		}
		if !affected {
			continue
		}
		text, err := r.command(ctx, "notice", "show", mine[t].ID, "--token-file", file)
		if err != nil {
			return err
		}
		for _, o := range append(slices.Clone(affectedTenants), otherTenants...) {
			if o != t && strings.Contains(string(text), o) {
				r.failf("the notice of %s names %s", t, o)
			}
		}
		if _, err := r.command(ctx, "notice", "acknowledge", mine[t].ID, "--token-file", file, "--yes"); err != nil {
			return err
		}
	}
	r.step("Three tenants have a notice each, of their own resources only; nine have none")
	return nil
}

// awaitRungs follows the rollout to its end, and the ladder to its top.
func (r *response) awaitRungs(ctx context.Context) error {
	if err := r.finished(ctx, 3); err != nil {
		return err
	}
	if err := r.awaitRung(ctx, "details"); err != nil {
		return err
	}
	var k struct {
		Facts []struct {
			Kind string `json:"kind"`
			AtUs int64  `json:"atUs,string"`
			Body string `json:"body"`
		} `json:"facts"`
	}
	if err := r.json(ctx, &k, "case", "show", r.kase); err != nil {
		return err
	}
	for _, f := range k.Facts {
		if f.Kind != "rung.opened" {
			continue
		}
		if err := r.opened(f.AtUs, f.Body); err != nil {
			return err
		}
	}
	if n := len(r.out.Rungs); n == 0 || r.out.Rungs[n-1].Rung != "details" {
		r.failf("the ladder's openings are %+v", r.out.Rungs)
	}
	return nil
}

// opened notes one opening, and checks that enough was verified for it.
func (r *response) opened(at int64, body string) error {
	var b struct {
		Rung     string `json:"rung"`
		Decision struct {
			Decision struct {
				Lower   float64 `json:"lower"`
				Reasons []struct {
					Detail string `json:"detail"`
				} `json:"reasons"`
			} `json:"decision"`
		} `json:"decision"`
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return fmt.Errorf("read an opening of the ladder: %w", err)
	}
	o := RungOpened{Rung: b.Rung, Lower: b.Decision.Decision.Lower, Seconds: time.UnixMicro(at).Sub(r.demo.start).Seconds()}
	if n := len(b.Decision.Decision.Reasons); n > 0 {
		o.Reason = b.Decision.Decision.Reasons[n-1].Detail
	}
	need := map[string]float64{"tenants": 0.5, "public": 0.9, "details": 0.99}[b.Rung]
	if o.Lower < need {
		r.failf("rung %s opened with %.3f verified; it asks for %v", o.Rung, o.Lower, need)
	}
	r.out.Rungs = append(r.out.Rungs, o)
	r.step("Rung %s: %s", o.Rung, o.Reason)
	return nil
}

// awaitNotices waits until the notices whose steps are done are closed by proof.
func (r *response) awaitNotices(ctx context.Context) error {
	r.step("Each endpoint's own agent looks whether the steps were done; that may take a minute")
	return r.until(ctx, "the notices of "+strings.Join(affectedTenants[:2], " and ")+" to close", func(all map[string]notice) bool {
		c := all[rotating]
		return all[affectedTenants[0]].Closed && all[affectedTenants[1]].Closed && len(c.Steps) == 2 && c.Steps[0].State == "verified" && c.Steps[1].Failed == int64(len(r.rotatingAgents()))
	})
}

// until waits for the notices to be as ok wants them.
func (r *response) until(ctx context.Context, what string, ok func(map[string]notice) bool) error {
	for begun := time.Now(); ; {
		all, err := r.notices(ctx, "--case", r.kase)
		if err != nil {
			return err
		}
		if len(all) == len(affectedTenants) && ok(all) {
			return nil
		}
		if time.Since(begun) > noticeWait {
			return fmt.Errorf("waited %s for %s: %+v", noticeWait, what, all)
		}
		if err := r.alive(); err != nil {
			return err
		}
		if err := wait(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// rotatingAgents are the agents of the tenant that must rotate its key.
func (r *response) rotatingAgents() (out []string) {
	for i := range r.Agents {
		if affectedTenants[i%len(affectedTenants)] == rotating {
			out = append(out, agentName(i))
		}
	}
	return out
}

// writeKeys writes a key into the product's state on each of these, as old as at.
func (r *response) writeKeys(at time.Time) error {
	for _, name := range r.rotatingAgents() {
		file := r.path("agents", name, "keeper", "products", filepath.FromSlash(product), "state", "api.key")
		err := os.WriteFile(file, []byte("throw-away "+at.String()+"\n"), 0o600)
		if err == nil {
			err = os.Chtimes(file, at, at)
		}
		if err != nil {
			return fmt.Errorf("write the key of %s: %w", name, err)
		}
	}
	return nil
}

// rotateKey: the notice of the tenant that must rotate its key is open until its
// agents have seen the new key.
func (r *response) rotateKey(ctx context.Context) error {
	all, err := r.notices(ctx, "--case", r.kase)
	if err != nil {
		return err
	}
	if all[rotating].Closed {
		r.failf("the notice of %s closed before its key was rotated", rotating)
	}
	r.step("%s has updated, and its notice stays open: its key is old. Now it is rotated", rotating)
	if err := r.writeKeys(time.Now()); err != nil {
		return err
	}
	if err := r.until(ctx, "the notice of "+rotating+" to close", func(all map[string]notice) bool { return all[rotating].Closed }); err != nil {
		return err
	}
	if all, err = r.notices(ctx, "--case", r.kase); err != nil {
		return err
	}
	for t, n := range all {
		r.out.Notices[t] = n.State
		if n.State != "verified" {
			r.failf("the notice of %s is %s", t, n.State)
		}
	}
	r.step("All three notices are closed by proof")
	return nil
}
