package intake

import (
	"bytes"
	"crypto/rand"
	_ "embed" // the pages and their style
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

//go:embed page.html
var pageText string

//go:embed page.css
var style []byte

var pages = template.Must(template.New("").Parse(pageText))

// head is what each page has.
type head struct {
	Title string
	Name  string // whose door it is
}

func (d *Door) head(title string) head { return head{title, d.Config.Name} }

// oops is a page that only says something.
type oops struct {
	head
	What, Then string
}

// entry is the form with what was typed, and what is wrong with it.
type entry struct {
	head
	Fields        map[string]string
	Bad           refusal
	Nonce         string
	Contact       []uri
	Fingerprint   string
	MiB, MaxFiles int
	MaxText       int
}

// uri is a way to reach us.
type uri string

// Name is how people write it.
func (a uri) Name() string {
	for _, scheme := range []string{"mailto:", "tel:"} {
		if name, ok := strings.CutPrefix(string(a), scheme); ok {
			return name
		}
	}
	return string(a)
}

// Is tells whether a field is the one that is wrong.
func (e entry) Is(field string) bool { return e.Bad.text != "" && e.Bad.field == field }

// Field and Text make a refusal readable by the page.
func (r refusal) Field() string { return r.field }

// Text is what is wrong.
func (r refusal) Text() string { return r.text }

func (d *Door) showForm(w http.ResponseWriter, status int, typed map[string]string, bad refusal) {
	nonce := typed[fieldNonce]
	if nonce == "" {
		var b [16]byte
		rand.Read(b[:]) // never fails: it aborts the program instead
		nonce = base64.RawURLEncoding.EncodeToString(b[:])
	}
	contact := make([]uri, len(d.Config.Contact))
	for i, way := range d.Config.Contact {
		contact[i] = uri(way)
	}
	d.render(w, status, "form", entry{
		head: d.head("Report a vulnerability"), Fields: typed, Bad: bad, Nonce: nonce,
		Contact: contact, Fingerprint: d.Key.Fingerprint(),
		MiB: maxFile >> 20, MaxFiles: maxFiles, MaxText: psirt.MaxText >> 10,
	})
}

// view is a reporter's page.
type view struct {
	head
	ID       string
	New      bool
	Link     string
	Subject  string
	Received string
	Text     template.HTML
	Steps    []psirt.ReporterStep
	Progress string
	Closed   string
	Credit   string
	Rewards  []psirt.ReportRewarded
	Files    []psirt.Attachment
	Messages []said
	Typed    string
	Bad      refusal
}

// said is a message on the page.
type said struct {
	Mine bool
	When string
	Text template.HTML
}

func (d *Door) viewOf(p store.ReportPage, r *http.Request, typed string, bad refusal) view {
	id := reportID(p.Report)
	v := view{
		head: d.head(id), ID: id, New: r.URL.Query().Get("new") == "1", Link: d.PageURL(id),
		Subject: p.Title, Received: day(p.Received.At), Text: safe(p.Text),
		Steps: psirt.ReporterSteps(&p.Report.Report, p.Case), Closed: p.Closed, Credit: p.Reporter,
		Rewards: p.Rewards, Files: p.Attachments, Typed: typed, Bad: bad,
	}
	if percent, ok := psirt.BlindProgress(p.Case); ok {
		v.Progress = fmt.Sprintf("fixed on at least %d %% of what it concerns", percent)
	}
	for _, f := range p.Facts {
		if f.Kind != "report.message" {
			continue
		}
		b, err := f.Decode()
		if err != nil {
			continue // it was decoded when it was kept
		}
		m := b.(*psirt.ReportMessage)
		v.Messages = append(v.Messages, said{Mine: f.Actor == psirt.FromReporter, When: day(f.Recorded), Text: safe(m.Text)})
	}
	return v
}

// safe is Markdown that was made safe to show.
func safe(markdown string) template.HTML {
	return template.HTML(intake.HTML(markdown)) //nolint:gosec // sanitised by intake.HTML
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// render writes a page. It is made whole before the first byte goes out.
func (d *Door) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		panic("intake: page " + name + ": " + err.Error())
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

func (d *Door) getStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Write(style)
}
