package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/pflag"

	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
)

// connection says which server, and as whom.
type connection struct {
	server    string // base URL
	tokenFile string
	pin       string // SHA-256 of the server's certificate
}

func (c *connection) flags(f *pflag.FlagSet) {
	f.StringVar(&c.server, "server", os.Getenv("HEADGATE_SERVER"), "the server's `URL` (HEADGATE_SERVER)")
	f.StringVar(&c.tokenFile, "token-file", os.Getenv("HEADGATE_TOKEN_FILE"), "`file` with the access token (HEADGATE_TOKEN_FILE)")
	f.StringVar(&c.pin, "pin", os.Getenv("HEADGATE_PIN"), "SHA-256 `fingerprint` of the server's certificate, if no authority vouches for it (HEADGATE_PIN)")
}

// client is the API as one operator sees it.
type client struct {
	base       string
	http       *http.Client
	account    headgatev1connect.AccountServiceClient
	catalog    headgatev1connect.CatalogServiceClient
	evidence   headgatev1connect.EvidenceServiceClient
	fleet      headgatev1connect.FleetServiceClient
	ladder     headgatev1connect.LadderServiceClient
	ledger     headgatev1connect.LedgerServiceClient
	policy     headgatev1connect.PolicyServiceClient
	repository headgatev1connect.RepositoryServiceClient
	review     headgatev1connect.ReviewServiceClient
	rollout    headgatev1connect.RolloutServiceClient
	affected   headgatev1connect.AffectedServiceClient
	cases      headgatev1connect.CaseServiceClient
	sboms      headgatev1connect.SBOMServiceClient
	report     headgatev1connect.ReportServiceClient
	notice     headgatev1connect.NoticeServiceClient
	intake     headgatev1connect.IntakeServiceClient
}

// connect makes a client. It sends nothing yet.
func (c *connection) connect() (*client, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	if c.tokenFile == "" {
		return nil, usagef("no access token: give --token-file or HEADGATE_TOKEN_FILE (the server wrote the first one as operator.token into its data folder)")
	}
	b, err := readFile(c.tokenFile, 4096)
	if err != nil {
		return nil, fmt.Errorf("read the access token: %w", err)
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	h := &http.Client{Transport: bearer{token: strings.TrimSpace(string(b)), next: transport}}
	return &client{
		base: base, http: h,
		account:    headgatev1connect.NewAccountServiceClient(h, base),
		catalog:    headgatev1connect.NewCatalogServiceClient(h, base),
		evidence:   headgatev1connect.NewEvidenceServiceClient(h, base),
		fleet:      headgatev1connect.NewFleetServiceClient(h, base),
		ladder:     headgatev1connect.NewLadderServiceClient(h, base),
		ledger:     headgatev1connect.NewLedgerServiceClient(h, base),
		policy:     headgatev1connect.NewPolicyServiceClient(h, base),
		repository: headgatev1connect.NewRepositoryServiceClient(h, base),
		review:     headgatev1connect.NewReviewServiceClient(h, base),
		rollout:    headgatev1connect.NewRolloutServiceClient(h, base),
		affected:   headgatev1connect.NewAffectedServiceClient(h, base),
		cases:      headgatev1connect.NewCaseServiceClient(h, base),
		sboms:      headgatev1connect.NewSBOMServiceClient(h, base),
		report:     headgatev1connect.NewReportServiceClient(h, base),
		notice:     headgatev1connect.NewNoticeServiceClient(h, base),
		intake:     headgatev1connect.NewIntakeServiceClient(h, base),
	}, nil
}

// base checks the server's URL.
func (c *connection) base() (string, error) {
	if c.server == "" {
		return "", usagef("no server: give --server or HEADGATE_SERVER, for example https://127.0.0.1:8443")
	}
	u, err := url.Parse(c.server)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return "", usagef("--server %q: want a URL such as https://headgate.example:8443", c.server)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", usagef("--server %q: a token must not cross a network in the clear; use https", c.server)
	}
	return strings.TrimRight(c.server, "/"), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// errPin means that another server answered than the one that is pinned.
var errPin = errors.New("the server's certificate is not the pinned one")

func (c *connection) transport() (*http.Transport, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 60 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.pin == "" {
		return t, nil
	}
	pin := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(c.pin, "sha256:"), ":", ""))
	if b, err := hex.DecodeString(pin); err != nil || len(b) != sha256.Size {
		return nil, usagef("--pin %q: want the 64 hex digits that the server prints at its start", c.pin)
	}
	// The pin replaces the chain of authorities: it names this one certificate.
	t.TLSClientConfig.InsecureSkipVerify = true
	t.TLSClientConfig.VerifyConnection = func(s tls.ConnectionState) error {
		got := sha256.Sum256(s.PeerCertificates[0].Raw)
		if hex.EncodeToString(got[:]) != pin {
			return fmt.Errorf("%w: it is %x", errPin, got)
		}
		return nil
	}
	return t, nil
}

// bearer puts the token on each request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// call makes one API call and says in its error what to do next.
func call[Req, Res any](ctx context.Context, f func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) (*Res, error) {
	res, err := f(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, explain(err)
	}
	return res.Msg, nil
}

// explain turns an API error into what a person can act on.
func explain(err error) error {
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, errPin):
		return fmt.Errorf("%w; if you replaced the certificate, take the new fingerprint from the server's start; if not, somebody stands between", unwrapTo(err, errPin))
	case errors.As(err, &authority):
		return fmt.Errorf("no authority known here vouches for the server's certificate: give --pin with the fingerprint that the server printed at its start: %w", authority)
	}
	var e *connect.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case connect.CodeUnauthenticated:
		return fmt.Errorf("the server does not know this token (%s): is --token-file the right one, or was it revoked?", e.Message())
	case connect.CodePermissionDenied:
		return fmt.Errorf("this token may not do that: %s", e.Message())
	case connect.CodeUnavailable:
		if connect.IsWireError(err) { // it did answer
			return fmt.Errorf("the server cannot do that just now: %s", e.Message())
		}
		return fmt.Errorf("the server does not answer (%s): is it running, and is --server right?", e.Message())
	case connect.CodeResourceExhausted:
		if strings.Contains(e.Message(), "larger than configured max") { // Connect's words
			return fmt.Errorf("too large for the server: %s", e.Message())
		}
		return fmt.Errorf("the server is busy (%s): try again in a moment", e.Message())
	}
	return errors.New(e.Message())
}

// unwrapTo finds the error in err's chain that wraps target directly.
func unwrapTo(err, target error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if u := errors.Unwrap(e); u != nil && u == target { //nolint:errorlint // the direct wrapper is sought
			return e
		}
	}
	return target
}
