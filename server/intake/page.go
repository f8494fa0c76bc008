package intake

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

// reportID writes a report's id as its sender knows it.
func reportID(r store.Report) string { return store.ReportID(r.ID) }

// secret reads the secret of a page's address. What is no secret opens nothing,
// with the same answer as an unknown one.
func secret(s string) store.Hash {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != secretBytes {
		b = []byte("no secret: " + s)
	}
	return sha256.Sum256(b)
}

// getForm shows the empty form.
func (d *Door) getForm(w http.ResponseWriter, _ *http.Request) {
	d.showForm(w, http.StatusOK, map[string]string{}, refusal{})
}

// getPage shows a reporter her report.
func (d *Door) getPage(w http.ResponseWriter, r *http.Request) {
	if !d.limits.visit(address(r, d.Config.Proxies), d.Now()) {
		d.tooMany(w)
		return
	}
	d.showPage(w, r, http.StatusOK, "", refusal{})
}

// The acts on a reporter's page.
const (
	actMessage = "message"
	actCredit  = "credit"
)

// postPage takes a message, or the line by which a reporter wants to be named.
func (d *Door) postPage(w http.ResponseWriter, r *http.Request) {
	if !d.limits.visit(address(r, d.Config.Proxies), d.Now()) {
		d.tooMany(w)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFields)
	if err := r.ParseForm(); err != nil {
		d.showPage(w, r, http.StatusUnprocessableEntity, "", refusal{"", "the form cannot be read"})
		return
	}
	text := r.PostForm.Get("text")
	body, bad := pageAct(r.PostForm.Get("act"), text)
	if bad != (refusal{}) {
		d.showPage(w, r, http.StatusUnprocessableEntity, text, bad)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), submitTime)
	defer cancel()
	err := d.Reports.AddToPage(ctx, secret(r.PathValue("secret")), body, d.Now())
	switch {
	case errors.Is(err, store.ErrNotFound):
		d.noPage(w)
	case errors.Is(err, psirt.ErrIllegal), errors.Is(err, psirt.ErrInvalid):
		d.showPage(w, r, http.StatusUnprocessableEntity, text, refusal{"", "it was not kept: " + err.Error()})
	case err != nil:
		d.broken(w, r, "keep message", err)
	default:
		http.Redirect(w, r, r.URL.EscapedPath(), http.StatusSeeOther)
	}
}

func pageAct(act, text string) (psirt.Body, refusal) {
	switch act {
	case actMessage:
		text = intake.Lines(text)
		if text == "" {
			return nil, refusal{"text", "the message is empty"}
		}
		if len(text) > maxMessage {
			return nil, refusal{"text", fmt.Sprintf("the message is longer than %d KiB", maxMessage>>10)}
		}
		return &psirt.ReportMessage{From: psirt.FromReporter, Text: text}, refusal{}
	case actCredit:
		line := intake.Line(text)
		if len(line) > psirt.MaxLine {
			return nil, refusal{"credit", fmt.Sprintf("the line is longer than %d bytes", psirt.MaxLine)}
		}
		return &psirt.ReportCredited{Credit: line}, refusal{}
	}
	return nil, refusal{"", "the form does not say what to do"}
}

// showPage shows a report by the secret in the request's path. typed is what was
// typed into a form that was refused.
func (d *Door) showPage(w http.ResponseWriter, r *http.Request, status int, typed string, bad refusal) {
	p, err := d.Reports.ReportPage(r.Context(), secret(r.PathValue("secret")), d.Now())
	if errors.Is(err, store.ErrNotFound) {
		d.noPage(w)
		return
	}
	if err != nil {
		d.broken(w, r, "read report", err)
		return
	}
	d.render(w, status, "page", d.viewOf(p, r, typed, bad))
}

// noPage is the one answer to a secret that opens nothing.
func (d *Door) noPage(w http.ResponseWriter) {
	d.render(w, http.StatusNotFound, "error", oops{d.head("Not found"), "There is no report behind this link",
		"Please check that it was copied whole: it ends with 43 letters, digits, dashes and underscores. Whoever has the link has the report, so it cannot be found in any other way."})
}

