package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/server/intake"
	"github.com/headgate/headgate/store"
)

// openServer is a server whose door is open, and a visitor without script, cookie
// or account.
func openServer(t *testing.T, change ...func(*Config)) (*Server, *http.Client) {
	t.Helper()
	cfg := testConfig(t)
	cfg.Intake = &intake.Config{Name: "Acme", Contact: []string{"mailto:security@acme.example"}}
	for _, f := range change {
		f(&cfg)
	}
	s := startServer(t, cfg)
	t.Cleanup(func() { stopServer(t, s) })
	return s, &http.Client{Timeout: time.Minute}
}

// filled is a form as a browser sends it.
func filled(t *testing.T, fields map[string]string, files map[string]string) (body io.Reader, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, value := range fields {
		check(t, w.WriteField(name, value))
	}
	for name, content := range files {
		p, err := w.CreateFormFile("files", name)
		check(t, err)
		_, err = p.Write([]byte(content))
		check(t, err)
	}
	check(t, w.Close())
	return &b, w.FormDataContentType()
}

// page reads an answer to its end.
func page(t *testing.T, res *http.Response, err error) string {
	t.Helper()
	check(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	check(t, err)
	return string(b)
}

var nonceField = regexp.MustCompile(`name="nonce" value="([A-Za-z0-9_-]+)"`)

// A reporter with a form and nothing else: she reports, comes back, is answered,
// answers, and says how she wants to be named. What she sent is nowhere active.
func TestAReportThroughTheFormHasAPageOfItsOwn(t *testing.T) {
	s, visitor := openServer(t)
	res, err := visitor.Get(s.URL() + "/report")
	form := page(t, res, err)
	nonce := nonceField.FindStringSubmatch(form)
	if nonce == nil || strings.Contains(form, "<script") {
		t.Fatalf("the form: %s", form)
	}
	for header, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if !strings.Contains(res.Header.Get(header), want) {
			t.Errorf("%s: %q", header, res.Header.Get(header))
		}
	}
	fields := map[string]string{"nonce": nonce[1], "title": "The gate <b>opens</b>", "text": "**No check**\n\n<script>alert(1)</script>", "product": "acme/rules", "reporter": "Ada", "website": ""}
	send := func() (string, string) {
		body, kind := filled(t, fields, map[string]string{"../poc.html": "<script>alert(2)</script>"})
		res, err := visitor.Post(s.URL()+"/report", kind, body)
		text := page(t, res, err)
		if res.StatusCode != http.StatusOK || !strings.Contains(text, "Your report is kept") {
			t.Fatalf("%d: %s", res.StatusCode, text)
		}
		return res.Request.URL.String(), text
	}
	at, text := send()
	for _, want := range []string{"The gate &lt;b&gt;opens", "<strong>No check</strong>", "poc.html", `<code>RP-`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(text, "<script") || strings.Contains(text, "../poc") {
		t.Error("what she sent is active on the page")
	}
	if again, _ := send(); again != at {
		t.Errorf("the form sent twice made %s and %s", at, again)
	}
	reports, err := s.Store().ListReports(t.Context(), store.Engine("test"), store.ReportQuery{}, time.Now())
	check(t, err)
	if len(reports) != 1 || !reports[0].Acknowledged.Known() {
		t.Fatalf("%d reports, the first %+v", len(reports), reports[0])
	}
	id := reports[0].ID

	at, _, _ = strings.Cut(at, "?")
	answer, err := psirt.Draft(&psirt.ReportMessage{From: "operator:bob", Text: "Which *version*?"}, time.Time{}, "")
	check(t, err)
	_, err = s.Store().CommitReport(t.Context(), store.Engine("test"), id, store.AnyRevision, []psirt.Fact{answer}, time.Now(), nil)
	check(t, err)
	for _, form := range []url.Values{{"act": {"message"}, "text": {"1.2 and later"}}, {"act": {"credit"}, "text": {"Ada L."}}} {
		res, err := visitor.PostForm(at, form)
		text = page(t, res, err)
	}
	for _, want := range []string{"<em>version</em>", "1.2 and later", `value="Ada L."`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page: %s", want, text)
		}
	}
	a, body, err := s.Store().ReportFile(t.Context(), store.Engine("test"), id, reports[0].Attachments[0].Digest, time.Now())
	if err != nil || a.Name != "poc.html" || string(body) != "<script>alert(2)</script>" {
		t.Errorf("the file: %+v %q %v", a, body, err)
	}
}

