package cli

import (
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
)

func (a *app) tenantCommand() *cobra.Command {
	return group("tenant", "Customers: they own endpoints and set their own limits",
		a.tenantAdd(), a.tenantList(), a.tenantSet("pause", true), a.tenantSet("resume", false), a.tenantOpacity(), a.tenantToken(), a.tenantLimits(), a.contactCommand(), a.tenantFeed())
}

func (a *app) showTenants(msg any, tenants ...*headgatev1.Tenant) error {
	return a.result(msg, func(t *table) {
		t.row("TENANT", "PAUSED", "ENDPOINTS", "OPACITY")
		for _, x := range tenants {
			t.row(x.Name, yesNo(x.Paused), x.Endpoints, x.Opacity)
		}
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) tenantAdd() *cobra.Command {
	return &cobra.Command{
		Use: "add NAME", Short: "Add a tenant", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.AddTenant, &headgatev1.AddTenantRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.showTenants(res, res.Tenant)
		},
	}
}

func (a *app) tenantList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tenants", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.ListTenants, &headgatev1.ListTenantsRequest{})
			if err != nil {
				return err
			}
			return a.showTenants(res, res.Tenants...)
		},
	}
}

func (a *app) tenantSet(verb string, paused bool) *cobra.Command {
	short, will := "Stop granting anything to a tenant's endpoints", "No endpoint of tenant %s will be granted any release until it is resumed."
	if !paused {
		short, will = "Grant releases to a tenant's endpoints again", "Endpoints of tenant %s will be granted releases again."
	}
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm(will, args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.SetTenant, &headgatev1.SetTenantRequest{Name: args[0], Paused: paused})
			if err != nil {
				return err
			}
			return a.showTenants(res, res.Tenant)
		},
	}
}

func (a *app) tenantOpacity() *cobra.Command {
	return &cobra.Command{
		Use: "opacity NAME OPACITY", Short: "Say how much of what a tenant's endpoints run can be seen from outside", Args: cobra.ExactArgs(2),
		Long: `Say how much of what a tenant's endpoints run can be seen from outside: a patch
is a disclosure to whoever holds it. While an embargo is active, its fix goes to
hosted-opaque tenants only; to customer-reachable ones (all, unless said otherwise)
once the affected tenants are told; to public ones once it is public.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := psirt.ParseOpacity(args[1])
			if err != nil {
				return usageError{err}
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("Endpoints of tenant %s will count as %s: fixes under an embargo reach them accordingly.", args[0], o); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.SetTenantOpacity, &headgatev1.SetTenantOpacityRequest{Name: args[0], Opacity: string(o)})
			if err != nil {
				return err
			}
			return a.showTenants(res, res.Tenant)
		},
	}
}

func (a *app) tenantToken() *cobra.Command {
	var uses int64
	var ttl time.Duration
	c := &cobra.Command{
		Use: "token NAME", Short: "Make an enrolment token, with which agents enrol into the tenant", Args: cobra.ExactArgs(1),
		Long: `Make an enrolment token, with which agents enrol into the tenant. It is shown
once, alone on stdout, so that it can go into a file:

  (umask 077; headgate tenant token acme-corp >enrol.token)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.account.NewEnrolmentToken, &headgatev1.NewEnrolmentTokenRequest{
				Tenant: args[0], Uses: uses, TtlUs: ttl.Microseconds()})
			if err != nil {
				return err
			}
			a.say("This token is shown once. It ends at %s.", when(res.ExpiresUs))
			return a.result(res, func(t *table) { t.row(res.Token) })
		},
	}
	c.Flags().Int64Var(&uses, "uses", 0, "how many endpoints may enrol with it; 0 is any number")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long it lives; 0 is 30 days")
	return c
}
