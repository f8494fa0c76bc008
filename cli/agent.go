package cli

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/agent"
	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/internal/span"
)

func (a *app) agentCommand() *cobra.Command {
	return group("agent", "This endpoint: enrol it, run it, look at it", a.agentEnrol(), a.agentRun(), a.agentStatus())
}

// enrolled is an endpoint's identity as it is shown: without its token.
type enrolled struct {
	Endpoint string `json:"endpoint"`
	Tenant   string `json:"tenant"`
	Server   string `json:"server"`
	Home     string `json:"home"`
}

func viewIdentity(home agent.Home, id link.Identity) enrolled {
	return enrolled{Endpoint: id.Endpoint, Tenant: id.Tenant, Server: id.Server, Home: string(home)}
}

func (e enrolled) show(t *table) {
	t.field("endpoint", e.Endpoint)
	t.field("tenant", e.Tenant)
	t.field("server", e.Server)
	t.field("home", e.Home)
}

func (a *app) agentEnrol() *cobra.Command {
	var dir, tokenFile string
	var labels map[string]string
	var c agent.Config
	var poll time.Duration
	cmd := &cobra.Command{
		Use: "enrol", Short: "Make a folder the home of an endpoint of a tenant", Args: cobra.NoArgs,
		Long: `Make a folder the home of an endpoint of a tenant. Repeating it changes nothing:
it never makes a second endpoint.

  headgate agent enrol --dir /var/lib/headgate --product acme/rules \
    --enrolment-token-file enrol.token`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" || tokenFile == "" || len(c.Products) == 0 {
				return usagef("want --dir FOLDER, --enrolment-token-file FILE and --product VENDOR/PRODUCT")
			}
			var err error
			if c.Server, err = a.conn.base(); err != nil {
				return err
			}
			c.Pin, c.Labels, c.Poll = a.conn.pin, maps.Clone(labels), span.Duration(poll)
			if err := c.Check(); err != nil {
				return usageError{err}
			}
			token, err := readFile(tokenFile, 4096)
			if err != nil {
				return fmt.Errorf("read the enrolment token: %w", err)
			}
			id, err := agent.Enrol(cmd.Context(), agent.Home(dir), c, strings.TrimSpace(string(token)))
			if err != nil {
				return explain(err)
			}
			a.say("Run it with: headgate agent run --dir %s", dir)
			v := viewIdentity(agent.Home(dir), id)
			return a.result(v, v.show)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "the endpoint's home `folder`")
	f.StringVar(&tokenFile, "enrolment-token-file", "", "`file` with the tenant's enrolment token")
	f.StringVar(&c.Name, "name", "", "name for people; the host's if empty")
	f.StringToStringVar(&labels, "label", nil, "`key=value`; os, arch and kernel are filled in; repeat it")
	f.StringVar(&c.FailureDomain, "failure-domain", "", "endpoints of one `domain` are never at risk together")
	f.DurationVar(&poll, "poll", 0, "how often to ask for a plan until the first plan says; 0 is 60s")
	f.StringArrayVar(&c.Products, "product", nil, "`vendor/product` that this endpoint runs; repeat it")
	return cmd
}

func (a *app) agentRun() *cobra.Command {
	var dir, level string
	cmd := &cobra.Command{
		Use: "run", Short: "Run an enrolled endpoint's agent", Args: cobra.NoArgs,
		Long: `Run an enrolled endpoint's agent until it is told to stop (SIGINT, SIGTERM): it
starts and watches the products' engines, and a process that alone speaks to the
server. It needs nothing but its folder. The log goes to stderr.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("want --dir FOLDER")
			}
			log, err := newLog(a.err, level, a.format)
			if err != nil {
				return err
			}
			return agent.Run(cmd.Context(), agent.Home(dir), agent.Options{Log: log})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the endpoint's home `folder`")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func (a *app) agentStatus() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "status", Short: "Show what this endpoint is, and what it cannot do", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return usagef("want --dir FOLDER")
			}
			home := agent.Home(dir)
			c, err := home.Config()
			if err != nil {
				return err
			}
			id, err := link.ReadIdentity(home.IdentityFile())
			if err != nil {
				return err
			}
			trouble, err := link.ReadTroubles(home.LinkDir())
			if err != nil {
				return err
			}
			v := struct {
				enrolled
				Products []string       `json:"products"`
				Trouble  []link.Trouble `json:"trouble,omitempty"`
			}{viewIdentity(home, id), c.Products, trouble}
			return a.result(v, func(t *table) {
				v.show(t)
				t.field("products", strings.Join(v.Products, " "))
				for _, x := range v.Trouble {
					t.field("trouble", fmt.Sprintf("%s: %s (since %s)", x.What, x.Err, x.Since.Format(time.RFC3339)))
				}
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the endpoint's home `folder`")
	return cmd
}
