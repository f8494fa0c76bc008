package psirt

import (
	"slices"
	"strings"
)

// MaxAnswers is how often one whose opinion was asked may answer.
const MaxAnswers = 10

// MaxFeedback is the longest text of an answer, in bytes.
const MaxFeedback = 16 << 10

// Feedback is what somebody who was asked, a customer or a partner, thinks of how the
// case was handled.
type Feedback struct {
	From    string             `json:"from"`
	About   string             `json:"about,omitempty"` // what the form says that it is about
	Asked   FactTime           `json:"asked"`           // never, if it came unasked
	Answers []FeedbackReceived `json:"answers,omitempty"`
}

// FeedbackAsked says that somebody got a form to say what she thinks. About is all that
// the form tells of the case.
type FeedbackAsked struct {
	From  string `json:"from"`
	About string `json:"about"`
}

// Kind implements Body.
func (*FeedbackAsked) Kind() Kind { return "feedback.asked" }

func (b *FeedbackAsked) check() error { return first(line("from", b.From), line("about", b.About)) }

func (b *FeedbackAsked) apply(c *Case, f Fact) error {
	if c.party(b.From) < 0 && !strings.HasPrefix(b.From, "tenant:") {
		return illegal("%s is no party of the case, and no tenant", b.From)
	}
	fb, err := c.Outcome.feedback(b.From)
	if err != nil {
		return err
	}
	fb.Asked.set(f)
	fb.About = b.About
	return nil
}

// FeedbackReceived is what a customer or partner said afterwards. The marks are 1, no,
// to 5, yes; 0 is no answer.
type FeedbackReceived struct {
	From string `json:"from"`
	Text string `json:"text"`
	// Told: we were told in time. Clear: we knew what to do. Solved: it was solved.
	Told   int64 `json:"told,omitempty"`
	Clear  int64 `json:"clear,omitempty"`
	Solved int64 `json:"solved,omitempty"`
}

// Kind implements Body.
func (*FeedbackReceived) Kind() Kind { return "feedback.received" }

func (b *FeedbackReceived) by() string { return b.From }

func (b *FeedbackReceived) check() error {
	for name, mark := range map[string]int64{"told": b.Told, "clear": b.Clear, "solved": b.Solved} {
		if mark < 0 || mark > 5 {
			return invalid("%s: %d; want 1 to 5, or 0 for no answer", name, mark)
		}
	}
	if len(b.Text) > MaxFeedback {
		return invalid("text: %d bytes; at most %d", len(b.Text), MaxFeedback)
	}
	if b.Text == "" && b.Told+b.Clear+b.Solved == 0 {
		return invalid("text: is empty, and nothing is marked")
	}
	return first(line("from", b.From), text("text", b.Text))
}

func (b *FeedbackReceived) apply(c *Case, _ Fact) error {
	fb, err := c.Outcome.feedback(b.From)
	if err != nil {
		return err
	}
	if len(fb.Answers) >= MaxAnswers {
		return illegal("%s has answered %d times already", b.From, MaxAnswers)
	}
	fb.Answers = append(slices.Clone(fb.Answers), *b)
	return nil
}

// feedback is that of somebody, made if there is none.
func (o *Outcome) feedback(from string) (*Feedback, error) {
	i := slices.IndexFunc(o.Feedback, func(f Feedback) bool { return f.From == from })
	if i >= 0 {
		return &o.Feedback[i], nil
	}
	if len(o.Feedback) >= MaxList {
		return nil, illegal("%d were asked already", MaxList)
	}
	o.Feedback = append(o.Feedback, Feedback{From: from})
	return &o.Feedback[len(o.Feedback)-1], nil
}
