package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/rollout"
)

// Explained is one decision of a rollout with every input that it had.
type Explained struct {
	Seq      int64     `json:"seq"` // in the ledger
	Time     time.Time `json:"time"`
	Replayed bool      `json:"replayed"` // made again here, bit for bit
	rollout.Explanation
	Snapshot rollout.Snapshot `json:"snapshot"`
	Decision rollout.Decision `json:"decision"`
}

// explainPage is how many ledger entries are asked for at once.
const explainPage = 200

func (a *app) rolloutExplain() *cobra.Command {
	var last int
	c := &cobra.Command{
		Use: "explain ROLLOUT", Short: "Say for each decision what was known, what ruled, what would change it", Args: cobra.ExactArgs(1),
		Long: `Say for each recorded decision of a rollout, in words and numbers, what was known,
which bound ruled it and what would have changed it, and how many gates were used
of those that any policy needs. Each decision is made again here from its recorded
inputs. With -o json every input is in the result.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.ofRollout(args[0])
			if err != nil {
				return err
			}
			all, err := explained(cmd.Context(), c, id)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return fmt.Errorf("rollout %s: the ledger has no decision on it yet", rolloutID(id))
			}
			if last > 0 && last < len(all) {
				all = all[len(all)-last:]
			}
			return a.result(all, func(t *table) { showExplained(t, all) })
		},
	}
	c.Flags().IntVar(&last, "last", 0, "only so many, the newest; 0 is all")
	return c
}

// explained reads a rollout's decisions out of the ledger, oldest first.
func explained(ctx context.Context, c *client, id int64) ([]Explained, error) {
	out := []Explained{}
	for from := int64(0); ; {
		res, err := call(ctx, c.ledger.ListEntries, &headgatev1.ListEntriesRequest{From: from, Limit: explainPage, Subject: rolloutID(id)})
		if err != nil {
			return nil, err
		}
		for _, e := range res.Entries {
			entry := ledger.Entry{Seq: e.Seq, Time: time.UnixMicro(e.TimeUs).UTC(), Draft: ledger.Draft{Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Body: []byte(e.Body)}}
			d, err := review.Read(entry)
			if errors.Is(err, review.ErrNotDecision) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, Explained{
				Seq: e.Seq, Time: entry.Time, Replayed: review.Replay(entry) == nil,
				Explanation: rollout.Explain(d.Snapshot, d.Decision), Snapshot: d.Snapshot, Decision: d.Decision,
			})
		}
		if len(res.Entries) < explainPage {
			return out, nil
		}
		from = slices.MaxFunc(res.Entries, func(a, b *headgatev1.LedgerEntry) int { return int(a.Seq - b.Seq) }).Seq + 1
	}
}

func showExplained(t *table, all []Explained) {
	for _, e := range all {
		t.field("decision", fmt.Sprintf("%d, %s: %s, %s", e.Seq, when(e.Time.UnixMicro()), e.Decision.Action, e.Decision.State))
		for _, k := range e.Known {
			t.field("  known", k)
		}
		t.field("  ruled", e.Ruled)
		t.field("  would change it", e.Change)
		t.field("  gates", e.Gates)
		if !e.Replayed {
			t.field("  replay", "made again here, it comes out otherwise")
		}
	}
}
