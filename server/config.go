package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/internal/strict"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/server/intake"
)

// Config is everything that a server can be told. Each field's comment is its
// manual; a zero field takes the default named there.
type Config struct {
	// Data is the folder of what the server keeps: headgate.db (SQLite), keys/,
	// tls/ and operator.token. It is made with mode 0700 if missing. Required.
	Data string `json:"data"`
	// Listen is the address of the one listener. Default "127.0.0.1:8443"; port 0
	// takes a free one.
	Listen string `json:"listen,omitempty"`
	// InsecureHTTP turns TLS off. Only on a loopback address: tokens would travel
	// in clear.
	InsecureHTTP bool `json:"insecure_http,omitempty"`
	// CertFile and KeyFile are a certificate chain and its key in PEM. Without them
	// the server makes a self-signed certificate at its first start and prints its
	// fingerprint, which agents pin at enrolment.
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
	// Hosts are the names and addresses that a self-signed certificate is made for,
	// besides localhost, 127.0.0.1 and ::1.
	Hosts []string `json:"hosts,omitempty"`
	// Database is "postgres://..." for PostgreSQL; empty is SQLite in Data.
	Database string `json:"database,omitempty"`
	// DatabaseFile names a file that holds Database, so that its password is not
	// in an argument list. Set one of the two.
	DatabaseFile string `json:"database_file,omitempty"`
	// Poll and Beacon are how often an endpoint asks for something new, and says
	// that it lives, while no rollout asks for more. Defaults 1m and 5m.
	Poll   span.Duration `json:"poll,omitzero"`
	Beacon span.Duration `json:"beacon,omitzero"`
	// DecideEvery is the longest time between two looks at a live rollout; new
	// evidence wakes the decider earlier. Default 1s.
	DecideEvery span.Duration `json:"decide_every,omitzero"`
	// DiscloseEvery is how often the ladder of each open case is looked at.
	// Default 10s.
	DiscloseEvery span.Duration `json:"disclose_every,omitzero"`
	// FollowEvery is how often it is looked who joined the affected of a case, and
	// who is fixed. Default 15s.
	FollowEvery span.Duration `json:"follow_every,omitzero"`
	// CheckpointEvery is how often the ledger's head is signed if it grew.
	// Default 1m.
	CheckpointEvery span.Duration `json:"checkpoint_every,omitzero"`
	// TimestampLife is for how long timestamp.json is signed; it is renewed after a
	// third of that. An agent that gets no fresh one installs nothing new.
	// Default 24h.
	TimestampLife span.Duration `json:"timestamp_life,omitzero"`
	// ClocksFile names a file with the policy of deadlines for cases, in the form
	// that "headgate clock policy -o json" shows; its calendar may name any time
	// zone. Default: that policy, with business days in UTC.
	ClocksFile string `json:"clocks_file,omitempty"`
	// Queue is how many grants and beacons may wait for a transaction before the
	// server answers "unavailable, retry". Default 8192.
	Queue int `json:"queue,omitempty"`
	// MaxArtifact is the largest artifact that is taken, bytes. Default and limit
	// 1 GiB.
	MaxArtifact int64 `json:"max_artifact,omitempty"`
	// Mail is how notices are mailed; without it none are.
	Mail *MailConfig `json:"mail,omitempty"`
	// Webhooks is which webhooks may be reached beyond the public internet.
	Webhooks WebhookConfig `json:"webhooks,omitzero"`
	// StopGrace is how long a stopping server lets requests finish. Default 10s.
	StopGrace span.Duration `json:"stop_grace,omitzero"`
	// Intake opens the public door for reports: the form at /report and what belongs
	// to it (docs/intake.md). Default: it is shut.
	Intake *intake.Config `json:"intake,omitempty"`
	// OutgoingMail is how the server sends mail. Default: it sends none.
	OutgoingMail *OutgoingMail `json:"outgoing_mail,omitempty"`

	// Prometheus is the URL of a Prometheus, such as "http://127.0.0.1:9090", in which
	// policies' signals are looked up; without it policies with signals are refused.
	Prometheus string `json:"prometheus,omitempty"`
	// PrometheusCredentialsFile names a file that holds the Authorization header for
	// it in one line: "Bearer TOKEN" or "Basic BASE64".
	PrometheusCredentialsFile string `json:"prometheus_credentials_file,omitempty"`
	// SignalsEvery is how often signals are read. Default 5s.
	SignalsEvery span.Duration `json:"signals_every,omitzero"`

	// Log takes the log; nil discards it.
	Log *slog.Logger `json:"-"`
	// Now is the server's clock; nil is time.Now.
	Now func() time.Time `json:"-"`
	// Stepped has the server look at nothing by itself, but when Step is called: for
	// worlds in virtual time.
	Stepped bool `json:"-"`
}

// maxConfig is the largest configuration file in bytes.
const maxConfig = 64 << 10

// LoadConfig reads a configuration file in JSON. An unknown key is an error.
func LoadConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func parseConfig(b []byte) (c Config, err error) {
	if len(b) > maxConfig {
		return c, fmt.Errorf("%d bytes, limit %d", len(b), maxConfig)
	}
	return c, strict.Decode(b, &c)
}

// complete fills in defaults and refuses what cannot work.
func (c Config) complete() (Config, error) {
	if c.Data == "" {
		return c, errors.New("configuration: data: no folder is named")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return c, errors.New("configuration: cert_file and key_file go together; only one is set")
	}
	if c.Database != "" && c.DatabaseFile != "" {
		return c, errors.New("configuration: database and database_file are both set")
	}
	or(&c.Listen, "127.0.0.1:8443")
	or(&c.Poll, rollout.DefaultCadence().Poll)
	or(&c.Beacon, rollout.DefaultCadence().Beacon)
	or(&c.DecideEvery, span.Duration(time.Second))
	or(&c.DiscloseEvery, span.Duration(10*time.Second))
	or(&c.FollowEvery, span.Duration(15*time.Second))
	or(&c.CheckpointEvery, span.Duration(time.Minute))
	or(&c.TimestampLife, span.Duration(24*time.Hour))
	or(&c.SignalsEvery, span.Duration(5*time.Second))
	or(&c.Queue, 8192)
	or(&c.MaxArtifact, 1<<30)
	or(&c.StopGrace, span.Duration(10*time.Second))
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, d := range []struct {
		name string
		v    span.Duration
	}{{"poll", c.Poll}, {"beacon", c.Beacon}, {"decide_every", c.DecideEvery}, {"disclose_every", c.DiscloseEvery}, {"follow_every", c.FollowEvery}, {"checkpoint_every", c.CheckpointEvery}, {"timestamp_life", c.TimestampLife}, {"stop_grace", c.StopGrace}, {"signals_every", c.SignalsEvery}} {
		if d.v.Std() < 10*time.Millisecond {
			return c, fmt.Errorf("configuration: %s: %s is less than 10ms", d.name, d.v)
		}
	}
	if c.SignalsEvery.Std() > rollout.MaxSignalAge/2 {
		return c, fmt.Errorf("configuration: signals_every: %s; want at most %s, or readings are too old", c.SignalsEvery, rollout.MaxSignalAge/2)
	}
	if c.Queue < 1 || c.MaxArtifact < 1 || c.MaxArtifact > 1<<30 {
		return c, fmt.Errorf("configuration: queue %d, max_artifact %d: want at least 1, and at most 1 GiB for max_artifact", c.Queue, c.MaxArtifact)
	}
	return c, nil
}

// or sets what is zero to its default.
func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