// What is refused says which field and why, keeps what was typed, and keeps no
// report.
func TestAFormThatIsRefusedKeepsWhatWasTyped(t *testing.T) {
	s, visitor := openServer(t)
	ok := map[string]string{"title": "T", "text": "X"}
	for name, c := range map[string]struct {
		change map[string]string
		files  map[string]string
		want   string
	}{
		"no title":      {map[string]string{"title": " "}, nil, `href="#title"`},
		"nothing found": {map[string]string{"text": ""}, nil, `href="#text"`},
		"address":       {map[string]string{"contact": "not an address"}, nil, `href="#contact"`},
		"weakness":      {map[string]string{"cwe": "79"}, nil, `href="#cwe"`},
		"a trap":        {map[string]string{"website": "https://spam.example"}, nil, `href="#website"`},
		"unknown field": {map[string]string{"admin": "1"}, nil, "no field"},
		"too long":      {map[string]string{"text": strings.Repeat("x", psirt.MaxText+1)}, nil, "attach it"},
		"large file":    {nil, map[string]string{"a": strings.Repeat("x", 10<<20+1)}, "larger than 10 MiB"},
	} {
		fields := map[string]string{}
		for _, m := range []map[string]string{ok, c.change} {
			for k, v := range m {
				fields[k] = v
			}
		}
		body, kind := filled(t, fields, c.files)
		res, err := visitor.Post(s.URL()+"/report", kind, body)
		text := page(t, res, err)
		if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d, %q is not in %.1500s", name, res.StatusCode, c.want, text)
		}
		if name == "address" && !strings.Contains(text, `value="not an address"`) {
			t.Errorf("%s: what was typed is gone", name)
		}
	}
	reports, err := s.Store().ListReports(t.Context(), store.Engine("test"), store.ReportQuery{}, time.Now())
	if err != nil || len(reports) != 0 {
		t.Errorf("%d reports, %v", len(reports), err)
	}
}

// A page of another site can not fill in the form in a visitor's name.
func TestAForeignSiteCannotSendTheForm(t *testing.T) {
	s, visitor := openServer(t)
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		body, kind := filled(t, map[string]string{"title": "T", "text": "X"}, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/report", body)
		check(t, err)
		req.Header.Set("Content-Type", kind)
		req.Header.Set(header, value)
		res, err := visitor.Do(req)
		if page(t, res, err); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s: %d", header, value, res.StatusCode)
		}
	}
}

// What opens nothing is answered alike, whatever it looks like.
func TestAnUnknownSecretOpensNothing(t *testing.T) {
	s, visitor := openServer(t)
	var first string
	for _, secret := range []string{strings.Repeat("A", 43), "x", "RP-0000000000001", strings.Repeat("A", 5000), "%2e%2e"} {
		res, err := visitor.Get(s.URL() + "/report/" + secret)
		text := page(t, res, err)
		if first == "" {
			first = text
		}
		if res.StatusCode != http.StatusNotFound || text != first {
			t.Errorf("%.50s: %d %s", secret, res.StatusCode, text)
		}
	}
	res, err := visitor.PostForm(s.URL()+"/report/"+strings.Repeat("A", 43), url.Values{"act": {"message"}, "text": {"x"}})
	if page(t, res, err); res.StatusCode != http.StatusNotFound {
		t.Errorf("a message to nobody: %d", res.StatusCode)
	}
}

// One address fills its own measure, and not everybody's.
func TestOneAddressIsLimited(t *testing.T) {
	s, visitor := openServer(t, func(c *Config) { c.Intake.PerHour = 2 })
	for range 5 { // a slip is no report, and shuts nobody out
		body, kind := filled(t, map[string]string{"title": "", "text": "X"}, nil)
		res, err := visitor.Post(s.URL()+"/report", kind, body)
		if page(t, res, err); res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("a report without a title: %d", res.StatusCode)
		}
	}
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		body, kind := filled(t, map[string]string{"title": fmt.Sprintf("T%d", i), "text": "X"}, nil)
		res, err := visitor.Post(s.URL()+"/report", kind, body)
		if page(t, res, err); res.StatusCode != want {
			t.Errorf("report %d: %d", i+1, res.StatusCode)
		}
	}
}

