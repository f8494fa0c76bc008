package cli

import (
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/sim/demo"
)

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{Out: a.out}
	var end string
	c := &cobra.Command{
		Use: "demo", Short: "Watch a bad release stop after a handful, and everyone come home", Args: cobra.NoArgs,
		Long: `Start a real server, real agents and simulated endpoints on this machine, in a
throw-away folder; roll out a good release, one with the defect of 19 July 2024
in miniature, and its repair; and check that everything held. The exit status is
0 only if it did. Everything that was started is ended, also on ctrl-C, unless
--keep says to leave the server and the agents running.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if end != "" {
				return demo.End(end)
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	c.AddCommand(a.demoResponse())
	f := c.Flags()
	f.IntVar(&o.Agents, "agents", 20, "real agents, each with processes of its own")
	f.IntVar(&o.Simulated, "simulated", 10_000, "simulated endpoints, which speak the same protocol")
	f.BoolVar(&o.Keep, "keep", false, "leave the server and the agents running for a look around")
	f.StringVar(&o.Summary, "summary", "", "write what happened to this `file`, in JSON")
	f.StringVar(&o.Dir, "dir", "", "a `folder` for everything, which stays; without it a throw-away one")
	f.StringVar(&end, "end", "", "end what a demo with --keep left running in this `folder`")
	return c
}

func (a *app) demoResponse() *cobra.Command {
	o := demo.Options{Out: a.out}
	c := &cobra.Command{
		Use: "response", Short: "Watch a vulnerability from its first report to notices that are closed by proof", Args: cobra.NoArgs,
		Long: `Start a real server, real agents and simulated endpoints of twelve tenants on this
machine, in a throw-away folder; take a researcher's report through the public form,
triage it, find its variants, bind a signed fix with its evidence, find whom it
concerns, roll the fix out, tell exactly the three tenants, open the disclosure rung
by rung on what is measured, and draw the review. The exit status is 0 only if all
of it held. --keep leaves the server running and prints every address.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return demo.RunResponse(cmd.Context(), o) },
	}
	f := c.Flags()
	f.IntVar(&o.Agents, "agents", 6, "real agents, each with processes of its own")
	f.IntVar(&o.Simulated, "simulated", 400, "simulated endpoints of the affected tenants")
	f.BoolVar(&o.Keep, "keep", false, "leave the server and the agents running for a look around")
	f.StringVar(&o.Summary, "summary", "", "write what happened to this `file`, in JSON")
	f.StringVar(&o.Dir, "dir", "", "a `folder` for everything, which stays; without it a throw-away one")
	return c
}
