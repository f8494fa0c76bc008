package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func (a *app) caseOpacity() *cobra.Command {
	return &cobra.Command{
		Use: "opacity CASE", Short: "Say what a case's fixes show of it, and from whom its embargo withholds them", Args: cobra.ExactArgs(1),
		Long: `Compare what whoever can fetch the case's fixes reads of them (target path, custom
metadata, names of files, manifest and texts, without what the release before said
already) with the case's own words and with words that tell of a vulnerability. While
an embargo is active, a fix that tells is neither published nor rolled out, unless
people looked and say that it gives nothing away:

  headgate case fact C-… fix.opaque '{"product":"acme/rules","version":"1.2.4","why":"the parser was always there"}'

Words are compared and not understood: look yourself, too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.cases.CheckOpacity, &headgatev1.CheckOpacityRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { showOpacity(t, res) })
		},
	}
}

func showOpacity(t *table, o *headgatev1.CheckOpacityResponse) {
	if o.UntilUs == 0 {
		t.field("embargo", "none is active: nothing is withheld")
	} else {
		t.field("embargo", fmt.Sprintf("active until %s: fixes go to %s tenants at most", when(o.UntilUs), o.Most))
	}
	for _, f := range o.Fixes {
		name := f.Product + " " + f.Version
		switch {
		case !f.Published:
			t.field("fix", name+": not published yet")
		case f.Cleared:
			t.field("fix", name+": people looked, and it gives nothing away")
		case len(f.Revealed) == 0:
			t.field("fix", name+": no word of it tells")
		default:
			t.field("fix", name+": is not opaque")
		}
		for _, r := range f.Revealed {
			t.field("tells", fmt.Sprintf("%s %q: by %q", r.Place, short(r.Text, 120), r.Clue))
		}
	}
}
