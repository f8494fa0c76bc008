package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// maxAsked is how many are asked for their feedback at once.
const maxAsked = 1000

// AskFeedback implements ReviewService.
func (s reviewService) AskFeedback(ctx context.Context, req *connect.Request[headgatev1.AskFeedbackRequest]) (*connect.Response[headgatev1.AskFeedbackResponse], error) {
	m := req.Msg
	id, err := parseCase(m.Case)
	if err != nil {
		return nil, err
	}
	if len(m.From) == 0 || len(m.From) > maxAsked {
		return nil, invalid(fmt.Errorf("from: %d; want 1 to %d", len(m.From), maxAsked))
	}
	if s.opened == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this server's configuration has no intake: there is no door for a form to stand in"))
	}
	var asked []psirt.FeedbackAsked
	for _, from := range m.From {
		asked = append(asked, psirt.FeedbackAsked{From: from, About: m.About})
	}
	name := store.CaseID(id)
	_, err = s.store.AskFeedback(ctx, from(ctx).viewer(), id, asked, func(from string) store.Hash { return s.opened.FeedbackHash(name, from) }, s.cfg.Now())
	if err != nil {
		return nil, about(m.Case, err)
	}
	out := &headgatev1.AskFeedbackResponse{}
	for _, from := range m.From {
		out.Links = append(out.Links, &headgatev1.FeedbackLink{From: from, Url: s.opened.FeedbackURL(name, from)})
	}
	return connect.NewResponse(out), nil
}

func feedbackOut(f psirt.Feedback) *headgatev1.Feedback {
	out := &headgatev1.Feedback{From: f.From, AskedUs: micros(f.Asked.At)}
	for _, a := range f.Answers {
		out.Answers = append(out.Answers, &headgatev1.FeedbackAnswer{Told: a.Told, Clear: a.Clear, Solved: a.Solved, Text: a.Text})
	}
	return out
}
