package intake

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/psirt"
	psirtintake "github.com/headgate/headgate/psirt/intake"
)

// Whatever a form holds: a refusal that a person can act on, or a report that
// psirt takes.
func FuzzForm(f *testing.F) {
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	f.Add("multipart/form-data; boundary=b", part("title", "T")+part("text", "X")+"--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a/../b\"\r\nContent-Type: text/html\r\n\r\n<x>\r\n--b--\r\n")
	f.Add("application/x-www-form-urlencoded", "title=T&text=X&cwe=CWE-79&contact=a%40b.example")
	f.Add("multipart/form-data; boundary=b", part("website", "spam")+"--b--\r\n")
	f.Fuzz(func(t *testing.T, kind, body string) {
		r := httptest.NewRequest(http.MethodPost, "/report", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		in, err := readForm(r)
		var report psirt.ReportReceived
		var files [][]byte
		if err == nil {
			report, files, err = in.report(psirt.FromForm)
		}
		var bad refusal
		if errors.As(err, &bad) {
			if bad.text == "" {
				t.Fatal("a refusal without a word")
			}
			return
		}
		if err != nil {
			t.Fatalf("an error that is not the sender's: %v", err)
		}
		if err := report.Check(); err != nil || len(files) != len(report.Attachments) {
			t.Fatalf("%+v: %v", report, err)
		}
		for i, a := range report.Attachments {
			if strings.ContainsAny(a.Name, `/\`) || int64(len(files[i])) != a.Length {
				t.Fatalf("%+v", a)
			}
		}
	})
}

func FuzzJSONReport(f *testing.F) {
	f.Add([]byte(`{"title": "T", "text": "X", "files": [{"name": "a", "body": "eA=="}], "cves": ["CVE-1900-0001"]}`))
	f.Add([]byte(`{"title": "T", "text": "X", "references": [""]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, files, err := parseJSON(b)
		if err == nil && (r.Check() != nil || len(files) != len(r.Attachments)) {
			t.Fatalf("%+v", r)
		}
	})
}

// Whatever a mail says, it becomes a report that psirt takes, or the mail is
// refused: it is never taken and lost.
func FuzzMailReport(f *testing.F) {
	f.Add("From: a@b.example\r\nMessage-ID: <1@b>\r\nSubject: x\r\n\r\nhello\r\n")
	f.Add("From: a@b.example\r\nSubject: =?utf-8?q?=00=0D=0A?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename=\"x\"\r\n\r\ny\r\n--b--\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		m, err := psirtintake.ReadMail([]byte(raw), psirtintake.Key{}, time.Unix(1e9, 0))
		if err != nil {
			return
		}
		s, err := mailReport(m, []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Received.Check(); err != nil {
			t.Fatalf("%+v: %v", s.Received, err)
		}
		if len(s.Files) != len(s.Received.Attachments) || string(s.Files[0]) != raw {
			t.Fatal("the message as it came is not beside the report")
		}
	})
}

// A proxy's word about an address counts only if it is a proxy of ours, and only
// the last hop that is not.
func TestOnlyOurProxiesSayWhoComes(t *testing.T) {
	ours := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:1000", "", "192.0.2.1"},
		{"192.0.2.1:1000", "198.51.100.9", "192.0.2.1"},
		{"10.0.0.1:1000", "198.51.100.9", "198.51.100.9"},
		{"10.0.0.1:1000", "203.0.113.5, 198.51.100.9, 10.0.0.2", "198.51.100.9"},
		{"10.0.0.1:1000", "not an address", "10.0.0.1"},
		{"[2001:db8:1:2:3::4]:1000", "", "2001:db8:1:2::"},
		{"[::ffff:192.0.2.1]:1000", "", "192.0.2.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/report", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := address(r, ours); got.String() != c.want {
			t.Errorf("%s for %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}
