package intake

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jhillyerd/enmime/v2"
)

// Limits of a mail. What is above them stays in the message as it came, which is
// kept whole.
const (
	MaxMail     = 25 << 20 // bytes of a message
	maxFiles    = 50       // attachments that are taken out
	maxFileName = 200      // bytes
	maxParts    = 100      // boundaries that a message may declare
	maxNested   = 4        // encrypted or signed within each other
	maxProblems = 20
)

// Mail is a message as it was understood. Nothing in it is believed: names,
// types and addresses are the sender's words.
type Mail struct {
	ID      string    // Message-ID, without brackets
	From    string    // address
	Name    string    // of the sender
	Subject string    //
	Date    time.Time // zero if there is none that can be read
	Answers []string  // In-Reply-To and References, without brackets
	Text    string    // plain; what was encrypted or only in HTML included
	Files   []File    // attachments
	// Automatic: sent by a program (RFC 3834). It is never answered.
	Automatic bool
	// Encrypted: what Text says came encrypted to us.
	Encrypted bool
	Signature Signature
	Signer    string // fingerprint of the key that signed, if it is known
	// PublicKey is the sender's key in ASCII armour, if one was sent along.
	PublicKey []byte
	// Problems are what could not be read, for people.
	Problems []string
}

// File is an attachment.
type File struct {
	Name string // a name, never a path
	Type string // as the sender says
	Body []byte
}

// boundary counts what makes a parser recurse.
var boundary = regexp.MustCompile(`(?i)boundary\s*\*?[0-9]*\*?\s*=`)

// ReadMail reads a message. It never fails for what the message says: what
// cannot be read is a problem in the result, and the caller keeps the message as
// it came. An error means that it is no mail at all: too long, or no header.
func ReadMail(raw []byte, key Key, now time.Time) (Mail, error) {
	if len(raw) > MaxMail {
		return Mail{}, fmt.Errorf("mail: %d bytes, limit %d: %w", len(raw), MaxMail, ErrInvalid)
	}
	r := reader{key: key, now: now}
	if err := r.entity(raw, 0); err != nil {
		return Mail{}, fmt.Errorf("mail: %w: %w", err, ErrInvalid)
	}
	r.mail.Text = Lines(r.mail.Text)
	return r.mail, nil
}

// reader collects a mail from its entities, the encrypted and signed ones too.
type reader struct {
	key  Key
	now  time.Time
	mail Mail
	keys [][]byte // public keys that came along
}

func (r *reader) problem(format string, a ...any) {
	if len(r.mail.Problems) < maxProblems {
		r.mail.Problems = append(r.mail.Problems, cut(Line(fmt.Sprintf(format, a...)), maxFileName))
	}
}

// entity reads one MIME entity; the outermost is the message.
func (r *reader) entity(raw []byte, depth int) error {
	if depth > maxNested {
		r.problem("nested deeper than %d; the rest is in the message as it came", maxNested)
		return nil
	}
	if n := len(boundary.FindAllIndex(raw, maxParts+1)); n > maxParts {
		if depth == 0 {
			return errors.New("more than 100 multipart boundaries")
		}
		r.problem("more than %d multipart boundaries", maxParts)
		return nil
	}
	// A boundary that is missing, or a part that is broken, must not cost the rest.
	env, err := enmime.NewParser(enmime.SkipMalformedParts(true), enmime.MultipartWOBoundaryAsSinglePart(true),
		enmime.MaxStoredPartErrors(maxProblems)).ReadEnvelope(bytes.NewReader(raw))
	if err != nil {
		if depth == 0 {
			return err
		}
		r.problem("encrypted or signed part: %s", err)
		return nil
	}
	if depth == 0 && len(env.Root.Header) == 0 {
		return errors.New("it has no header")
	}
	for _, e := range env.Errors {
		if e.Severe {
			r.problem("%s", e.Detail)
		}
	}
	r.header(env, depth)
	r.collect(env)
	kind, params, err := mime.ParseMediaType(env.Root.Header.Get("Content-Type"))
	if err != nil {
		kind = "" // absent or broken: plain text, which collect has
	}
	switch {
	case kind == "multipart/encrypted":
		r.encrypted(env, depth)
	case kind == "multipart/signed" && strings.EqualFold(params["protocol"], "application/pgp-signature"):
		r.signed(raw, params["boundary"], env)
	case kind == "multipart/signed", strings.HasSuffix(kind, "pkcs7-mime"):
		r.problem("S/MIME is not read here; the message is kept as it came")
	default:
		r.inline()
	}
	return nil
}

