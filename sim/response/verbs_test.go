package response

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/advisory"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/server"
	"github.com/headgate/headgate/store"
)

// fleet makes tenants, with endpoints and an access token each.
func (t *teller) fleet(args []string) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for tenant := range strings.SplitSeq(args[0], ",") {
		if _, err := t.w.command("tenant", "add", tenant); err != nil {
			return err
		}
		token, err := t.w.command("tenant", "token", tenant)
		if err != nil {
			return err
		}
		t.w.tokens[tenant] = strings.TrimSpace(token)
		access, err := t.w.command("token", "add", tenant, "--scope", "tenant", "--of", tenant)
		if err != nil {
			return err
		}
		if err := os.WriteFile(tenant+".access", []byte(access), 0o600); err != nil {
			return err
		}
		if err := t.w.enrol(tenant, args[1], n); err != nil {
			return err
		}
		t.tenants = append(t.tenants, tenant)
	}
	return nil
}

// of are a tenant's endpoints.
func (t *teller) of(tenant string) (out []*endpoint, err error) {
	for _, e := range t.w.fleet {
		if e.tenant == tenant {
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		err = fmt.Errorf("tenant %s has no endpoints", tenant)
	}
	return out, err
}

func (t *teller) away(args []string) error {
	all, err := t.of(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n > len(all) {
		return fmt.Errorf("%s of %d endpoints", args[1], len(all))
	}
	for _, e := range all[len(all)-n:] {
		e.away = true
	}
	return nil
}

func (t *teller) back(args []string) error {
	all, err := t.of(args[0])
	for _, e := range all {
		e.away = false
	}
	return err
}

func (t *teller) keys(args []string) error {
	all, err := t.of(args[0])
	if err != nil {
		return err
	}
	age, err := length(args[1])
	for _, e := range all {
		e.key = t.w.clock().Add(-age)
	}
	return err
}

func (t *teller) pass(args []string) error {
	d, err := length(args[0])
	if err != nil {
		return err
	}
	_, err = t.w.run(d, quiet, func() (bool, error) { return false, t.watch() })
	return err
}

func (t *teller) run(args []string) error {
	d, err := length(args[0])
	if err != nil {
		return err
	}
	ok := func() bool { return false }
	if len(args) > 1 {
		switch strings.Join(args[1:3], " ") {
		case "until rollout":
			id, err := strconv.ParseInt(strings.TrimPrefix(args[3], "R-"), 10, 64)
			if err != nil {
				return err
			}
			ok = func() bool { return t.rollouts[id] == args[4] }
		case "until rung":
			ok = func() bool { return psirt.Rung(t.rung).At() >= psirt.Rung(args[3]).At() }
		case "until notice":
			ok = func() bool { return t.notices[args[3]] == args[4] }
		default:
			return fmt.Errorf("until what? %s", args[1:])
		}
	}
	met, err := t.w.run(d, tick, func() (bool, error) {
		err := t.watch()
		return ok(), err
	})
	if err == nil && len(args) > 1 && !met {
		err = fmt.Errorf("it did not come true within %s", d)
	}
	return err
}

// whyOpen says by which measurement a rung was opened.
func whyOpen(c store.Case) string {
	for _, f := range slices.Backward(c.Facts) {
		body, err := f.Decode()
		opened, ok := body.(*psirt.RungOpened)
		if err != nil || !ok {
			continue
		}
		var r advisory.Recorded
		if err := json.Unmarshal(opened.Decision, &r); err != nil {
			return ": " + err.Error()
		}
		reasons := r.Decision.Reasons
		return fmt.Sprintf(": %s", reasons[len(reasons)-1].Detail)
	}
	return ""
}

// readNotices reads, as each tenant, what it may: notices of its own resources,
// and no word of another tenant.
func (t *teller) readNotices([]string) error {
	none := 0
	for _, tenant := range t.tenants {
		list, err := t.w.command("notice", "list", "-o", "json", "--token-file", tenant+".access")
		if err != nil {
			return err
		}
		var all struct {
			Notices []struct {
				ID        string `json:"id"`
				Resources []struct {
					ID string `json:"id"`
				} `json:"resources"`
				Steps []struct {
					State string `json:"state"`
				} `json:"steps"`
			} `json:"notices"`
		}
		if err := json.Unmarshal([]byte(list), &all); err != nil {
			return err
		}
		if len(all.Notices) == 0 {
			none++
			continue
		}
		for _, n := range all.Notices {
			text, err := t.w.command("notice", "show", n.ID, "--token-file", tenant+".access")
			if err != nil {
				return err
			}
			if err := t.noOther(tenant, list+text); err != nil {
				return err
			}
			for _, r := range n.Resources {
				if i := slices.IndexFunc(t.w.fleet, func(e *endpoint) bool { return e.id == r.ID }); i < 0 || t.w.fleet[i].tenant != tenant {
					return fmt.Errorf("the notice to %s names %s, which is not its own", tenant, r.ID)
				}
			}
			states := ""
			for _, s := range n.Steps {
				states += " " + s.State
			}
			t.line("            %s reads %s: %d resources, all its own; its steps are:%s", tenant, n.ID, len(n.Resources), states)
		}
	}
	t.line("            %d others read nothing", none)
	return nil
}

// noOther finds what is another tenant's in a text.
func (t *teller) noOther(tenant, text string) error {
	for _, other := range t.tenants {
		if other != tenant && strings.Contains(text, other) {
			return fmt.Errorf("what %s reads names %s", tenant, other)
		}
	}
	for _, e := range t.w.fleet {
		if e.tenant != tenant && strings.Contains(text, e.id) {
			return fmt.Errorf("what %s reads names %s of %s", tenant, e.id, e.tenant)
		}
	}
	return nil
}

// verify checks what is kept.
func (t *teller) verify([]string) error {
	db := t.w.s.Store()
	if _, err := db.VerifyLedger(t.w.ctx); err != nil {
		return err
	}
	problems, err := db.Doctor(t.w.ctx)
	if err != nil || len(problems) > 0 {
		return errors.Join(err, fmt.Errorf("the doctor finds %v", problems))
	}
	t.line("            the ledger's entries follow one another; every count is right")
	return nil
}

// replay makes every recorded decision again.
func (t *teller) replay([]string) error {
	r, err := server.Replay(t.w.ctx, t.w.s.Store())
	if err != nil || r.Decisions == 0 || r.Same != r.Decisions {
		return errors.Join(err, fmt.Errorf("of %d decisions %d come out the same: %v", r.Decisions, r.Same, r.Differ))
	}
	t.line("            %d decisions, made again, come out the same", r.Decisions)
	return nil
}

// seePage looks at the reporter's page.
func (t *teller) seePage(words []string) error {
	body, err := t.visit(t.page)
	if err != nil {
		return err
	}
	for _, w := range words {
		if !strings.Contains(body, w) {
			return fmt.Errorf("the reporter's page does not hold %q:\n%s", w, body)
		}
	}
	return t.noOther("", body)
}
