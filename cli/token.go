package cli

import (
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Access tokens of people and programs", a.tokenAdd(), a.tokenList(), a.tokenRevoke())
}

// scopes are the words of --scope.
var scopes = map[string]headgatev1.Scope{
	"operator": headgatev1.Scope_SCOPE_OPERATOR,
	"vendor":   headgatev1.Scope_SCOPE_VENDOR,
	"tenant":   headgatev1.Scope_SCOPE_TENANT,
}

func scopeText(t *headgatev1.Token) string {
	s := strings.ToLower(strings.TrimPrefix(t.Scope.String(), "SCOPE_"))
	if t.Of != "" {
		s += " " + t.Of
	}
	return s
}

func (a *app) tokenAdd() *cobra.Command {
	var scope, of string
	c := &cobra.Command{
		Use: "add NAME", Short: "Make an access token", Args: cobra.ExactArgs(1),
		Long: `Make an access token. NAME says who holds it and stands in the ledger beside
all that is done with it; resuming after a halt takes two different names. The
token is shown once, alone on stdout:

  (umask 077; headgate token add bob >bob.token)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, ok := scopes[scope]
			if !ok {
				return usagef("--scope %q: want operator, vendor or tenant", scope)
			}
			if (s == headgatev1.Scope_SCOPE_OPERATOR) != (of == "") {
				return usagef("--of names the vendor or tenant of a scoped token: scope vendor and tenant need it, scope operator has none")
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.AddToken, &headgatev1.AddTokenRequest{Name: args[0], Scope: s, Of: of})
			if err != nil {
				return err
			}
			a.say("This token of %s (%s) is shown once.", res.Token.GetName(), scopeText(res.Token))
			return a.result(res, func(t *table) { t.row(res.Secret) })
		},
	}
	c.Flags().StringVar(&scope, "scope", "operator", "operator, vendor or tenant")
	c.Flags().StringVar(&of, "of", "", "the vendor or tenant of a scoped token")
	return c
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the access tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.ListTokens, &headgatev1.ListTokensRequest{})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) {
				t.row("NAME", "SCOPE", "MADE", "REVOKED")
				for _, x := range res.Tokens {
					t.row(x.Name, scopeText(x), when(x.CreatedUs), yesNo(x.Revoked))
				}
			})
		},
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "End an access token at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("The access token of %s will end at once and for good.", args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.RevokeToken, &headgatev1.RevokeTokenRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.result(res, func(t *table) { t.row("Revoked " + args[0] + ".") })
		},
	}
}
