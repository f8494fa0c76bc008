package server

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/server/intake"
	"github.com/headgate/headgate/store"
)

// sealedPages is a server whose door is open, with a sealed case from a report that
// came in by it, and another reporter's page.
type sealedPages struct {
	*sealedWorld
	hers, others string // paths of the reporters' pages
	feed         string
}

// newSealedPages makes it. The marks are what nobody may read, the sealed report's
// own reporter included.
func newSealedPages(t *testing.T) *sealedPages {
	p := &sealedPages{sealedWorld: newSealedWorld(t, func(c *Config) { c.Intake = &intake.Config{Name: "Acme", PerHour: 10_000, Overall: 10_000} })}
	var id string
	p.hers, id = p.sendForm("A rule is skipped")
	p.others, _ = p.sendForm("Something else")
	_, err := p.reports.LinkReport(t.Context(), connect.NewRequest(&headgatev1.LinkReportRequest{Report: id, Case: p.kase, Role: "duplicate"}))
	check(t, err)
	res, err := p.account.AddTenant(t.Context(), connect.NewRequest(&headgatev1.AddTenantRequest{Name: "t9"}))
	check(t, err)
	secret, hash := newToken("")
	check(t, p.store.SetFeed(t.Context(), store.Engine("test"), res.Msg.Tenant.Name, hash, time.Now()))
	p.feed = feedPath + secret
	return p
}

// sendForm sends the form, and gives the path of the reporter's page and the number.
func (p *sealedPages) sendForm(title string) (path, id string) {
	p.Helper()
	visitor := newClients(p.base, "")
	_, form := visitor.get(p, "/report")
	nonce := nonceField.FindStringSubmatch(form)
	body, kind := filled(p.TB.(*testing.T), map[string]string{"nonce": nonce[1], "title": title, "text": "Nothing is detected after that."}, nil)
	res, err := visitor.web.Post(p.base+"/report", kind, body)
	text := page(p.TB.(*testing.T), res, err)
	if res.StatusCode != http.StatusOK {
		p.Fatalf("the form: %d %s", res.StatusCode, text)
	}
	_, id, _ = strings.Cut(text, "<code>RP-")
	return res.Request.URL.Path, "RP-" + id[:13]
}

// The server's pages, all of those that it serves beside the API, say nothing of a
// sealed case to anybody, whatever role asks and whatever stands in the address or
// the form, and do not tell its ids from ids that are nobody's.
func TestSealedCaseIsOnNoPageForAnyRole(t *testing.T) {
	p := newSealedPages(t)
	roles := map[string]string{
		"operator": p.as("bob", headgatev1.Scope_SCOPE_OPERATOR, "").token,
		"vendor":   p.as("acme-bot", headgatev1.Scope_SCOPE_VENDOR, "acme").token,
		"tenant":   p.as("t1-bot", headgatev1.Scope_SCOPE_TENANT, "t1").token,
		"endpoint": p.enrol(1)[0].token, "enrol": p.enrolToken, "nobody": "", "stranger": prefixAccess + strings.Repeat("A", 43),
	}
	pages, tried := 0, 0
	for _, pattern := range p.mux.patterns {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			if !strings.HasPrefix(pattern, "/headgate.v1.") {
				t.Errorf("%s is served by any method: which one is to be tried?", pattern)
			}
			continue // the API, which has a test of its own
		}
		pages++
		for role, token := range roles {
			for _, pair := range p.paths(path) {
				tried++
				p.sameAnswer(role, token, method, pair[0], pair[1])
			}
		}
	}
	if pages < 14 || tried < 7*pages {
		t.Errorf("tried %d pages only, %d times", pages, tried)
	}
	// The page of the report that is linked to the sealed case is its reporter's own,
	// and still tells nothing of the case.
	for _, path := range []string{p.hers, p.others} {
		status, text := newClients(p.base, "").get(t, path)
		if status != http.StatusOK {
			t.Errorf("GET %s: %d", path, status)
		}
		p.silent("GET "+path, text)
	}
	p.silent("the log", p.log.String())
}

// paths fills the wildcards of a path: with what leads somewhere, and with an id of
// the sealed case and one that is nobody's, which must lead to the same.
func (p *sealedPages) paths(path string) (out [][2]string) {
	nobody := [2]string{ids.Format("C", ids.Random()), ids.Format("RP", ids.Random())}
	fill := func(path, with string) string {
		if i := strings.IndexByte(path, '{'); i >= 0 {
			return path[:i] + with
		}
		return path
	}
	for i, id := range []string{p.kase, p.report} {
		for _, form := range []string{"%s", "%s/", "../%s", "%s.json"} {
			a, b := fmt.Sprintf(form, id), fmt.Sprintf(form, nobody[i])
			switch {
			case strings.Contains(path, "{"):
				out = append(out, [2]string{fill(path, a), fill(path, b)})
			case strings.HasSuffix(path, "/"):
				out = append(out, [2]string{path + a, path + b})
			default:
				out = append(out, [2]string{path + "?case=" + a + "&id=" + a + "&q=" + a, path + "?case=" + b + "&id=" + b + "&q=" + b})
			}
		}
	}
	if strings.Contains(path, "{secret}") {
		for _, page := range []string{p.others, p.feed, "/x/" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))} {
			at := fill(path, page[strings.LastIndexByte(page, '/')+1:])
			out = append(out, [2]string{at, at})
		}
	}
	return out
}

