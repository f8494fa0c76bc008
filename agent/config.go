package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/agent/link"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// Config is an agent's configuration: agent.json in its home, where an unknown
// key is an error. Enrolment writes it.
type Config struct {
	// Server is the base URL, "https://host:port".
	Server string `json:"server"`
	// Pin is the SHA-256 of the server's certificate; empty trusts the system's
	// roots.
	Pin string `json:"pin,omitempty"`
	// Name for people; the host's name if empty.
	Name string `json:"name,omitempty"`
	// Labels are told at enrolment. os, arch and kernel are filled in if missing.
	Labels map[string]string `json:"labels,omitempty"`
	// FailureDomain names endpoints that must not be down together.
	FailureDomain string `json:"failure_domain,omitempty"`
	// Products this endpoint runs, "vendor/product".
	Products []string `json:"products"`
	// Poll is how often to ask for a plan until the first plan says; default 60s.
	Poll span.Duration `json:"poll,omitzero"`
}

// maxConfig is the largest agent.json in bytes.
const maxConfig = 256 << 10

// ParseConfig reads agent.json strictly and checks its values.
func ParseConfig(b []byte) (Config, error) {
	var c Config
	if len(b) > maxConfig {
		return c, fmt.Errorf("agent.json: %d bytes, limit %d", len(b), maxConfig)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("agent.json: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("agent.json: data after the JSON value")
	}
	return c, c.Check()
}

// Check refuses a configuration that cannot be followed.
func (c Config) Check() error {
	if err := link.CheckServer(c.Server, c.Pin); err != nil {
		return fmt.Errorf("agent.json: %w", err)
	}
	if c.Pin != "" {
		if _, err := link.ParsePin(c.Pin); err != nil {
			return fmt.Errorf("agent.json: %w", err)
		}
	}
	if len(c.Products) == 0 || len(c.Products) > fleet.MaxProducts {
		return fmt.Errorf("agent.json: %d products, want 1 to %d", len(c.Products), fleet.MaxProducts)
	}
	seen := map[string]bool{}
	for _, p := range c.Products {
		if _, _, err := release.SplitProduct(p); err != nil {
			return fmt.Errorf("agent.json: %w", err)
		}
		if seen[p] {
			return fmt.Errorf("agent.json: product %s comes twice", p)
		}
		seen[p] = true
	}
	if err := fleet.Labels(c.Labels).Check(); err != nil {
		return fmt.Errorf("agent.json: %w", err)
	}
	if len(c.Name) > fleet.MaxName || c.Poll < 0 || c.Poll.Std() > 24*time.Hour {
		return fmt.Errorf("agent.json: name of %d bytes, poll %s: want a name of up to %d bytes and a poll of up to 24h", len(c.Name), c.Poll, fleet.MaxName)
	}
	return nil
}

// Home is the folder of one agent:
//
//	agent.json      the configuration
//	identity.json   who it is and whom it believes (0600)
//	enrol.secret    while enrolment is under way (0600)
//	link/           link's own: verified metadata, spool, beacon number
//	keeper/         keeper's own: slots, journals, counters, products' state
type Home string

// The parts of a home.
func (h Home) ConfigFile() string   { return filepath.Join(string(h), "agent.json") }
func (h Home) IdentityFile() string { return filepath.Join(string(h), "identity.json") }
func (h Home) LinkDir() string      { return filepath.Join(string(h), "link") }
func (h Home) KeeperDir() string    { return filepath.Join(string(h), "keeper") }
func (h Home) secretFile() string   { return filepath.Join(string(h), "enrol.secret") }

// Config reads the home's configuration.
func (h Home) Config() (Config, error) {
	b, err := os.ReadFile(h.ConfigFile())
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is no agent's home: enrol first: %w", string(h), err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return ParseConfig(b)
}

// write puts the configuration into the home.
func (c Config) write(h Home) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return atomicfile.Write(h.ConfigFile(), append(b, '\n'), 0o600)
}
