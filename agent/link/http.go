package link

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
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/release/tuf"
)

// ErrPin is the refusal of a server whose certificate is not the pinned one.
var ErrPin = errors.New("server's certificate is not the pinned one")

// requestTimeout bounds each call and metadata file, so that a server that
// hangs is the same as one that is gone.
const requestTimeout = 30 * time.Second

// ParsePin reads a SHA-256 fingerprint in hex, with or without colons and a
// "sha256:" before it, in either case.
func ParsePin(pin string) ([]byte, error) {
	s := strings.ToLower(strings.TrimSpace(pin))
	s = strings.ReplaceAll(strings.TrimPrefix(s, "sha256:"), ":", "")
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return nil, fmt.Errorf("pin %q: want the SHA-256 of the server's certificate, 64 hex digits", pin)
	}
	return b, nil
}

// Transport speaks HTTP to one server. With a pin, exactly the certificate with
// that SHA-256 is trusted, whoever issued it and whatever name and dates it
// bears: nothing depends on this machine's clock. Without one, the system's
// roots are trusted.
func Transport(pin string, conns int) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:          conns,
		MaxIdleConnsPerHost:   conns,
		MaxConnsPerHost:       conns,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: requestTimeout,
		DisableCompression:    true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if pin == "" {
		return t, nil
	}
	want, err := ParsePin(pin)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig.InsecureSkipVerify = true // VerifyConnection takes its place
	t.TLSClientConfig.VerifyConnection = func(cs tls.ConnectionState) error { return checkPin(want, cs.PeerCertificates) }
	return t, nil
}

func checkPin(want []byte, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: it sent none", ErrPin)
	}
	if got := sha256.Sum256(chain[0].Raw); string(got[:]) != string(want) {
		return fmt.Errorf("%w: got sha256:%x, pinned at enrolment sha256:%x; if the server's certificate was replaced on purpose, enrol again", ErrPin, got, want)
	}
	return nil
}

// CheckServer refuses a server URL that cannot be used.
func CheckServer(server, pin string) error {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("server %q: want https://host[:port]", server)
	}
	if u.Scheme == "http" && pin != "" {
		return fmt.Errorf("server %q: a pin needs https", server)
	}
	return nil
}

// API makes a client of the agent's calls. A token, if any, goes with each call.
func API(hc *http.Client, server, token string) headgatev1connect.AgentServiceClient {
	c := *hc
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = polite{c.Transport}
	return headgatev1connect.NewAgentServiceClient(&c, server,
		connect.WithInterceptors(bearer(token)), connect.WithReadMaxBytes(4<<20), connect.WithAcceptCompression("gzip", nil, nil))
}

// bearer puts a token into each request.
func bearer(token string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if token != "" {
				req.Header().Set("Authorization", "Bearer "+token)
			}
			return next(ctx, req)
		}
	}
}

// RetryAfter is how long a failed request's answer asks to be left alone; 0 if
// it does not say.
func RetryAfter(err error) time.Duration {
	if re := (*tuf.RetryError)(nil); errors.As(err, &re) {
		return re.After
	}
	return 0
}

// polite turns an answer that asks for patience (429, 503 with Retry-After, from
// the server or anything before it) into a *tuf.RetryError: Connect would lose
// the header.
type polite struct{ http.RoundTripper }

func (p polite) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return resp, err
	}
	d := tuf.RetryAfter(resp.Header)
	if d <= 0 {
		return resp, nil
	}
	resp.Body.Close()
	return nil, &tuf.RetryError{Status: resp.StatusCode, After: d, Path: req.URL.Path}
}

// final tells whether a call's failure will not go away by repeating it.
func final(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied,
		connect.CodeNotFound, connect.CodeFailedPrecondition, connect.CodeUnimplemented, connect.CodeOutOfRange:
		return true
	}
	return false
}