// header takes over the outer header; of inner ones only a subject that the
// outer hides (RFC 9788).
func (r *reader) header(env *enmime.Envelope, depth int) {
	m := &r.mail
	subject := cut(Line(env.GetHeader("Subject")), MaxTitle)
	if depth > 0 {
		if m.Subject == "" || strings.Trim(m.Subject, ". []") == "" || strings.EqualFold(m.Subject, "encrypted message") {
			m.Subject = firstOf(subject, m.Subject)
		}
		return
	}
	m.Subject = subject
	m.ID = bracketed(env.GetHeader("Message-ID"))
	m.Answers = append(bracketeds(env.GetHeader("In-Reply-To")), bracketeds(env.GetHeader("References"))...)
	if date, err := env.Date(); err == nil {
		m.Date = date.UTC()
	}
	if from, err := env.AddressList("From"); err == nil && len(from) > 0 {
		m.From, m.Name = cut(Line(from[0].Address), maxFileName), cut(Line(from[0].Name), maxFileName)
	} else {
		r.problem("From: no address that can be read")
	}
	auto := strings.ToLower(strings.TrimSpace(env.GetHeader("Auto-Submitted")))
	m.Automatic = (auto != "" && auto != "no") || env.GetHeader("List-Id") != "" ||
		strings.HasPrefix(strings.ToLower(env.Root.ContentType), "multipart/report")
	switch strings.ToLower(strings.TrimSpace(env.GetHeader("Precedence"))) {
	case "bulk", "junk", "list", "auto_reply":
		m.Automatic = true
	}
}

var inBrackets = regexp.MustCompile(`<([^<>\s]{1,500})>`)

// bracketeds are the message ids of a header, at most 50.
func bracketeds(s string) (out []string) {
	for _, m := range inBrackets.FindAllStringSubmatch(s, maxFiles) {
		out = append(out, Line(m[1]))
	}
	return out
}

func bracketed(s string) string {
	if ids := bracketeds(s); len(ids) > 0 {
		return ids[0]
	}
	return cut(Line(s), maxFileName)
}

// collect takes text and files out of what was parsed.
func (r *reader) collect(env *enmime.Envelope) {
	r.say(env.Text)
	for _, list := range [][]*enmime.Part{env.Attachments, env.Inlines, env.OtherParts} {
		for _, p := range list {
			if p.ContentType == "" && p.FileName == "" && utf8.Valid(p.Content) { // RFC 2045 5.2: it is text/plain
				r.say(string(p.Content))
				continue
			}
			r.file(p.FileName, p.ContentType, p.Content)
		}
	}
}

// say adds to the text.
func (r *reader) say(text string) {
	if text = strings.TrimSpace(text); text == "" {
		return
	}
	if r.mail.Text != "" {
		r.mail.Text += "\n\n"
	}
	r.mail.Text += text
}

func (r *reader) file(name, kind string, body []byte) {
	if from, to, ok := armoured(body, beginPublic, endPublic); ok && len(body) <= maxKey {
		r.publicKey(trimArmour(body[from:to]))
	}
	if len(r.mail.Files) == maxFiles {
		r.problem("more than %d attachments; the rest is in the message as it came", maxFiles)
		return
	}
	r.mail.Files = append(r.mail.Files, File{Name: FileName(name, len(r.mail.Files)+1), Type: cut(Line(kind), maxFileName), Body: body})
}

// FileName is a sender's name for a file without what could be a path; the nth
// file without a name gets one.
func FileName(name string, n int) string {
	name = Line(name)
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	if name == "." || name == ".." || name == "/" {
		return fmt.Sprintf("attachment-%d", n)
	}
	return cut(name, maxFileName)
}

func (r *reader) publicKey(armour []byte) {
	if _, err := readPublic(armour); err != nil {
		return // it stays a file
	}
	r.keys = append(r.keys, armour)
	if r.mail.PublicKey == nil {
		r.mail.PublicKey = armour
	}
}

