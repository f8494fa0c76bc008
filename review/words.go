package review

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/psirt"
)

// accordWords are the words of who must know, act or agree.
func accordWords(body psirt.Body) string {
	switch b := body.(type) {
	case *psirt.CaseTitled:
		return "is now called: " + b.Title
	case *psirt.OwnerSet:
		return b.Owner + " must act next"
	case *psirt.MemberRemoved:
		return b.Principal + " may read it no more"
	case *psirt.PartyAdded:
		return fmt.Sprintf("%s is a party, as %s", b.Party, b.As)
	case *psirt.PartyStatus:
		return partyWords(b)
	case *psirt.EmbargoRevised:
		return withWhy("embargo to end "+b.Until+" instead", b.Why)
	case *psirt.EmbargoAccepted:
		return b.Party + " accepts the embargo"
	case *psirt.EmbargoDeclined:
		return withWhy(b.Party+" declines the embargo", b.Why)
	case *psirt.EmbargoEnded:
		return withWhy("embargo ended", b.Why)
	case *psirt.LadderSet:
		return "to be disclosed by ladder " + b.Ladder.ID
	}
	return ""
}

func partyWords(b *psirt.PartyStatus) string {
	text := fmt.Sprintf("%s says %s", b.Party, b.Status)
	if b.Product != "" {
		text += " of " + b.Product
	}
	return withWhy(text, b.Why)
}

// dangerWords are the words of how bad it is and for whom.
func dangerWords(body psirt.Body) string {
	switch b := body.(type) {
	case *psirt.KEVListed:
		return fmt.Sprintf("%s is known to be exploited, since %s", b.CVE, b.Added.UTC().Format("2006-01-02"))
	case *psirt.EPSSScored:
		return fmt.Sprintf("%s is exploited within 30 days with probability %.3f", b.CVE, b.Score)
	case *psirt.AffectedSet:
		ranges := make([]string, 0, len(b.Ranges))
		for _, r := range b.Ranges {
			ranges = append(ranges, r.Name+" "+r.Range)
		}
		return "affected are " + firstLine(strings.Join(ranges, "; "))
	}
	return ""
}

func withWhy(text, why string) string {
	if why == "" {
		return text
	}
	return text + ": " + firstLine(why)
}
