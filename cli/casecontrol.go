package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/psirt"
)

func (a *app) caseControl() *cobra.Command {
	return group("control", "What closes a class: a check that fails on each known variant and passes on the fixed tree", a.controlAdd(), a.controlCheck(), a.controlList())
}

// controlFlags are a control's class and what it was run on.
type controlFlags struct {
	factFlags
	class  string
	before []string
	after  string
}

func (f *controlFlags) flags(c *cobra.Command) {
	f.factFlags.flags(c)
	c.Flags().StringVar(&f.class, "class", "", "the class that it closes (that of the root cause)")
	c.Flags().StringArrayVar(&f.before, "before", nil, "a known variant on which it fails; repeat it (all that were found)")
	c.Flags().StringVar(&f.after, "after", "", "the fixed tree on which it passes")
}

// complete fills in what the case knows: its cause's class, and the variants found.
func (f *controlFlags) complete(a *app, cmd *cobra.Command, kase string) error {
	if f.after == "" {
		return usagef("say on which fixed tree it passes: --after")
	}
	w, err := a.getWork(cmd, kase)
	if err != nil {
		return err
	}
	if f.class == "" && w.Cause != nil {
		f.class = w.Cause.Class
	}
	if len(f.before) == 0 {
		f.before = w.Variants()
	}
	if len(f.before) == 0 {
		return usagef("no variant is known: name what it must find with --before")
	}
	return nil
}

func (a *app) controlAdd() *cobra.Command {
	var f controlFlags
	c := &cobra.Command{
		Use: "add CASE CHECK", Short: "Record a control that was run elsewhere", Args: cobra.ExactArgs(2),
		Long: `Record a control that was run elsewhere. CHECK says what runs; it failed on each
variant, and passed on --after. With "=DIGEST" behind a name the SHA-256 of what the run
printed is kept: --before parse.c:17=9f86d0…

  headgate case control add C-… "lint -len" --after rules.git@9a1b`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(a, cmd, args[0]); err != nil {
				return err
			}
			b := &psirt.ControlAdded{Class: f.class, Check: args[1], After: ran(f.after, true)}
			for _, on := range f.before {
				b.Before = append(b.Before, ran(on, false))
			}
			return a.addControl(cmd, args[0], b, f.factFlags)
		},
	}
	f.flags(c)
	return c
}

// ran reads NAME[=DIGEST].
func ran(s string, passed bool) psirt.ControlRun {
	if i := strings.LastIndex(s, "="); i >= 0 && len(s)-i-1 == hex.EncodedLen(sha256.Size) {
		return psirt.ControlRun{On: s[:i], Passed: passed, Output: s[i+1:]}
	}
	return psirt.ControlRun{On: s, Passed: passed}
}

func (a *app) addControl(cmd *cobra.Command, kase string, b *psirt.ControlAdded, f factFlags) error {
	return a.addBody(cmd, kase, b, f, "class %s is closed by %q: it fails on %d known variants and passes on %s", b.Class, b.Check, len(b.Before), b.After.On)
}

func (a *app) controlCheck() *cobra.Command {
	var f controlFlags
	c := &cobra.Command{
		Use: "check CASE -- COMMAND [ARG...]", Short: "Run a control on each known variant and on the fixed tree, and record it if it holds", Args: cobra.MinimumNArgs(2),
		Long: `Run a control here: COMMAND with each variant, and then with the fixed tree, in the
place of {} in its arguments, without a shell. It must end with another exit status
than 0 on each variant and with 0 on the tree; then it is recorded, with the SHA-256 of
what each run printed. Nothing is recorded if it does not hold.

  headgate case control check C-… --after fixed/ -- ./lint.sh {}`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(a, cmd, args[0]); err != nil {
				return err
			}
			command := args[1:]
			if !strings.Contains(strings.Join(command, " "), "{}") {
				return usagef("the command has no {} where the variant belongs")
			}
			b := &psirt.ControlAdded{Class: f.class, Check: strings.Join(command, " ")}
			for _, on := range f.before {
				r, err := a.runControl(cmd.Context(), command, on)
				if err != nil {
					return err
				}
				b.Before = append(b.Before, r)
			}
			var err error
			if b.After, err = a.runControl(cmd.Context(), command, f.after); err != nil {
				return err
			}
			for _, r := range b.Before {
				if r.Passed {
					return fmt.Errorf("the control passes on %q, which it must find; nothing is recorded", r.On)
				}
			}
			if !b.After.Passed {
				return fmt.Errorf("the control fails on the fixed tree %q; nothing is recorded", b.After.On)
			}
			return a.addControl(cmd, args[0], b, f.factFlags)
		},
	}
	f.flags(c)
	return c
}

// runControl runs a control on one thing. That it could not be run is no finding.
func (a *app) runControl(ctx context.Context, command []string, on string) (psirt.ControlRun, error) {
	args := make([]string, len(command))
	for i, s := range command {
		args[i] = strings.ReplaceAll(s, "{}", on)
	}
	printed := sha256.New()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout = io.MultiWriter(printed, a.err)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	var status *exec.ExitError
	if err != nil && (!errors.As(err, &status) || !status.Exited()) {
		return psirt.ControlRun{}, fmt.Errorf("run %s: %w", strings.Join(args, " "), err)
	}
	r := psirt.ControlRun{On: on, Passed: err == nil, Output: hex.EncodeToString(printed.Sum(nil))}
	word := "fails"
	if r.Passed {
		word = "passes"
	}
	a.say("%s on %s", word, on)
	return r, nil
}

func (a *app) controlList() *cobra.Command {
	return &cobra.Command{
		Use: "list CASE", Short: "List a case's controls with what they were run on", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.getWork(cmd, args[0])
			if err != nil {
				return err
			}
			return a.result(w.Controls, func(t *table) {
				t.row("CLASS", "CHECK", "ON", "PASSED", "OUTPUT")
				for _, c := range w.Controls {
					for _, r := range append(c.Before[:len(c.Before):len(c.Before)], c.After) {
						t.row(c.Class, c.Check, r.On, yesNo(r.Passed), short(r.Output, 13))
					}
				}
			})
		},
	}
}
