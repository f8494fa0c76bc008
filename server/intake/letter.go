package intake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// Papers is what letters are composed of.
type Papers interface {
	ReadReport(ctx context.Context, v store.Viewer, id int64, now time.Time) (store.Report, error)
	ReportFile(ctx context.Context, v store.Viewer, id int64, digest string, now time.Time) (psirt.Attachment, []byte, error)
}

// Parcel composes a letter to a reporter. It says that there is something, and
// where; what it is stands on the page behind the link.
func (d *Door) Parcel(ctx context.Context, papers Papers, l store.Letter) (notify.Parcel, error) {
	p := notify.Parcel{Created: l.Made, Address: l.Address}
	id := store.ReportID(l.Subject)
	r, err := papers.ReadReport(ctx, store.Engine("postman"), l.Subject, d.Now())
	if err != nil {
		return p, err
	}
	for _, a := range r.Attachments {
		if a.Name != reporterKey {
			continue
		}
		_, key, err := papers.ReportFile(ctx, store.Engine("postman"), l.Subject, a.Digest, d.Now())
		if err != nil {
			return p, err
		}
		p.Key = string(key)
	}
	p.MessageID = d.AnswerID(id, int(l.Seq))
	p.Message = notify.Message{Subject: "Your report " + id, Opaque: "...", Body: d.letterText(l.Kind, id, p.Key == "" && r.Encrypted)}
	return p, nil
}

// letterText is what a letter says. In clear to somebody who wrote encrypted it does
// not say where the page is, for the page shows what was encrypted.
func (d *Door) letterText(kind store.LetterKind, id string, secret bool) string {
	var b strings.Builder
	if kind == store.LetterReceived {
		fmt.Fprintf(&b, "Thank you. Your report to %s is kept; its number is %s.\n", d.Config.Name, id)
	} else {
		fmt.Fprintf(&b, "%s wrote to you about your report %s.\n", d.Config.Name, id)
	}
	if secret {
		b.WriteString("\nIt came encrypted and brought no key of yours, and this mail is in clear: so it does not hold the address of your page. Please write to us once more, encrypted, with that number and your public key attached; we then answer encrypted.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "\nThis page is yours alone. There you see where your report stands, read what we write, and answer:\n\n  %s\n\n", d.PageURL(id))
	b.WriteString("Whoever has this address can read the page: please keep it to yourself. You may also answer this mail.\n")
	return b.String()
}
