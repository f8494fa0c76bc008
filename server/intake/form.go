package intake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

// Limits of one report through the door, bytes.
const (
	maxBody    = 26 << 20 // of a request
	maxFile    = 10 << 20
	maxFields  = 256 << 10 // of all that is no file
	maxFiles   = 10
	maxMessage = 16 << 10
	// uploadTime is how long a body may take to come in.
	uploadTime = 5 * time.Minute
	submitTime = 20 * time.Second
)

// refusal is what a person or program did wrong, by field; "" is the whole.
type refusal struct{ field, text string }

func (r refusal) Error() string {
	if r.field == "" {
		return r.text
	}
	return r.field + ": " + r.text
}

// form is a report as it was filled in.
type form struct {
	fields map[string]string
	files  []intake.File
}

// the form's fields. honeypot is invisible: only a program that fills in
// everything fills it in.
const (
	fieldTitle     = "title"
	fieldText      = "text"
	fieldProduct   = "product"
	fieldVersion   = "version"
	fieldComponent = "component"
	fieldCWE       = "cwe"
	fieldReporter  = "reporter"
	fieldContact   = "contact"
	fieldFiles     = "files"
	fieldNonce     = "nonce"
	honeypot       = "website"
)

var fields = []string{fieldTitle, fieldText, fieldProduct, fieldVersion, fieldComponent, fieldCWE, fieldReporter, fieldContact, fieldNonce, honeypot}

// readForm reads a form, with or without files. A field that is not of the form
// is an error: a newer page and an older server must not lose what was said.
func readForm(r *http.Request) (form, error) {
	f := form{fields: map[string]string{}}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return f, refusal{"", "the request has no Content-Type that can be read"}
	}
	if kind == "application/x-www-form-urlencoded" {
		if err := r.ParseForm(); err != nil {
			return f, tooLarge(err, "the form cannot be read")
		}
		for name, values := range r.PostForm {
			if err := f.set(name, values[0]); err != nil {
				return f, err
			}
		}
		return f, nil
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return f, refusal{"", "want a form: multipart/form-data"}
	}
	return f, f.readParts(parts)
}

func (f *form) readParts(parts *multipart.Reader) error {
	left := int64(maxFields)
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return tooLarge(err, "the form ended early")
		}
		if p.FormName() == fieldFiles {
			if err := f.addFile(p); err != nil {
				return err
			}
			continue
		}
		b, err := io.ReadAll(io.LimitReader(p, left+1))
		if err != nil {
			return tooLarge(err, "the form ended early")
		}
		if left -= int64(len(b)); left < 0 {
			return refusal{fieldText, fmt.Sprintf("all texts together are longer than %d KiB; please attach the long ones as files", maxFields>>10)}
		}
		if err := f.set(p.FormName(), string(b)); err != nil {
			return err
		}
	}
}

func (f *form) addFile(p *multipart.Part) error {
	b, err := io.ReadAll(io.LimitReader(p, maxFile+1))
	if err != nil {
		return tooLarge(err, "the form ended early")
	}
	name := intake.FileName(p.FileName(), len(f.files)+1)
	switch {
	case len(b) == 0 && p.FileName() == "":
		return nil // a browser sends an empty part for no file
	case len(b) > maxFile:
		return refusal{fieldFiles, fmt.Sprintf("%s is larger than %d MiB", name, maxFile>>20)}
	case len(f.files) == maxFiles:
		return refusal{fieldFiles, fmt.Sprintf("more than %d files; please pack them into one", maxFiles)}
	}
	f.files = append(f.files, intake.File{Name: name, Type: intake.Line(p.Header.Get("Content-Type")), Body: b})
	return nil
}

func (f *form) set(name, value string) error {
	for _, known := range fields {
		if name == known {
			f.fields[name] = value
			return nil
		}
	}
	return refusal{"", fmt.Sprintf("the form has no field %.40q", name)}
}

func tooLarge(err error, otherwise string) error {
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return refusal{fieldFiles, fmt.Sprintf("everything together is larger than %d MiB", maxBody>>20)}
	}
	return refusal{"", otherwise}
}

