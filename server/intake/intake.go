// Package intake is the server's open door: the form at /report that anyone may
// fill in, the page that a reporter comes back to, the same by JSON for programs,
// security.txt, and the key that reports are encrypted to. It needs no script, no
// cookie and no account.
//
// It decides nothing (psirt does), keeps nothing in memory that may not be lost,
// and shows a reporter nothing of any customer. Its words: form, page, secret.
package intake

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

// Config is what the server's configuration says of the open door. A zero field
// takes the default named there.
type Config struct {
	// Name is whose door it is, as its pages say: "Acme". Default: the host of URL.
	Name string `json:"name,omitempty"`
	// URL is the server's address as reporters know it, such as
	// "https://security.acme.example". Default: the address that the server listens on.
	URL string `json:"url,omitempty"`
	// Contact are further ways to report, as URIs: "mailto:security@acme.example".
	Contact []string `json:"contact,omitempty"`
	// Policy and Acknowledgments are addresses of pages of yours, for security.txt.
	Policy          string `json:"policy,omitempty"`
	Acknowledgments string `json:"acknowledgments,omitempty"`
	// Languages are those in which reports are read, BCP 47. Default ["en"].
	Languages []string `json:"languages,omitempty"`
	// KeyFile is the OpenPGP secret key that reports are encrypted to, in armour and
	// without passphrase. Default: keys/openpgp.asc in the data folder, made at the
	// first start. Servers on one database share one.
	KeyFile string `json:"key_file,omitempty"`
	// PerHour is how many reports one address may send in an hour, and Overall how
	// many all together may. Defaults 10 and 1000. Messages and looks at a page have
	// ten times as much.
	PerHour int `json:"per_hour,omitempty"`
	Overall int `json:"overall,omitempty"`
	// Proxies are the networks of reverse proxies whose X-Forwarded-For is believed,
	// such as "10.0.0.0/8". Default: none.
	Proxies []netip.Prefix `json:"proxies,omitempty"`
	// Mail is the listener for reports by e-mail. Default: none.
	Mail *MailConfig `json:"mail,omitempty"`
}

// Complete fills in defaults and refuses what cannot work. at is the URL to take
// where none is configured.
func (c Config) Complete(at string) (Config, error) {
	if c.URL == "" {
		c.URL = at
	}
	c.URL = strings.TrimRight(c.URL, "/")
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return c, fmt.Errorf("configuration: intake.url: %q: want a URL such as https://security.example.com", c.URL)
	}
	if c.Name == "" {
		c.Name = u.Hostname()
	}
	if len(c.Languages) == 0 {
		c.Languages = []string{"en"}
	}
	if c.PerHour == 0 {
		c.PerHour = 10
	}
	if c.Overall == 0 {
		c.Overall = 1000
	}
	if c.PerHour < 1 || c.Overall < 1 {
		return c, fmt.Errorf("configuration: intake: per_hour %d, overall %d: want at least 1", c.PerHour, c.Overall)
	}
	if c.Mail != nil {
		m, err := c.Mail.complete(u.Hostname())
		if err != nil {
			return c, err
		}
		c.Mail = &m
	}
	return c, nil
}

// Reports is what the door needs of the store.
type Reports interface {
	Submit(ctx context.Context, s store.Submission, now time.Time) (store.Report, bool, error)
	ReportPage(ctx context.Context, secret store.Hash, now time.Time) (store.ReportPage, error)
	AddToPage(ctx context.Context, secret store.Hash, b psirt.Body, now time.Time) error
	FeedbackForm(ctx context.Context, secret store.Hash) (psirt.Feedback, error)
	AddFeedback(ctx context.Context, secret store.Hash, b psirt.FeedbackReceived, now time.Time) error
}

// Door answers the public. It is safe for concurrent use.
type Door struct {
	Config  Config
	Reports Reports
	Key     intake.Key
	// Secret is what reporters' secrets are derived from; 32 bytes, never shown.
	Secret []byte
	Now    func() time.Time
	Log    *slog.Logger

	once   sync.Once
	limits *limits
	forms  *http.CrossOriginProtection
	large  chan struct{} // bounds the memory of uploads

	mu      sync.Mutex // guards what follows
	signed  []byte     // security.txt
	expires time.Time
}

func (d *Door) init() {
	d.once.Do(func() {
		d.limits = newLimits(d.Config.PerHour, d.Config.Overall)
		d.forms = http.NewCrossOriginProtection()
		d.large = make(chan struct{}, maxUploads)
	})
}

