package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// browser is a client that trusts the demo's throw-away certificate only, and
// follows no redirection by itself.
func (r *response) browser() (*http.Client, error) {
	pem, err := os.ReadFile(r.path("server", "tls", "cert.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("read the server's certificate: none in the file")
	}
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

var (
	nonceField = regexp.MustCompile(`name="nonce" value="([^"]*)"`)
	reportID   = regexp.MustCompile(`RP-[0-9A-Z]{13}`)
)

// answer is what the server answered: its status, where it leads, and the page.
type answer struct {
	status   int
	location string
	body     []byte
}

func fetch(ctx context.Context, c *http.Client, req *http.Request) (answer, error) {
	res, err := c.Do(req.WithContext(ctx))
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return answer{res.StatusCode, res.Header.Get("Location"), b}, err
}

func (r *response) get(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	got, err := fetch(ctx, c, req)
	if err == nil && got.status != http.StatusOK {
		err = fmt.Errorf("status %d", got.status)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	return got.body, nil
}

// submitForm fills in the public form and sends it, as a browser does.
func (r *response) submitForm(ctx context.Context) error {
	c, err := r.browser()
	if err != nil {
		return err
	}
	base := lookup(r.env, "HEADGATE_SERVER")
	page, err := r.get(ctx, c, base+"/report")
	if err != nil {
		return err
	}
	nonce := nonceField.FindSubmatch(page)
	if nonce == nil {
		return errors.New("the form has no nonce")
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range [][2]string{
		{"nonce", string(nonce[1])}, {"title", "Rules are skipped after an odd event"}, {"text", reportText}, {"product", product}, {"version", versions[0]},
		{"component", "matcher"}, {"cwe", "CWE-155"}, {"reporter", "Robin Finder"}, {"contact", ""}, {"website", ""},
	} {
		if err := form.WriteField(f[0], f[1]); err != nil {
			return err
		}
	}
	file, err := form.CreateFormFile("files", "events.txt")
	if err == nil {
		_, err = io.WriteString(file, "ipc *\n")
	}
	if err = errors.Join(err, form.Close()); err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, base+"/report", &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("Origin", base)
	sent, err := fetch(ctx, c, req)
	if err != nil {
		return fmt.Errorf("send the form: %w", err)
	}
	if sent.status != http.StatusSeeOther || sent.location == "" {
		return fmt.Errorf("send the form: status %d: %.300s", sent.status, sent.body)
	}
	r.page = sent.location
	if strings.HasPrefix(r.page, "/") {
		r.page = base + r.page
	}
	if page, err = r.get(ctx, c, r.page); err != nil {
		return err
	}
	if r.tracks = reportID.FindString(string(page)); r.tracks == "" {
		return errors.New("the reporter's page names no number")
	}
	r.page, _, _ = strings.Cut(r.page, "?")
	r.out.URLs = append(r.out.URLs, Link{"the reporter's page", r.page})
	return nil
}