// report checks a form and makes a report of it.
func (f form) report(source psirt.Source) (psirt.ReportReceived, [][]byte, error) {
	if f.fields[honeypot] != "" {
		return psirt.ReportReceived{}, nil, refusal{honeypot, "this field is a trap for programs that fill in everything; please leave it empty"}
	}
	r := psirt.ReportReceived{
		Source: source, Title: intake.Line(f.fields[fieldTitle]), Text: intake.Lines(f.fields[fieldText]),
		Product: intake.Line(f.fields[fieldProduct]), Version: intake.Line(f.fields[fieldVersion]), Component: intake.Line(f.fields[fieldComponent]),
		CWE: intake.Line(f.fields[fieldCWE]), Reporter: intake.Line(f.fields[fieldReporter]), Contact: intake.Line(f.fields[fieldContact]),
	}
	switch {
	case r.Title == "":
		return r, nil, refusal{fieldTitle, "please say in one line what it is about"}
	case len(r.Title) > intake.MaxTitle:
		return r, nil, refusal{fieldTitle, fmt.Sprintf("please shorten it: at most %d bytes", intake.MaxTitle)}
	case r.Text == "" && len(f.files) == 0:
		return r, nil, refusal{fieldText, "please say what you found, or attach it"}
	case len(r.Text) > psirt.MaxText:
		return r, nil, refusal{fieldText, fmt.Sprintf("longer than %d KiB; please attach it as a file", psirt.MaxText>>10)}
	}
	if r.Contact != "" {
		if _, err := mail.ParseAddress(r.Contact); err != nil {
			return r, nil, refusal{fieldContact, "this is no e-mail address; leave it empty to use the secret link alone"}
		}
	}
	var files [][]byte
	r.Attachments, files = attach(f.files)
	if err := r.Check(); err != nil {
		return r, nil, refused(err)
	}
	return r, files, nil
}

// refused says for people what a check complains about: without the name of the
// field, which stands beside it.
func refused(err error) refusal {
	r := refusal{fieldOf(err), strings.TrimSuffix(err.Error(), ": "+psirt.ErrInvalid.Error())}
	if r.field != "" {
		r.text = strings.TrimLeft(strings.TrimPrefix(r.text, r.field), ": ")
	}
	return r
}

// fieldOf finds the field that a check complains about: it begins with its name.
func fieldOf(err error) string {
	for _, name := range fields {
		if bytes.HasPrefix([]byte(err.Error()), []byte(name+" ")) || bytes.HasPrefix([]byte(err.Error()), []byte(name+":")) {
			return name
		}
	}
	return ""
}

// attach names files by what they are made of.
func attach(in []intake.File) (out []psirt.Attachment, bodies [][]byte) {
	for _, f := range in {
		sum := sha256.Sum256(f.Body)
		out = append(out, psirt.Attachment{Name: f.Name, Type: f.Type, Digest: hex.EncodeToString(sum[:]), Length: int64(len(f.Body))})
		bodies = append(bodies, f.Body)
	}
	return out, bodies
}

// requestKey makes an idempotency key of the sender's word and of all that was
// sent: the same again is the same report, anything else is another. A key that
// somebody guesses opens nothing without the content.
func requestKey(way, word string, r psirt.ReportReceived) (string, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode report: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(word), word)
	h.Write(b)
	return way + "/" + hex.EncodeToString(h.Sum(nil)), nil
}

// submission is a report that is answered by its page, and by mail to whoever
// gave an address.
func submission(r psirt.ReportReceived, files [][]byte, key string) store.Submission {
	return store.Submission{Received: r, Files: files, Request: key, Acknowledged: "page", Letter: r.Contact}
}

// postReport takes a report from a person's form or a program's JSON.
func (d *Door) postReport(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && kind == "application/json" {
		d.postJSON(w, r)
		return
	}
	from := address(r, d.Config.Proxies)
	if !d.limits.mayReport(from, d.Now()) {
		d.tooMany(w)
		return
	}
	f, err := d.upload(w, r)
	if err == nil {
		var received psirt.ReportReceived
		var files [][]byte
		if received, files, err = f.report(psirt.FromForm); err == nil {
			if !d.limits.report(from, d.Now()) { // others of this address were quicker
				d.tooMany(w)
				return
			}
			d.keepForm(w, r, f, received, files)
			return
		}
	}
	var bad refusal
	if !errors.As(err, &bad) {
		d.broken(w, r, "read form", err)
		return
	}
	d.showForm(w, http.StatusUnprocessableEntity, f.fields, bad)
}

// upload reads a form within the limits of memory and time.
func (d *Door) upload(w http.ResponseWriter, r *http.Request) (form, error) {
	select {
	case d.large <- struct{}{}:
		defer func() { <-d.large }()
	case <-r.Context().Done():
		return form{}, r.Context().Err()
	}
	rc := http.NewResponseController(w)
	// Only a ResponseWriter that is no network connection refuses.
	_ = rc.SetReadDeadline(time.Now().Add(uploadTime))
	_ = rc.SetWriteDeadline(time.Now().Add(uploadTime + submitTime))
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return readForm(r)
}

func (d *Door) keepForm(w http.ResponseWriter, r *http.Request, f form, received psirt.ReportReceived, files [][]byte) {
	key, err := requestKey("form", f.fields[fieldNonce], received)
	if err != nil {
		d.broken(w, r, "keep report", err)
		return
	}
	// What was sent is kept even if the sender is gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), submitTime)
	defer cancel()
	out, _, err := d.submit(ctx, submission(received, files, key))
	if err != nil {
		d.broken(w, r, "keep report", err)
		return
	}
	http.Redirect(w, r, pagePath(d.secretOf(reportID(out)))+"?new=1", http.StatusSeeOther)
}