// sameAnswer asks for two addresses, and wants the same of both and nothing of the
// case.
func (p *sealedPages) sameAnswer(role, token, method, one, two string) {
	p.Helper()
	var status [2]int
	var text [2]string
	for i, at := range []string{one, two} {
		status[i], text[i] = p.ask(token, method, at)
	}
	where := method + " " + one + " as " + role
	p.silent(where, text[0], one)
	if a, b := same(text[0], idIn(one)), same(text[1], idIn(two)); one != two && method == http.MethodGet && (status[0] != status[1] || once(a) != once(b)) {
		p.Errorf("%s is told from what is not there:\n%d %s\n%d %s", where, status[0], a, status[1], b)
	}
	if status[0] != status[1] {
		p.Errorf("%s answers %d, and %d for what is not there", where, status[0], status[1])
	}
}

// ask sends a request, with the id in each field of a form that is posted.
func (p *sealedPages) ask(token, method, at string) (int, string) {
	p.Helper()
	var body io.Reader
	if method != http.MethodGet {
		id := idIn(at)
		body = strings.NewReader("title=" + id + "&text=" + id + "&product=" + id + "&contact=" + id + "&act=message&case=" + id)
	}
	req, err := http.NewRequestWithContext(p.Context(), method, p.base, body)
	check(p, err)
	path, query, _ := strings.Cut(at, "?")
	req.URL.Path, req.URL.RawQuery = path, query
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return newClients(p.base, token).do(req)
}

// idIn is the id in an address; empty if there is none.
func idIn(at string) string {
	for _, prefix := range []string{"C-", "RP-"} {
		if i := strings.LastIndex(at, prefix); i >= 0 && len(at) >= i+len(prefix)+13 {
			return at[i : i+len(prefix)+13]
		}
	}
	return "none"
}

// once leaves out what is made anew for each page, and what grows by being asked.
func once(text string) string {
	text = nonceField.ReplaceAllString(text, "nonce")
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool {
		return strings.HasPrefix(l, "go_") || strings.HasPrefix(l, "process_") || strings.HasPrefix(l, "headgate_") || strings.HasPrefix(l, "#")
	})
	return strings.Join(lines, "\n")
}

// Nobody counts cases by the metrics: opening, changing, reading and closing sealed
// cases counts as calls about cases, all in one, and moves nothing else.
func TestSealedCasesAreNotCountedByTheMetrics(t *testing.T) {
	w := newSealedWorld(t)
	ctx := t.Context()
	scrape := func() map[string]string {
		_, body := newClients(w.base, "").get(t, "/metrics")
		out := map[string]string{}
		lines := bufio.NewScanner(strings.NewReader(body))
		for lines.Scan() {
			name, value, ok := strings.Cut(lines.Text(), " ")
			if ok && !strings.HasPrefix(name, "#") && strings.HasPrefix(name, "headgate_") && !strings.Contains(name, "_seconds_") {
				out[name] = value
			}
		}
		return out
	}
	before := scrape()
	for i := range 3 {
		k, err := w.cases.OpenCase(ctx, connect.NewRequest(&headgatev1.OpenCaseRequest{Title: fmt.Sprint("zebrafish ", i), Restricted: true}))
		check(t, err)
		w.kase = k.Msg.Case.Id
		w.add("vendor.aware", `{"vendor":"quagga"}`)
		_, err = w.cases.GetCase(ctx, connect.NewRequest(&headgatev1.GetCaseRequest{Id: w.kase}))
		check(t, err)
		w.add("case.closed", `{"why":"done"}`)
	}
	after, moved := scrape(), []string{}
	for name, value := range after {
		if before[name] != value {
			moved = append(moved, name)
		}
	}
	slices.Sort(moved)
	for _, name := range moved {
		if name != `headgate_requests_total{code="ok",procedure="cases"}` {
			t.Errorf("%s went from %q to %q by sealed cases alone", name, before[name], after[name])
		}
	}
	if len(moved) == 0 {
		t.Error("nothing was counted: does the test look?")
	}
}

// A report through the public door, and the letter and the call that it makes, move no
// metric: who reads them must not know that one came.
func TestReportsAreNotCountedByTheMetrics(t *testing.T) {
	o := newOnCall(t)
	stopServer(t, o.s)
	o.cfg.Intake = &intake.Config{Name: "Acme"}
	o.start()
	_, err := o.calls.SetRoster(t.Context(), connect.NewRequest(&headgatev1.SetRosterRequest{RosterJson: o.roster()}))
	check(t, err)
	scrape := func() string {
		res, err := http.Get(o.s.URL() + "/metrics")
		var kept []string
		for line := range strings.Lines(page(t, res, err)) {
			if strings.HasPrefix(line, "headgate_") || strings.HasPrefix(line, "# HELP headgate_") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	before := scrape()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.s.URL()+"/report", strings.NewReader(`{"title": "zebrafish", "text": "an okapi"}`))
	check(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "3f1b6d0e-0000-4000-8000-000000000007")
	res, err := http.DefaultClient.Do(req)
	if text := page(t, res, err); res.StatusCode/100 != 2 {
		t.Fatalf("%d: %s", res.StatusCode, text)
	}
	o.after(0)
	if o.hooks.count() == 0 {
		t.Fatal("nobody was called: does the test look?")
	}
	if after := scrape(); after != before {
		t.Errorf("a report moved the metrics, from\n%s\nto\n%s", before, after)
	}
}

// Each service is about cases, or tells nothing of them: a new one must be decided.
func TestEachServiceIsCountedAsWhatItTells(t *testing.T) {
	tellsNothing := []string{
		"AccountService", "AgentService", "CatalogService", "EvidenceService", "FleetService", "LedgerService", "PolicyService", "RepositoryService", "RolloutService", "SBOMService",
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("headgate.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			name := string(f.Services().Get(i).Name())
			if slices.Contains(aboutCases, name) == slices.Contains(tellsNothing, name) {
				t.Errorf("%s: say in aboutCases that it is about cases, or here that it tells nothing of them", name)
			}
		}
		return true
	})
}