// encrypted opens PGP/MIME (RFC 3156 4). What it holds is an entity of its own,
// and may bring the key along by which its signature is checked.
func (r *reader) encrypted(env *enmime.Envelope, depth int) {
	var message []byte
	for p := env.Root.FirstChild; p != nil; p = p.NextSibling {
		if p.ContentType == "application/octet-stream" || bytes.Contains(p.Content, []byte(beginMessage)) {
			message = p.Content
		}
	}
	plain, s, by, err := r.key.open(message, r.keys, r.now)
	if err != nil {
		r.problem("cannot decrypt: %s", err)
		return
	}
	r.mail.Encrypted = true
	r.drop(message)
	before := len(r.keys)
	if err := r.entity(plain, depth+1); err != nil {
		r.problem("what was encrypted: %s", err)
	}
	if s == SignedOther && len(r.keys) > before {
		_, s, by, err = r.key.open(message, r.keys, r.now)
		if err != nil {
			r.problem("cannot check the signature: %s", err)
		}
	}
	if s != Unsigned {
		r.mail.Signature, r.mail.Signer = s, by
	}
}

// drop forgets the file that holds only what was decrypted; the message as it
// came still has it.
func (r *reader) drop(body []byte) {
	kept := r.mail.Files[:0]
	for _, f := range r.mail.Files {
		if !bytes.Equal(f.Body, body) && f.Type != "application/pgp-encrypted" {
			kept = append(kept, f)
		}
	}
	r.mail.Files = kept
}

// signed checks PGP/MIME's signature (RFC 3156 5): over the first part's bytes as
// they came, with CRLF.
func (r *reader) signed(raw []byte, boundary string, env *enmime.Envelope) {
	data, ok := firstPart(raw, boundary)
	if !ok {
		r.problem("signed, but its parts cannot be told apart")
		return
	}
	var signature []byte
	for p := env.Root.FirstChild; p != nil; p = p.NextSibling {
		if p.ContentType == "application/pgp-signature" {
			signature = p.Content
		}
	}
	r.mail.Signature, r.mail.Signer = checkDetached(data, signature, r.keys, r.now)
}

// firstPart cuts the first part out of a multipart body, with CRLF line ends and
// without the one that belongs to the boundary (RFC 2046 5.1.1).
func firstPart(raw []byte, boundary string) ([]byte, bool) {
	if boundary == "" {
		return nil, false
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n", "\r\n")
	mark := "\r\n--" + boundary
	from := strings.Index(text, mark)
	if from < 0 {
		return nil, false
	}
	rest := text[from+len(mark):]
	_, rest, ok := strings.Cut(rest, "\r\n")
	if !ok {
		return nil, false
	}
	to := strings.Index(rest, mark)
	if to < 0 {
		return nil, false
	}
	return []byte(rest[:to]), true
}

// inline opens OpenPGP that stands in the text or in a file.
func (r *reader) inline() {
	text := []byte(r.mail.Text)
	if from, to, ok := armoured(text, beginPublic, endPublic); ok {
		r.publicKey(trimArmour(text[from:to]))
	}
	if from, to, ok := armoured(text, beginMessage, endMessage); ok {
		plain, s, by, err := r.key.open(trimArmour(text[from:to]), r.keys, r.now)
		if err != nil {
			r.problem("cannot decrypt the text: %s", err)
		} else {
			r.mail.Encrypted = true
			r.mail.Signature, r.mail.Signer = s, by
			r.mail.Text = string(text[:from]) + Lines(string(plain)) + string(text[to:])
		}
		return
	}
	if from, to, ok := armoured(text, beginSigned, endSigned); ok {
		said, s, by := checkClear(text[from:to], r.keys, r.now)
		r.mail.Signature, r.mail.Signer = s, by
		if s != SignedBadly {
			r.mail.Text = string(text[:from]) + Lines(string(said)) + string(text[to:])
		}
	}
	r.inlineFiles()
}

// inlineFiles decrypts attachments that are OpenPGP messages.
func (r *reader) inlineFiles() {
	for i := range r.mail.Files {
		f := &r.mail.Files[i]
		from, to, ok := armoured(f.Body, beginMessage, endMessage)
		if !ok {
			continue
		}
		plain, s, by, err := r.key.open(f.Body[from:to], r.keys, r.now)
		if err != nil {
			r.problem("cannot decrypt attachment %d: %s", i+1, err)
			continue
		}
		r.mail.Encrypted = true
		if s != Unsigned {
			r.mail.Signature, r.mail.Signer = s, by
		}
		for _, ext := range []string{".asc", ".pgp", ".gpg"} {
			f.Name = strings.TrimSuffix(f.Name, ext)
		}
		f.Name, f.Body = FileName(f.Name, i+1), plain
	}
}
