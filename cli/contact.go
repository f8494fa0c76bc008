package cli

import (
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
)

func (a *app) contactCommand() *cobra.Command {
	return group("contact", "How a tenant is written to", a.contactSet(), a.contactShow())
}

func (a *app) showContact(msg any, k *headgatev1.Contact) error {
	return a.result(msg, func(t *table) {
		t.field("tenant", k.Tenant)
		t.field("language", k.Language)
		t.field("email", k.Email)
		t.field("second", k.Second)
		t.field("openpgp", k.Fingerprint)
		t.field("webhook", k.Webhook)
		t.field("feed", yesNo(k.Feed))
		t.field("changed", when(k.ChangedUs))
	})
}

func (a *app) contactSet() *cobra.Command {
	k := &headgatev1.Contact{}
	var key string
	c := &cobra.Command{
		Use: "set TENANT", Short: "Set how a tenant is written to; what is not given is removed", Args: cobra.ExactArgs(1),
		Long: `Set how a tenant is written to; what is not given is removed. The secret that a
webhook's requests are signed with is shown once, when its address is new.

  headgate tenant contact set acme-corp --language ja --email psirt@acme.example \
    --openpgp psirt.asc --webhook https://hooks.acme.example/headgate`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k.Tenant = args[0]
			if key != "" {
				b, err := readFile(key, maxNoticeFile)
				if err != nil {
					return err
				}
				k.Openpgp = string(b)
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("Tenant %s will be written to in %q: mail %q, second contact %q, webhook %q.", k.Tenant, k.Language, k.Email, k.Second, k.Webhook); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.SetContact, &headgatev1.SetContactRequest{Contact: k})
			if err != nil {
				return err
			}
			if res.WebhookSecret != "" && a.format == "table" {
				a.say("The webhook's secret, shown once: %s", res.WebhookSecret)
			}
			return a.showContact(res, res.Contact)
		},
	}
	f := c.Flags()
	f.StringVar(&k.Language, "language", "en", "en or ja; the nearest of a BCP 47 tag")
	f.StringVar(&k.Email, "email", "", "mail `address`")
	f.StringVar(&k.Second, "second", "", "mail `address` that is told when nobody acknowledges")
	f.StringVar(&key, "openpgp", "", "`file` of an armored OpenPGP public key: mail to --email is encrypted to it")
	f.StringVar(&k.Webhook, "webhook", "", "https `URL` that signed requests go to (Standard Webhooks)")
	return c
}

func (a *app) contactShow() *cobra.Command {
	return &cobra.Command{
		Use: "show TENANT", Short: "Show how a tenant is written to", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.GetContact, &headgatev1.GetContactRequest{Tenant: args[0]})
			if err != nil {
				return err
			}
			return a.showContact(res, res.Contact)
		},
	}
}

func (a *app) tenantFeed() *cobra.Command {
	return &cobra.Command{
		Use: "feed NAME", Short: "Make the address of a tenant's Atom feed; the one before ends", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("The feed of tenant %s gets a new address; the one before, if any, ends.", args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.notice.NewFeed, &headgatev1.NewFeedRequest{Tenant: args[0]})
			if err != nil {
				return err
			}
			a.say("Whoever knows this address reads the tenant's notices. It is shown once.")
			return a.result(res, func(t *table) { t.row(c.base + res.Path) })
		},
	}
}
