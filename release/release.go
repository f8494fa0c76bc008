// Package release says what is updated and what a vendor signs: products,
// versions and their order, releases, the manifest that a product folder
// carries, and the plan that offers releases to endpoints.
//
// It decides nothing about pace, reads no file and signs nothing; release/tuf
// does the signing. Its words: product, vendor, release, artifact, plan.
package release

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/headgate/headgate/internal/span"
)

// Limits of what a release may carry.
const (
	MaxArtifact = 1 << 30 // bytes of an artifact
	MaxFiles    = 1000    // files in an artifact
	MaxPath     = 200     // bytes of a path in an artifact
)

// ErrInvalid marks input that breaks a rule of this package.
var ErrInvalid = errors.New("invalid")

var (
	vendorName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	productName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?$`)
)

// reserved are the names of TUF's own roles and of ours: no vendor may take them.
var reserved = map[string]bool{"root": true, "targets": true, "snapshot": true, "timestamp": true, "rollout": true, "mirrors": true}

// CheckVendor refuses a name that cannot be a vendor's TUF role.
func CheckVendor(name string) error {
	if !vendorName.MatchString(name) || reserved[name] {
		return fmt.Errorf("vendor %q: want 1 to 40 of a-z, 0-9 and inner hyphens, and no TUF role's name: %w", name, ErrInvalid)
	}
	return nil
}

// SplitProduct parts "vendor/product".
func SplitProduct(product string) (vendor, name string, err error) {
	vendor, name, ok := strings.Cut(product, "/")
	if !ok || !productName.MatchString(name) {
		return "", "", fmt.Errorf("product %q: want vendor/product: %w", product, ErrInvalid)
	}
	return vendor, name, CheckVendor(vendor)
}

// CheckVersion refuses what is not Semantic Versioning 2.0.0 in its strict form.
func CheckVersion(v string) error {
	if _, err := semver.StrictNewVersion(v); err != nil {
		return fmt.Errorf("version %q: %w (want Semantic Versioning, such as 1.2.3): %w", v, err, ErrInvalid)
	}
	return nil
}

// Newer tells whether version a comes after b. Anything comes after no version.
func Newer(a, b string) bool {
	if b == "" {
		return a != ""
	}
	va, err := semver.StrictNewVersion(a)
	if err != nil {
		return false
	}
	vb, err := semver.StrictNewVersion(b)
	if err != nil {
		return false
	}
	return va.GreaterThan(vb)
}

// CheckDigest refuses what is not a SHA-256 in lower-case hex.
func CheckDigest(d string) error {
	// By hand: each request of each endpoint comes by here.
	form := len(d) == 2*sha256.Size
	for _, c := range []byte(d) {
		form = form && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	}
	if !form {
		return fmt.Errorf("digest %q: want 64 lower-case hex digits: %w", d, ErrInvalid)
	}
	return nil
}

// Release is one version of a product and the artifact that carries it.
type Release struct {
	Product string // "vendor/product"
	Version string // Semantic Versioning 2.0.0
	Digest  string // SHA-256 of the artifact, lower-case hex
	Length  int64  // bytes of the artifact
	Custom
}

// Custom is what the vendor signs beside digest and length: the "custom" object
// of the TUF target (TUF 4.5).
type Custom struct {
	// Floor is the fastest that the vendor lets the release spread: at least this
	// long from the rollout's start until everyone may have it. Zero is no floor.
	Floor span.Duration `json:"floor,omitzero"`
}

// Target is the release's TUF target path.
func Target(product, version string) string {
	return product + "/" + version + "/artifact.tar"
}

// ParseTarget reads what Target wrote.
func ParseTarget(target string) (product, version string, err error) {
	parts := strings.Split(target, "/")
	if len(parts) != 4 || parts[3] != "artifact.tar" {
		return "", "", fmt.Errorf("target %q: want vendor/product/version/artifact.tar: %w", target, ErrInvalid)
	}
	product = parts[0] + "/" + parts[1]
	if _, _, err := SplitProduct(product); err != nil {
		return "", "", fmt.Errorf("target %q: %w", target, err)
	}
	if err := CheckVersion(parts[2]); err != nil {
		return "", "", fmt.Errorf("target %q: %w", target, err)
	}
	return product, parts[2], nil
}

// ManifestName is the file in a product folder that says how to run it.
const ManifestName = "headgate.json"

// MaxManifest is the largest manifest in bytes.
const MaxManifest = 64 << 10

// Manifest says how an endpoint tries, runs, checks and stops one version of a
// product. In each argument "{slot}" stands for the folder of this version's
// files, "{state}" for a folder that outlives versions, and "{headgate}" for
// the agent's own executable.
type Manifest struct {
	Schema string `json:"schema"` // "headgate.manifest/1"
	// Preflight runs in a throw-away sandboxed child before anything is
	// activated; exit status 0 is a pass.
	Preflight Command `json:"preflight"`
	// Activate runs after the switch. With LongRunning it is the product's engine,
	// supervised until the next switch; else it must exit with status 0.
	Activate Command `json:"activate"`
	// Check runs every Interval through probation and after; any other exit
	// status than 0 is a failed check.
	Check Command `json:"check"`
	// Stop runs before another version is activated. Empty for a long-running
	// product means SIGTERM.
	Stop Command `json:"stop"`
	// Probes are what may be asked of an endpoint that runs this version, by name.
	Probes map[string]Probe `json:"probes,omitempty"`
}

// Command is one command of a manifest.
type Command struct {
	Run         []string      `json:"run"`
	Timeout     span.Duration `json:"timeout,omitzero"`      // default 30s; not for a long-running command
	Interval    span.Duration `json:"interval,omitzero"`     // between checks; default 10s
	LongRunning bool          `json:"long_running,omitzero"` // activate only
	// Notify means that the engine speaks sd_notify: READY=1 when it is ready, and
	// WATCHDOG=1 at least every Watchdog. Without it an engine that lives for one
	// second is ready.
	Notify   bool          `json:"notify,omitzero"`
	Watchdog span.Duration `json:"watchdog,omitzero"`
	// Budgets of a long-running engine; zero is none.
	MaxRSS int64   `json:"max_rss_bytes,omitzero"`
	MaxCPU float64 `json:"max_cpu_cores,omitzero"` // mean over any 10 s of probation
}

// ParseManifest reads a manifest; an unknown key is an error.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > MaxManifest {
		return m, fmt.Errorf("%s: %d bytes, limit %d: %w", ManifestName, len(b), MaxManifest, ErrInvalid)
	}
	if err := strict(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w: %w", ManifestName, err, ErrInvalid)
	}
	if m.Schema != "headgate.manifest/1" {
		return m, fmt.Errorf("%s: schema %q, want headgate.manifest/1: %w", ManifestName, m.Schema, ErrInvalid)
	}
	if len(m.Preflight.Run) == 0 || len(m.Activate.Run) == 0 || len(m.Check.Run) == 0 {
		return m, fmt.Errorf("%s: preflight, activate and check each need a command in \"run\": %w", ManifestName, ErrInvalid)
	}
	if err := m.checkProbes(); err != nil {
		return m, err
	}
	if len(m.Stop.Run) == 0 && !m.Activate.LongRunning {
		return m, fmt.Errorf("%s: stop needs a command in \"run\" unless activate is long_running: %w", ManifestName, ErrInvalid)
	}
	return m, nil
}

// strict decodes exactly one JSON value with known keys only.
func strict(b []byte, v any) error {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}
