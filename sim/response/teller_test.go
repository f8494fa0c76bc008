package response

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/store"
)

// teller plays a script and writes what happens. One command a line, words in '…'
// or "…" where they hold spaces, $NAME for what NAME was set to:
//
//	NAME = COMMAND...                a command of headgate; NAME is what it answers
//	COMMAND...                       a command of headgate
//	show COMMAND...                  the same, and write what it answers
//	as TENANT show COMMAND...        the same, with the tenant's token
//	refused COMMAND...               a command that must be refused; write why
//	NAME = form FILE                 a visitor sends the public form; NAME is the number
//	page WORDS...                    the reporter's page holds these, and no tenant
//	fleet TENANT,... PRODUCT N       make tenants with N endpoints each
//	away TENANT N, back TENANT       switch off N endpoints; switch all on again
//	keys TENANT AGE                  the keys on a tenant's endpoints are so old now
//	run D [until rollout R STATE | until rung RUNG | until notice TENANT STATE]
//	pass D                           let time pass in which little happens
//	notices                          what each tenant may read, with its own token
//	replay                           make every recorded decision again
//	verify                           check the ledger and every count
type teller struct {
	w    *world
	out  io.Writer
	vars map[string]string
	page string // of the reporter

	names    map[string]string // of ids, in the order in which they came up
	rollouts map[int64]string  // states that were told
	rung     string
	notices  map[string]string
	tenants  []string
}

func newTeller(w *world, out io.Writer) *teller {
	return &teller{w: w, out: out, vars: map[string]string{}, names: map[string]string{}, rollouts: map[int64]string{}, notices: map[string]string{}}
}

func (t *teller) tell(script []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(script))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t.line("%s > %s", t.clock(), line)
		words, err := split(line)
		if err == nil {
			err = t.do(words)
		}
		if err == nil {
			err = t.watch()
		}
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", n, line, err)
		}
	}
	return lines.Err()
}

// split parts a line into words.
func split(line string) (words []string, err error) {
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		i := strings.IndexAny(rest, " ")
		if q := rest[:1]; q == "'" || q == `"` {
			if i = strings.Index(rest[1:], q); i < 0 {
				return nil, errors.New("a quotation that does not end")
			}
			words, rest = append(words, rest[1:i+1]), rest[i+2:]
			continue
		}
		if i < 0 {
			i = len(rest)
		}
		words, rest = append(words, rest[:i]), rest[i:]
	}
	return words, nil
}

// clock is the time since the story began.
func (t *teller) clock() string {
	d := t.w.clock().Sub(epoch)
	return fmt.Sprintf("%dd %02d:%02d:%02d", int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60, int(d.Seconds())%60)
}

func (t *teller) do(words []string) error {
	for i, w := range words {
		words[i] = os.Expand(w, func(name string) string { return t.vars[name] })
	}
	if len(words) > 2 && words[1] == "=" {
		answer, err := t.ask(words[2:])
		t.vars[words[0]] = strings.TrimSpace(answer)
		return err
	}
	verbs := map[string]func([]string) error{
		"show": t.show, "as": t.as, "refused": t.refused, "page": t.seePage, "fleet": t.fleet, "away": t.away, "back": t.back,
		"keys": t.keys, "run": t.run, "pass": t.pass, "notices": t.readNotices, "replay": t.replay, "verify": t.verify,
	}
	if verb, ok := verbs[words[0]]; ok {
		return verb(words[1:])
	}
	_, err := t.ask(words)
	return err
}

// ask runs a command of headgate, or sends the form, and has the server look.
func (t *teller) ask(words []string) (answer string, err error) {
	if words[0] == "form" {
		answer, err = t.sendForm(words[1])
	} else {
		answer, err = t.w.command(words...)
	}
	if err == nil {
		err = t.w.look()
	}
	return answer, err
}

func (t *teller) show(words []string) error {
	answer, err := t.ask(words)
	t.text(answer)
	return err
}

func (t *teller) as(words []string) error {
	return t.show(append(words[2:], "--token-file", words[0]+".access"))
}

func (t *teller) refused(words []string) error {
	_, err := t.w.command(words...)
	if err == nil {
		return errors.New("it was not refused")
	}
	t.text(err.Error())
	return nil
}

var aid = regexp.MustCompile(`\b(C|RP|E|N)-[0-9A-HJKMNP-TV-Z]{13}\b`)

var digest = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// line writes one line. Ids are numbered as they come up: what they are made of is
// random.
func (t *teller) line(format string, a ...any) {
	text := aid.ReplaceAllStringFunc(fmt.Sprintf(format, a...), func(id string) string {
		if t.names[id] == "" {
			kind, _, _ := strings.Cut(id, "-")
			n := 1
			for other := range t.names {
				if strings.HasPrefix(other, kind+"-") {
					n++
				}
			}
			t.names[id] = fmt.Sprintf("%s-%d", kind, n)
		}
		return t.names[id]
	})
	fmt.Fprintln(t.out, strings.TrimRight(digest.ReplaceAllString(text, "(digest)"), " "))
}

// text writes an answer, indented.
func (t *teller) text(s string) {
	for line := range strings.Lines(s) {
		t.line("            %s", strings.TrimRight(line, "\n"))
	}
}

// event writes what happened by itself.
func (t *teller) event(format string, a ...any) {
	t.line("%s   %s", t.clock(), fmt.Sprintf(format, a...))
}

// watch tells what changed: rollouts, the rung, the notices.
func (t *teller) watch() error {
	ctx, db, now := t.w.ctx, t.w.s.Store(), t.w.clock()
	open, err := db.OpenRollouts(ctx)
	if err != nil {
		return err
	}
	for _, r := range open {
		if t.rollouts[r.ID] != string(r.State) {
			t.rollouts[r.ID] = string(r.State)
			t.event("R-%d of %s %s is %s: exposed %d, proven %d, harmed %d, silent %d", r.ID, r.Product, r.Version, r.State, r.Counts.Exposed, r.Counts.Proven, r.Counts.Harmed, r.Counts.Silent)
		}
	}
	cases, err := db.ListCases(ctx, store.Engine("story"), store.CaseQuery{}, now)
	if err != nil || len(cases) == 0 {
		return err
	}
	c, err := db.ReadCase(ctx, store.Engine("story"), cases[0].ID, now)
	if err != nil {
		return err
	}
	if t.rung != string(c.Rung) {
		t.rung = string(c.Rung)
		t.event("rung %s%s", c.Rung, whyOpen(c))
	}
	told, err := db.ListNotices(ctx, store.Engine("story"), store.NoticeQuery{Case: c.ID, Limit: 100}, now)
	if err != nil {
		return err
	}
	slices.SortFunc(told, func(a, b store.Notice) int { return strings.Compare(a.Tenant, b.Tenant) })
	for _, n := range told {
		state := string(n.Progress.State())
		if t.notices[n.Tenant] != state {
			t.notices[n.Tenant] = state
			t.event("the notice to %s is %s", n.Tenant, state)
		}
	}
	return nil
}

// length reads a length of time, with days.
func length(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		d, err := time.ParseDuration(days + "h")
		return 24 * d, err
	}
	return time.ParseDuration(s)
}