// tooMany answers who is over a limit, and names the other ways.
func (d *Door) tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "600")
	d.render(w, http.StatusTooManyRequests, "error", oops{d.head("Too many"), "Too much came from your network",
		"Nothing of this was kept. Please wait some minutes and send it again (your browser's Back button still has what you typed), or write to one of the addresses in /.well-known/security.txt."})
}

// broken answers when the fault is ours: nothing was kept, and the sender must
// know that.
func (d *Door) broken(w http.ResponseWriter, r *http.Request, doing string, err error) {
	if r.Context().Err() == nil {
		d.Log.ErrorContext(r.Context(), "public page failed", "doing", doing, "err", err)
	}
	w.Header().Set("Retry-After", "10")
	d.render(w, http.StatusServiceUnavailable, "error", oops{d.head("Not kept"), "Our server could not do that",
		"It is not known to be kept. Please send it again in a moment: the same report sent twice is kept once."})
}

// receipt is what a program gets.
type receipt struct {
	Report   string    `json:"report"`
	Page     string    `json:"page"` // secret: whoever has it reads the report
	Received time.Time `json:"received"`
}

// jsonReport is a report as programs send it.
type jsonReport struct {
	Title      string   `json:"title"`
	Text       string   `json:"text"`
	Product    string   `json:"product"`
	Version    string   `json:"version"`
	Component  string   `json:"component"`
	CWE        string   `json:"cwe"`
	CVEs       []string `json:"cves"`
	Vectors    []string `json:"vectors"`
	References []string `json:"references"`
	Reporter   string   `json:"reporter"`
	Contact    string   `json:"contact"`
	Language   string   `json:"language"`
	Files      []struct {
		Name string `json:"name"`
		Type string `json:"type"`
		Body []byte `json:"body"` // base64
	} `json:"files"`
}

// postJSON takes a report from a program. Its Idempotency-Key makes a repeat
// harmless: the same key and content get the same answer.
func (d *Door) postJSON(w http.ResponseWriter, r *http.Request) {
	from := address(r, d.Config.Proxies)
	if !d.limits.mayReport(from, d.Now()) {
		d.refuseMany(w)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if len(key) < 16 || len(key) > 200 {
		d.refuse(w, refusal{"Idempotency-Key", "want a header of 16 to 200 characters, new for each report"})
		return
	}
	received, files, err := d.readJSON(w, r)
	if err != nil {
		d.refuse(w, err)
		return
	}
	if !d.limits.report(from, d.Now()) { // others of this address were quicker
		d.refuseMany(w)
		return
	}
	word, err := requestKey("api", key, received)
	if err != nil {
		d.refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), submitTime)
	defer cancel()
	out, fresh, err := d.submit(ctx, submission(received, files, word))
	if err != nil {
		d.Log.ErrorContext(r.Context(), "public page failed", "doing", "keep report", "err", err)
		w.Header().Set("Retry-After", "10")
		d.answer(w, http.StatusServiceUnavailable, map[string]string{"code": "unavailable", "message": "it is not known to be kept; send it again with the same key"})
		return
	}
	status := http.StatusOK
	if fresh {
		status = http.StatusCreated
	}
	d.answer(w, status, receipt{Report: reportID(out), Page: d.PageURL(reportID(out)), Received: out.Received.At})
}

func (d *Door) readJSON(w http.ResponseWriter, r *http.Request) (psirt.ReportReceived, [][]byte, error) {
	select {
	case d.large <- struct{}{}:
		defer func() { <-d.large }()
	case <-r.Context().Done():
		return psirt.ReportReceived{}, nil, r.Context().Err()
	}
	rc := http.NewResponseController(w)
	// Only a ResponseWriter that is no network connection refuses.
	_ = rc.SetReadDeadline(time.Now().Add(uploadTime))
	_ = rc.SetWriteDeadline(time.Now().Add(uploadTime + submitTime))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody*4/3))
	if err != nil {
		return psirt.ReportReceived{}, nil, tooLarge(err, "the body ended early")
	}
	return parseJSON(b)
}

func (d *Door) refuseMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "600")
	d.answer(w, http.StatusTooManyRequests, map[string]string{"code": "resource_exhausted", "message": "too many reports from your network; nothing was kept"})
}

func (d *Door) refuse(w http.ResponseWriter, err error) {
	d.answer(w, http.StatusBadRequest, map[string]string{"code": "invalid_argument", "message": err.Error()})
}
