package response

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
)

var nonce = regexp.MustCompile(`name="nonce" value="([^"]*)"`)

// visit reads a page, as somebody without an account.
func (t *teller) visit(url string) (string, error) {
	req, err := http.NewRequestWithContext(t.w.ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	return read(http.DefaultClient.Do(req))
}

func read(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.500s", res.Request.URL, res.Status, b)
	}
	return string(b), err
}

// sendForm fills in the public form with the fields in a file, as a browser does,
// and follows to the reporter's page.
func (t *teller) sendForm(file string) (number string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var fields map[string]string
	if err := json.Unmarshal(b, &fields); err != nil {
		return "", err
	}
	empty, err := t.visit(t.w.s.URL() + "/report")
	if err != nil {
		return "", err
	}
	once := nonce.FindStringSubmatch(empty)
	if once == nil {
		return "", errors.New("the form has no nonce")
	}
	fields["nonce"] = once[1]
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := form.WriteField(name, fields[name]); err != nil {
			return "", err
		}
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(t.w.ctx, http.MethodPost, t.w.s.URL()+"/report", &body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("Origin", t.w.s.URL())
	res, err := http.DefaultClient.Do(req)
	page, err := read(res, err)
	if err != nil {
		return "", err
	}
	t.page, _, _ = strings.Cut(res.Request.URL.String(), "?")
	number = regexp.MustCompile(`RP-[0-9A-Z]{13}`).FindString(page)
	if number == "" {
		return "", errors.New("the reporter's page names no number")
	}
	return number, nil
}
