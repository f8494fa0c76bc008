// Package cli is the command line: one file per noun, a table for people and
// -o json for machines, the result on stdout and the talk on stderr.
//
// It speaks to the server through the API only, signs with keys that stay in
// the operator's or the vendor's hands, and decides nothing about a rollout.
// What needs the server's insides (serve, doctor, verify a database) is passed
// in by main as Programs.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1 // it was tried and did not work
	exitUsage = 2 // the command line cannot be meant
)

// Programs are the parts of the binary that the command line starts and may
// not import: main wires them.
type Programs struct {
	// Serve runs the server until ctx ends.
	Serve func(ctx context.Context, o ServeOptions) error
	// VerifyLedger checks the whole ledger of a database, and the signature of its
	// newest checkpoint if the ledger's key is given.
	VerifyLedger func(ctx context.Context, database, key string) (LedgerReport, error)
	// Doctor checks what must hold in a database: one finding per check.
	Doctor func(ctx context.Context, database string) ([]Finding, error)
	// Replay makes every recorded decision of a database again.
	Replay func(ctx context.Context, database string) (Replayed, error)
}

// app is what every command shares.
type app struct {
	programs Programs
	in       io.Reader
	out      io.Writer // results
	err      io.Writer // talk
	conn     connection
	format   string // "table" or "json"
	yes      bool
	ran      bool // the command line was understood
}

// usageError marks a command line that cannot be meant.
type usageError struct{ error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// statusError asks for an exit status without a message: the command has said
// all that there is to say.
type statusError int

func (statusError) Error() string { return "" }

// Main runs one command line and returns the exit status.
func Main(ctx context.Context, p Programs, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{programs: p, in: in, out: out, err: errw}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var status statusError
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintf(errw, "headgate: %s\n", err)
	var usage usageError
	if !a.ran || errors.As(err, &usage) {
		fmt.Fprintf(errw, "Try '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "headgate",
		Short: "Move a signed release onto every endpoint, and hurt none of them",
		Long: `Headgate moves a signed release onto every endpoint by measured degrees, stops
it when it does harm, and brings everyone home.

Try it:        headgate demo
Do it:         docs/quickstart.md
Connection:    --server, --token-file, --pin, or HEADGATE_SERVER,
               HEADGATE_TOKEN_FILE, HEADGATE_PIN`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != "table" && a.format != "json" {
				return fmt.Errorf("--output %q: want table or json", a.format)
			}
			a.ran = true
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.format, "output", "o", "table", "table for people, json for machines")
	f.BoolVarP(&a.yes, "yes", "y", false, "do not ask before changing something")
	a.conn.flags(f)
	a.addNouns(root)
	a.addCompletion(root)
	return root
}

// addNouns adds every command under the heading that the help lists it by.
func (a *app) addNouns(root *cobra.Command) {
	add := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			c.GroupID = id
		}
		root.AddCommand(commands...)
	}
	add("try", "To try it:", a.demoCommand(), a.simulateCommand())
	add("setup", "To set up:", a.serverCommand(), a.keyCommand(), a.rootCommand(), a.vendorCommand(), a.productCommand(),
		a.tenantCommand(), a.tokenCommand(), a.agentCommand())
	add("update", "To move a release:", a.releaseCommand(), a.evidenceCommand(), a.policyCommand(), a.rolloutCommand(), a.endpointCommand())
	add("respond", "To handle a vulnerability:", a.reportCommand(), a.oncallCommand(), a.caseCommand(), a.embargoCommand(), a.clockCommand(),
		a.partyCommand(), a.affectedCommand(), a.noticeCommand(), a.ladderCommand())
	add("record", "To look back, and to check:", a.reviewCommand(), a.ledgerCommand(), a.doctorCommand())
	root.AddCommand(a.versionCommand())
}

// group is a noun: it only has verbs.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(verbs...)
	return c
}

// unknownCommand names the word that is no command, and the nearest that are.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return errors.New(text)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this binary", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := Version()
			return a.result(v, func(t *table) {
				t.field("headgate", v.Headgate)
				t.field("go", v.Go)
				t.field("commit", v.Commit)
			})
		},
	}
}

// VersionInfo is what a binary knows of its own build.
type VersionInfo struct {
	Headgate string `json:"headgate"`
	Go       string `json:"go"`
	Commit   string `json:"commit"`
}

// Version reads the build information of this binary.
func Version() VersionInfo {
	v := VersionInfo{Headgate: "devel", Commit: "unknown"}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = b.GoVersion
	if b.Main.Version != "" && b.Main.Version != "(devel)" {
		v.Headgate = b.Main.Version
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

// say talks to the person, on stderr.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", path, limit)
	}
	return b, nil
}
