package intake

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

// feedbackSecret derives the secret of somebody's form about a case, so that the link
// can be shown again.
func (d *Door) feedbackSecret(kase, from string) [secretBytes]byte {
	m := hmac.New(sha256.New, d.Secret)
	m.Write([]byte("headgate feedback form " + kase + " " + from))
	return [secretBytes]byte(m.Sum(nil))
}

// FeedbackHash is what the store keeps of it.
func (d *Door) FeedbackHash(kase, from string) store.Hash {
	s := d.feedbackSecret(kase, from)
	return sha256.Sum256(s[:])
}

// FeedbackURL is where somebody who was asked says what she thinks.
func (d *Door) FeedbackURL(kase, from string) string {
	s := d.feedbackSecret(kase, from)
	return d.Config.URL + "/feedback/" + base64.RawURLEncoding.EncodeToString(s[:])
}

// Marks of a feedback form, by the name of their field.
var feedbackMarks = []mark{
	{Name: "told", Text: "We were told in time"},
	{Name: "clear", Text: "We knew what to do"},
	{Name: "solved", Text: "It is solved for us"},
}

// mark is one question with the answer that was chosen.
type mark struct {
	Name, Text string
	Chosen     int64
}

// Choices are the answers, from no to yes.
func (mark) Choices() []choice {
	return []choice{{1, "not at all"}, {2, "hardly"}, {3, "partly"}, {4, "mostly"}, {5, "fully"}}
}

type choice struct {
	Value int64
	Text  string
}

// feedbackView is a feedback form.
type feedbackView struct {
	head
	About string
	Marks []mark
	Typed string
	Said  []psirt.FeedbackReceived
	Bad   refusal
	Done  bool
	Full  bool
	KiB   int
}

// getFeedback shows a feedback form.
func (d *Door) getFeedback(w http.ResponseWriter, r *http.Request) {
	if !d.limits.visit(address(r, d.Config.Proxies), d.Now()) {
		d.tooMany(w)
		return
	}
	d.showFeedback(w, r, http.StatusOK, psirt.FeedbackReceived{}, refusal{})
}

// postFeedback keeps what somebody says.
func (d *Door) postFeedback(w http.ResponseWriter, r *http.Request) {
	if !d.limits.visit(address(r, d.Config.Proxies), d.Now()) {
		d.tooMany(w)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFields)
	if err := r.ParseForm(); err != nil {
		d.showFeedback(w, r, http.StatusUnprocessableEntity, psirt.FeedbackReceived{}, refusal{"", "the form cannot be read"})
		return
	}
	said, bad := readFeedback(r)
	if bad != (refusal{}) {
		d.showFeedback(w, r, http.StatusUnprocessableEntity, said, bad)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), submitTime)
	defer cancel()
	err := d.Reports.AddFeedback(ctx, secret(r.PathValue("secret")), said, d.Now())
	switch {
	case errors.Is(err, store.ErrNotFound):
		d.noFeedback(w)
	case errors.Is(err, psirt.ErrIllegal), errors.Is(err, psirt.ErrInvalid):
		d.showFeedback(w, r, http.StatusUnprocessableEntity, said, refusal{"", fmt.Sprintf("it was not kept: this form was sent %d times already", psirt.MaxAnswers)})
	case err != nil:
		d.broken(w, r, "keep feedback", err)
	default:
		http.Redirect(w, r, r.URL.EscapedPath()+"?done=1", http.StatusSeeOther)
	}
}

func readFeedback(r *http.Request) (psirt.FeedbackReceived, refusal) {
	out := psirt.FeedbackReceived{Text: intake.Lines(r.PostForm.Get("text"))}
	for name, to := range map[string]*int64{"told": &out.Told, "clear": &out.Clear, "solved": &out.Solved} {
		given := r.PostForm.Get(name)
		if given == "" {
			continue
		}
		n, err := strconv.ParseInt(given, 10, 64)
		if err != nil || n < 1 || n > 5 {
			return out, refusal{name, "choose one of the five answers"}
		}
		*to = n
	}
	switch {
	case len(out.Text) > psirt.MaxFeedback:
		return out, refusal{"text", fmt.Sprintf("the text is longer than %d KiB", psirt.MaxFeedback>>10)}
	case out == (psirt.FeedbackReceived{}):
		return out, refusal{"text", "nothing is marked, and the text is empty"}
	}
	return out, refusal{}
}

func (d *Door) showFeedback(w http.ResponseWriter, r *http.Request, status int, typed psirt.FeedbackReceived, bad refusal) {
	form, err := d.Reports.FeedbackForm(r.Context(), secret(r.PathValue("secret")))
	if errors.Is(err, store.ErrNotFound) {
		d.noFeedback(w)
		return
	}
	if err != nil {
		d.broken(w, r, "read feedback form", err)
		return
	}
	v := feedbackView{
		head: d.head("What do you think?"), About: form.About, Typed: typed.Text, Said: form.Answers, Bad: bad,
		Done: r.URL.Query().Get("done") == "1", Full: len(form.Answers) >= psirt.MaxAnswers, KiB: psirt.MaxFeedback >> 10,
	}
	for i, chosen := range []int64{typed.Told, typed.Clear, typed.Solved} {
		m := feedbackMarks[i]
		m.Chosen = chosen
		v.Marks = append(v.Marks, m)
	}
	d.render(w, status, "feedback", v)
}

// noFeedback is the one answer to a secret that opens no form.
func (d *Door) noFeedback(w http.ResponseWriter) {
	d.render(w, http.StatusNotFound, "error", oops{d.head("Not found"), "There is no form behind this link",
		"Please check that it was copied whole: it ends with 43 letters, digits, dashes and underscores."})
}
