package server

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/store"
)

// neighbour is a tenant with everything that a tenant may have, all of it marked with
// a word that is nowhere else.
type neighbour struct {
	name, word, token, endpoint string
	notice, host                string
}

// neighbours makes tenants, each with endpoints, labels, a bill of materials, limits,
// an address, a token and a notice, of texts that could break out of something.
func (w *world) neighbours(t *testing.T, n int, r *rand.Rand) (out []neighbour) {
	t.Helper()
	ctx := t.Context()
	ann := store.Viewer{Actor: "operator:ann", Scope: store.ScopeOperator}
	var matches []notify.Match
	for i := range n {
		x := neighbour{word: fmt.Sprintf("zq%dqz", i)}
		x.name = "corp-" + x.word
		_, err := w.account.AddTenant(ctx, connect.NewRequest(&headgatev1.AddTenantRequest{Name: x.name}))
		check(t, err)
		enrol, err := w.account.NewEnrolmentToken(ctx, connect.NewRequest(&headgatev1.NewEnrolmentTokenRequest{Tenant: x.name}))
		check(t, err)
		w.enrolToken = enrol.Msg.Token
		d := w.enrol(1)[0]
		check(t, d.beacon(ctx, nil))
		x.host, x.endpoint = d.id, d.token
		x.token = w.as("bot-"+x.word, headgatev1.Scope_SCOPE_TENANT, x.name).token
		_, err = w.store.SetContact(ctx, ann, store.Contact{Tenant: x.name, Language: notify.English, Email: x.word + "@mail.example", Webhook: "https://" + x.word + ".example/hook", Secret: make([]byte, 32)}, time.Now())
		check(t, err)
		matches = append(matches, notify.Match{Tenant: x.name, Resources: []notify.Resource{{ID: d.id, Name: noise(r) + x.word, Product: noise(r) + x.word, Version: x.word + noise(r), Reason: noise(r) + x.word}}})
		out = append(out, x)
	}
	w.tellOf(t, ann, matches)
	all, err := w.store.ListNotices(ctx, store.Engine("test"), store.NoticeQuery{}, time.Now())
	check(t, err)
	for _, notice := range all {
		i := slices.IndexFunc(out, func(x neighbour) bool { return x.name == notice.Tenant })
		out[i].notice = store.NoticeID(notice.ID)
	}
	return out
}

// Whatever procedure a tenant calls, or one of its endpoints, and whatever of another
// tenant's it names there, the answer holds nothing of the other's: no word, no
// address, no endpoint, no notice, and not whether what it named is there.
func TestNoProcedureTellsATenantOfAnother(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWorld(t)
	all := w.neighbours(t, 3, rand.New(rand.NewPCG(seed, 1)))
	tried, own := 0, 0
	for procedure, in := range inputs(t) {
		for i, me := range all {
			other := all[(i+1)%len(all)]
			for role, token := range map[string]string{"tenant": me.token, "endpoint": me.endpoint} {
				c := newClients(w.base, token)
				ask := func(body, named string) (int, string) {
					status, answer := c.post(t, procedure, body)
					tried++
					text := strings.ReplaceAll(answer, named, "NAMED") // what the caller sends may come back
					for j, x := range all {
						for _, secret := range []string{x.word, x.host, x.notice} {
							if j != i && strings.Contains(text, secret) {
								t.Errorf("%s as the %s of %s, naming %q, tells %q: %.300s", procedure, role, me.name, named, secret, answer)
							}
							if j == i && strings.Contains(text, secret) {
								own++
							}
						}
					}
					return status, text
				}
				ask("{}", "nothing")
				for _, pair := range [][2]string{{other.name, "corp-nobody"}, {other.host, ids.Format("E", ids.Random())}, {other.notice, ids.Format("N", ids.Random())}} {
					status1, there := ask(bodyWith(t, in, pair[0]), pair[0])
					status2, none := ask(bodyWith(t, in, pair[1]), pair[1])
					if a, b := moving.ReplaceAllString(there, "N"), moving.ReplaceAllString(none, "N"); status1 != status2 || status1 >= 400 && a != b {
						t.Errorf("%s as the %s of %s tells that %s is there:\n%d %s\n%d %s", procedure, role, me.name, pair[0], status1, a, status2, b)
					}
				}
			}
		}
	}
	if tried < 3*2*7*50 || own == 0 {
		t.Errorf("tried %d calls, and a tenant was told of its own %d times", tried, own)
	}
}
