package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/pacing"
)

// completionWait is how long a shell waits for names from the server.
const completionWait = 2 * time.Second

// addCompletion has the shell complete whatever has a known set of values: flags by
// their name, first arguments by their word in the usage line. Cases and reports are
// left out, for to list them is to read them, which the ledger records.
func (a *app) addCompletion(c *cobra.Command) {
	for name, values := range flagValues(c) {
		if c.Flag(name) != nil {
			// Registered twice is its only error: Flag finds the root's -o as well.
			_ = c.RegisterFlagCompletionFunc(name, completeList(values))
		}
	}
	if words := strings.Fields(c.Use); len(words) > 1 {
		if list := argumentNames[words[1]]; list != nil {
			c.ValidArgsFunction = a.completeFirst(list)
		}
	}
	for _, verb := range c.Commands() {
		a.addCompletion(verb)
	}
}

// flagValues are the values that flags of a command may have.
func flagValues(c *cobra.Command) map[string][]string {
	policies := rollout.Presets()
	if c.Name() == "simulate" {
		for _, p := range pacing.Rivals() {
			policies = append(policies, p.Name)
		}
	}
	var faults []string
	for _, w := range faultWords {
		faults = append(faults, w.name)
	}
	var labels []string
	for _, l := range psirt.Labels {
		labels = append(labels, string(l))
	}
	return map[string][]string{"output": {"table", "json"}, "policy": policies, "fault": faults, "tlp": labels}
}

// completeList completes one of the values, or several with commas between them;
// files too, which a policy may be.
func completeList(values []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		done := typed[:strings.LastIndex(typed, ",")+1]
		var out []cobra.Completion
		for _, v := range values {
			if !slices.Contains(strings.Split(done, ","), v) && strings.HasPrefix(done+v, typed) {
				out = append(out, done+v)
			}
		}
		return out, cobra.ShellCompDirectiveDefault
	}
}

// argumentNames list what an argument may be, by its word in a usage line.
var argumentNames = map[string]func(context.Context, *client) ([]string, error){
	"ROLLOUT": func(ctx context.Context, c *client) (out []string, err error) {
		res, err := call(ctx, c.rollout.ListRollouts, &headgatev1.ListRolloutsRequest{})
		for _, r := range res.GetRollouts() {
			out = append(out, rolloutID(r.Id)+"\t"+r.Product+" "+r.Version+", "+r.State)
		}
		return out, err
	},
	"TENANT": func(ctx context.Context, c *client) (out []string, err error) {
		res, err := call(ctx, c.account.ListTenants, &headgatev1.ListTenantsRequest{})
		for _, t := range res.GetTenants() {
			out = append(out, t.Name)
		}
		return out, err
	},
	"VENDOR/PRODUCT": productNames, "PRODUCT": productNames,
}

func productNames(ctx context.Context, c *client) (out []string, err error) {
	res, err := call(ctx, c.catalog.ListProducts, &headgatev1.ListProductsRequest{})
	for _, p := range res.GetProducts() {
		out = append(out, p.Name)
	}
	return out, err
}

// completeFirst completes a command's first argument from the server. A shell shows
// no error: where there is none to ask, nothing is offered.
func (a *app) completeFirst(list func(context.Context, *client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
		defer cancel()
		c, err := a.conn.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := list(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for i, name := range names {
			text, note, _ := strings.Cut(name, "\t")
			names[i] = cobra.CompletionWithDesc(clean(text), clean(note))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