// Mount puts the door's pages on a router.
func (d *Door) Mount(mux interface {
	Handle(pattern string, h http.Handler)
}) {
	d.init()
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, guarded(d.forms.Handler(h))) }
	handle("GET /report", d.getForm)
	handle("POST /report", d.postReport)
	handle("GET /report/{secret}", d.getPage)
	handle("POST /report/{secret}", d.postPage)
	handle("GET /feedback/{secret}", d.getFeedback)
	handle("POST /feedback/{secret}", d.postFeedback)
	handle("GET /report.css", d.getStyle)
	handle("GET /report.asc", d.getKey)
	handle("GET /.well-known/security.txt", d.getSecurityTxt)
	handle("GET /security.txt", func(w http.ResponseWriter, r *http.Request) { // RFC 9116 3: the old place
		http.Redirect(w, r, "/.well-known/security.txt", http.StatusMovedPermanently)
	})
}

// guarded sets what each page of the door has in common: nothing is run, framed,
// stored on the way, or told to others by a link.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		h.Set("X-Robots-Tag", "noindex")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// secretBytes is the length of a reporter's secret: 43 characters of base64url.
const secretBytes = 32

// secretOf derives the secret of a report's page, so that it need not be kept and
// can be sent again.
func (d *Door) secretOf(report string) [secretBytes]byte {
	m := hmac.New(sha256.New, d.Secret)
	m.Write([]byte("headgate report page " + report))
	return [secretBytes]byte(m.Sum(nil))
}

// hashOf is what the store keeps of it.
func (d *Door) hashOf(report string) store.Hash {
	s := d.secretOf(report)
	return sha256.Sum256(s[:])
}

// PageURL is where the reporter of a report comes back to.
func (d *Door) PageURL(report string) string {
	return d.Config.URL + pagePath(d.secretOf(report))
}

func pagePath(secret [secretBytes]byte) string {
	return "/report/" + base64.RawURLEncoding.EncodeToString(secret[:])
}

// AnswerID is the Message-ID of what we send about a report: who answers it shows
// that she got it.
func (d *Door) AnswerID(report string, nth int) string {
	return fmt.Sprintf("%s.%s.%d@%s", report, d.answerMark(report), nth, d.host())
}

func (d *Door) host() string {
	u, err := url.Parse(d.Config.URL)
	if err != nil {
		panic("intake: an address that was checked cannot be read: " + err.Error())
	}
	return u.Hostname()
}

func (d *Door) answerMark(report string) string {
	m := hmac.New(sha256.New, d.Secret)
	m.Write([]byte("headgate report answer " + report))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// NewSecret makes what secrets are derived from.
func NewSecret() []byte {
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails: it aborts the program instead
	return b
}

// submit keeps a report. When it returns without error the report is durable.
func (d *Door) submit(ctx context.Context, s store.Submission) (store.Report, bool, error) {
	s.Page = d.hashOf
	return d.Reports.Submit(ctx, s, d.Now())
}

// getKey serves the public key.
func (d *Door) getKey(w http.ResponseWriter, r *http.Request) {
	public, err := d.Key.Public()
	if err != nil {
		d.broken(w, r, "write public key", err)
		return
	}
	w.Header().Set("Content-Type", "application/pgp-keys")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Write([]byte(public))
}

// getSecurityTxt serves security.txt, signed, and anew when half its life is over.
func (d *Door) getSecurityTxt(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(d.Config.URL, "https://") {
		http.Error(w, "there is no security.txt: its addresses must be https (RFC 9116 2.5), and intake.url is not", http.StatusNotFound)
		return
	}
	b, err := d.securityTxt()
	if err != nil {
		d.broken(w, r, "make security.txt", err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Write(b)
}

// securityTxtLife is for how long a copy of security.txt may be trusted.
const securityTxtLife = 30 * 24 * time.Hour

func (d *Door) securityTxt() ([]byte, error) {
	c := d.Config
	s := intake.SecurityTxt{
		Contact:    append([]string{c.URL + "/report"}, c.Contact...),
		Encryption: []string{c.URL + "/report.asc"},
		Canonical:  []string{c.URL + "/.well-known/security.txt"},
		Languages:  c.Languages, Life: securityTxtLife,
	}
	if c.Policy != "" {
		s.Policy = []string{c.Policy}
	}
	if c.Acknowledgments != "" {
		s.Acknowledgments = []string{c.Acknowledgments}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.Now()
	if d.signed != nil && !s.Stale(d.expires, now) {
		return d.signed, nil
	}
	text, expires, err := s.Text(now)
	if err != nil {
		return nil, err
	}
	signed, err := d.Key.SignClear(text, now)
	if err != nil {
		return nil, err
	}
	d.signed, d.expires = signed, expires
	return signed, nil
}
