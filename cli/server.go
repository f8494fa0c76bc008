package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// ServeOptions are the server's flags. What is empty is the configuration
// file's, or the server's default.
type ServeOptions struct {
	Config       string // file
	Data         string // folder
	Listen       string
	Database     string
	DatabaseFile string
	CertFile     string
	KeyFile      string
	Hosts        []string
	InsecureHTTP bool
	Poll, Beacon time.Duration // zero: the configuration's
	CPUProfile   string        // file
	Log          *slog.Logger
	// Ready is called once, when the server takes requests.
	Ready func(Serving)
}

// Serving says where a server is and how to reach it.
type Serving struct {
	URL       string `json:"url"`
	Pin       string `json:"pin,omitempty"` // SHA-256 of its certificate
	TokenFile string `json:"token_file"`    // the first operator's token
	Data      string `json:"data"`
}

func (a *app) serverCommand() *cobra.Command {
	var o ServeOptions
	var level string
	c := &cobra.Command{
		Use: "server", Short: "Run the server", Args: cobra.NoArgs,
		Long: `Run the server until it is told to stop (SIGINT, SIGTERM). It keeps everything
in its data folder: the SQLite database (unless --database names PostgreSQL),
its online keys, a self-signed certificate (unless --cert is given), and the
first operator's token in operator.token. When it takes requests, it says where
on stdout; the log goes to stderr.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Log, err = newLog(a.err, level, a.format); err != nil {
				return err
			}
			if o.Data == "" && o.Config == "" {
				return usagef("say where to keep things: --data FOLDER, or --config FILE that names it")
			}
			o.Ready = func(s Serving) { a.announce(s) }
			return a.programs.Serve(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Config, "config", "", "JSON `file` with the configuration; flags go before it")
	f.StringVar(&o.Data, "data", "", "`folder` of all that the server keeps")
	f.StringVar(&o.Listen, "listen", "", "`address` to listen on (default 127.0.0.1:8443); port 0 takes a free one")
	f.StringVar(&o.Database, "database", "", "postgres:// `address`; without it, SQLite in the data folder")
	f.StringVar(&o.DatabaseFile, "database-file", "", "`file` that holds the database address, for an address with a password")
	f.StringVar(&o.CertFile, "cert", "", "certificate `file` (PEM); without it, a self-signed one is made")
	f.StringVar(&o.KeyFile, "cert-key", "", "the certificate's key `file` (PEM)")
	f.StringArrayVar(&o.Hosts, "host", nil, "`name` or address that a self-signed certificate is for; repeat it")
	f.BoolVar(&o.InsecureHTTP, "insecure-http", false, "no TLS; on a loopback address only")
	f.DurationVar(&o.Poll, "poll", 0, "how often endpoints ask while no rollout says otherwise (default 1m)")
	f.DurationVar(&o.Beacon, "beacon", 0, "how often endpoints report meanwhile (default 5m)")
	f.StringVar(&o.CPUProfile, "cpu-profile", "", "write where processor time goes to `file` (pprof), complete when the server ends")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	c.MarkFlagsMutuallyExclusive("database", "database-file")
	c.MarkFlagsRequiredTogether("cert", "cert-key")
	return c
}

// announce says where the server is: one line of JSON for a program that
// started it, or what a person copies.
func (a *app) announce(s Serving) {
	if a.format == "json" {
		if err := writeJSONLine(a.out, s); err != nil {
			a.say("announce the server: %v", err)
		}
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "export HEADGATE_SERVER=%s\n", s.URL)
	if s.Pin != "" {
		fmt.Fprintf(&b, "export HEADGATE_PIN=%s\n", s.Pin)
	}
	fmt.Fprintf(&b, "export HEADGATE_TOKEN_FILE=%s\n", shellQuote(s.TokenFile))
	fmt.Fprint(a.out, b.String()) // at once: a script waits for it
}

// shellQuote makes s one word for a shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// newLog makes the logger of a long-running command.
func newLog(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level %q: want debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	if f, ok := w.(*os.File); ok && format == "table" && isTerminal(f) {
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, o)), nil
}
