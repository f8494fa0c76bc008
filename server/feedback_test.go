package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/server/intake"
)

// A party with a secret link and no script says what it thinks; the form tells
// nothing of the case, the review shows the answer, and who did not answer is unknown.
func TestFeedbackComesByASecretFormAndStandsInTheReview(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Intake = &intake.Config{Name: "Acme", PerHour: 100} })
	kase := w.embargo("zebrafish overflow")
	reviews := headgatev1connect.NewReviewServiceClient(w.web, w.base)
	ask := &headgatev1.AskFeedbackRequest{Case: kase, From: []string{"vendor:acme", "tenant:t1"}, About: "our update of November"}
	asked, err := reviews.AskFeedback(t.Context(), connect.NewRequest(ask))
	check(t, err)
	again, err := reviews.AskFeedback(t.Context(), connect.NewRequest(ask))
	check(t, err)
	if a, b := asked.Msg.Links, again.Msg.Links; len(a) != 2 || a[0].Url == a[1].Url || a[0].Url != b[0].Url {
		t.Fatalf("links: %v, %v", a, b)
	}
	_, err = reviews.AskFeedback(t.Context(), connect.NewRequest(&headgatev1.AskFeedbackRequest{Case: kase, From: []string{"nobody"}, About: "x"}))
	wantCode(t, err, connect.CodeFailedPrecondition, "no party")

	link := asked.Msg.Links[0].Url
	visitor := &http.Client{}
	res, err := visitor.Get(link)
	form := page(t, res, err)
	for _, want := range []string{"our update of November", `name="told"`, `name="text"`} {
		if !strings.Contains(form, want) {
			t.Errorf("%q is not on the form", want)
		}
	}
	for _, never := range []string{kase, "zebrafish", "<script", "vendor:acme"} {
		if strings.Contains(form, never) {
			t.Errorf("the form says %q", never)
		}
	}
	send := func(fields url.Values) (int, string) {
		res, err := visitor.PostForm(link, fields)
		return res.StatusCode, page(t, res, err)
	}
	for what, fields := range map[string]url.Values{
		"nothing": {}, "no such mark": {"told": {"9"}}, "too much": {"text": {strings.Repeat("x", 17<<10)}},
	} {
		if status, text := send(fields); status != http.StatusUnprocessableEntity || !strings.Contains(text, "Not sent yet") {
			t.Errorf("%s: %d %.200s", what, status, text)
		}
	}
	for range 2 { // the same twice is kept once
		if status, text := send(url.Values{"told": {"2"}, "solved": {"5"}, "text": {"Too <b>late</b>\n<script>alert(1)</script>"}}); status != http.StatusOK || !strings.Contains(text, "It is kept") || strings.Contains(text, "<script") {
			t.Fatalf("%d %s", status, text)
		}
	}
	got, err := reviews.GetReview(t.Context(), connect.NewRequest(&headgatev1.GetReviewRequest{Case: kase}))
	check(t, err)
	fb := got.Msg.Review.Feedback
	if len(fb) != 2 || len(fb[0].Answers) != 1 || fb[0].Answers[0].Told != 2 || fb[0].Answers[0].Clear != 0 || len(fb[1].Answers) != 0 {
		t.Errorf("the review has %v", fb)
	}
	if m := got.Msg.Review.Markdown; !strings.Contains(m, "| vendor:acme | 2 of 5 | unknown | 5 of 5 | Too &lt;b&gt;late") || !strings.Contains(m, "has not answered") {
		t.Errorf("in words: %s", m)
	}
	for i := range 9 {
		send(url.Values{"clear": {"3"}, "text": {strings.Repeat("y", i)}})
	}
	if status, text := send(url.Values{"told": {"1"}}); status != http.StatusUnprocessableEntity || !strings.Contains(text, "sent 10 times") {
		t.Errorf("an eleventh answer: %d", status)
	}
	res, err = visitor.Get(link[:len(link)-1] + "x")
	if text := page(t, res, err); res.StatusCode != http.StatusNotFound || strings.Contains(text, kase) {
		t.Errorf("a wrong link: %d", res.StatusCode)
	}
}