// A program's report: the same key and content is the same report, with the same
// answer; the same key with other content is another, so that nothing is lost.
func TestAnIdempotencyKeyMakesARepeatHarmless(t *testing.T) {
	s, visitor := openServer(t)
	send := func(key, body string) (int, map[string]string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/report", strings.NewReader(body))
		check(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		res, err := visitor.Do(req)
		var out map[string]string
		check(t, json.Unmarshal([]byte(page(t, res, err)), &out))
		return res.StatusCode, out
	}
	const key, report = "3f1b6d0e-0000-4000-8000-000000000001", `{"title": "T", "text": "X", "files": [{"name": "a.txt", "body": "eA=="}], "cves": ["CVE-1900-0001"]}`
	code, first := send(key, report)
	if code != http.StatusCreated || first["report"] == "" {
		t.Fatalf("%d %v", code, first)
	}
	res, err := visitor.Get(first["page"])
	if text := page(t, res, err); res.StatusCode != http.StatusOK || !strings.Contains(text, first["report"]) {
		t.Errorf("its page: %d", res.StatusCode)
	}
	if code, again := send(key, report); code != http.StatusOK || again["report"] != first["report"] || again["page"] != first["page"] {
		t.Errorf("again: %d %v", code, again)
	}
	if code, other := send(key, strings.Replace(report, `"X"`, `"Y"`, 1)); code != http.StatusCreated || other["report"] == first["report"] {
		t.Errorf("other content: %d %v", code, other)
	}
	for name, c := range map[string][2]string{
		"no key": {"", report}, "unknown field": {key, `{"title": "T", "admin": true}`}, "no JSON": {key, `{`}, "twice": {key, report + report},
		"files[0].body: illegal base64": {key, strings.Replace(report, "eA==", "***", 1)}, "cves[0]": {key, strings.Replace(report, "CVE-1900-0001", "CVE-1", 1)},
	} {
		if code, out := send(c[0], c[1]); strings.Contains(name, "[") && !strings.Contains(out["message"], name) {
			t.Errorf("%d %v; want the place %s", code, out, name)
		}
		if code, out := send(c[0], c[1]); code != http.StatusBadRequest || out["message"] == "" {
			t.Errorf("%s: %d %v", name, code, out)
		}
	}
}

func TestSecurityTxtIsSignedAndRenewed(t *testing.T) {
	now := time.Now()
	s, visitor := openServer(t, func(c *Config) {
		c.Now = func() time.Time { return now }
		c.Intake.URL = "https://security.acme.example/"
	})
	get := func(path string) string {
		res, err := visitor.Get(s.URL() + path)
		return page(t, res, err)
	}
	first := get("/.well-known/security.txt")
	for _, want := range []string{"BEGIN PGP SIGNED MESSAGE", "Contact: mailto:security@acme.example", "Expires: " + now.UTC().Add(30*24*time.Hour).Format("2006-01-02"), "Preferred-Languages: en"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is not in\n%s", want, first)
		}
	}
	if get("/security.txt") != first {
		t.Error("the old place has another")
	}
	now = now.Add(14 * 24 * time.Hour)
	if get("/.well-known/security.txt") != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * 24 * time.Hour)
	if second := get("/.well-known/security.txt"); second == first || !strings.Contains(second, now.UTC().Add(30*24*time.Hour).Format("2006-01-02")) {
		t.Errorf("not renewed when half its life was over:\n%s", second)
	}
	if !strings.Contains(get("/report.asc"), "BEGIN PGP PUBLIC KEY BLOCK") {
		t.Error("no public key")
	}
}

func prefixes(t *testing.T, all ...string) (out []netip.Prefix) {
	t.Helper()
	for _, s := range all {
		p, err := netip.ParsePrefix(s)
		check(t, err)
		out = append(out, p)
	}
	return out
}

// The server is killed again and again while reports come in: what was
// acknowledged is there, once, whatever the sender had to repeat.
func TestKillLosesNoReportThatWasAcknowledged(t *testing.T) {
	cfg := testConfig(t)
	cfg.Intake = &intake.Config{Name: "Acme", URL: "https://security.acme.example", PerHour: 100_000, Overall: 1_000_000}
	visitor := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	pages := map[string]string{} // title to page
	n, acknowledged := 0, 0
	for round := range 4 {
		cmd, addr := spawn(t, cfg)
		kill := time.AfterFunc(time.Duration(150+100*round)*time.Millisecond, func() { cmd.Process.Kill() })
		for {
			title := fmt.Sprintf("report %d", n)
			body, kind := filled(t, map[string]string{"title": title, "text": "X", "nonce": fmt.Sprintf("nonce-%d", n)}, nil)
			res, err := visitor.Post("http://"+addr+"/report", kind, body)
			if err != nil {
				break // killed: sent again to the next server
			}
			res.Body.Close()
			if res.StatusCode != http.StatusSeeOther {
				t.Fatalf("%s: %d", title, res.StatusCode)
			}
			pages[title] = strings.TrimSuffix(res.Header.Get("Location"), "?new=1")
			n++
			acknowledged++
		}
		kill.Stop()
		cmd.Process.Kill()
		cmd.Wait()
	}
	s := startServer(t, cfg)
	defer stopServer(t, s)
	seen := map[string]int{}
	for after := int64(0); ; {
		list, err := s.Store().ListReports(t.Context(), store.Engine("test"), store.ReportQuery{After: after, Limit: 1000}, time.Now())
		check(t, err)
		if len(list) == 0 {
			break
		}
		for _, r := range list {
			seen[r.Title]++
			after = r.ID
		}
	}
	for title, at := range pages {
		if seen[title] != 1 {
			t.Errorf("%s: kept %d times", title, seen[title])
		}
		res, err := http.Get(s.URL() + at)
		if text := page(t, res, err); res.StatusCode != http.StatusOK || !strings.Contains(text, title) {
			t.Errorf("%s: its page says %d", title, res.StatusCode)
		}
	}
	if problems, err := s.Store().Doctor(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("doctor: %v, %v", problems, err)
	}
	t.Logf("%d reports were acknowledged in 4 lives of the server", acknowledged)
	if acknowledged < 8 {
		t.Errorf("%d reports were acknowledged: too few to show anything", acknowledged)
	}
}
