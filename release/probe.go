package release

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limits of probes and checks.
const (
	MaxProbes = 50  // of a manifest
	MaxWant   = 200 // bytes of what a check wants, and of a setting's name and value
	MaxChecks = 32  // of an endpoint at once
)

// CheckKind is what a check looks at.
type CheckKind string

// The kinds of checks, and of the probes that all but the first need.
const (
	CheckRuns    CheckKind = "version"   // the product runs Want or later
	CheckHash    CheckKind = "file_hash" // the probe's file has SHA-256 Want
	CheckSetting CheckKind = "setting"   // the probe's setting has the value Want
	CheckAge     CheckKind = "file_age"  // the probe's file was changed at or after Want (RFC 3339)
	CheckCommand CheckKind = "command"   // the probe's command ends with status 0
)

// Probe is one thing that may be asked of an endpoint that runs the version. The
// vendor signs it with the rest of the release: a server that was taken over can
// ask by a probe's name, and can neither name a file nor run a command.
type Probe struct {
	Kind CheckKind `json:"kind"`
	// Path of the file, for file_hash, setting and file_age: beneath "{slot}/" or
	// "{state}/", relative from there, and never followed out of it.
	Path string `json:"path,omitempty"`
	// Key of the setting: in a file that ends in ".json" the keys to the value, with
	// dots between; in any other the name before "=" or ":" on a line.
	Key string `json:"key,omitempty"`
	// Run and Timeout are those of a command, whose arguments are filled in as all of
	// a manifest's are.
	Command
}

var probeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?$`)

// CheckProbeName refuses what cannot be a probe's name.
func CheckProbeName(name string) error {
	if !probeName.MatchString(name) {
		return fmt.Errorf("probe %q: want 1 to 62 of a-z, 0-9 and inner . _ -: %w", name, ErrInvalid)
	}
	return nil
}

// Beneath parts the path of a probe's file: the folder, "slot" or "state", and
// the clean relative path in it.
func (p Probe) Beneath() (folder, path string, err error) {
	for _, folder := range []string{"slot", "state"} {
		rest, ok := strings.CutPrefix(p.Path, "{"+folder+"}/")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(rest, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\\{}") || len(rest) > MaxPath {
				return "", "", fmt.Errorf("path %q: want a clean path of at most %d bytes: %w", p.Path, MaxPath, ErrInvalid)
			}
		}
		return folder, rest, nil
	}
	return "", "", fmt.Errorf("path %q: want one beneath {slot}/ or {state}/: %w", p.Path, ErrInvalid)
}

func (p Probe) check() error {
	file := p.Kind == CheckHash || p.Kind == CheckSetting || p.Kind == CheckAge
	if file {
		if _, _, err := p.Beneath(); err != nil {
			return err
		}
	}
	switch {
	case !file && p.Kind != CheckCommand:
		return fmt.Errorf("kind %q: want %s, %s, %s or %s: %w", p.Kind, CheckHash, CheckSetting, CheckAge, CheckCommand, ErrInvalid)
	case file != (p.Path != ""), (p.Kind == CheckSetting) != (p.Key != ""), (p.Kind == CheckCommand) != (len(p.Run) > 0):
		return fmt.Errorf("a %s probe: path and key are for files and settings, run for commands: %w", p.Kind, ErrInvalid)
	case len(p.Key) > MaxWant:
		return fmt.Errorf("key of %d bytes, limit %d: %w", len(p.Key), MaxWant, ErrInvalid)
	case p.LongRunning, p.Notify, p.Watchdog != 0, p.Interval != 0, p.MaxRSS != 0, p.MaxCPU != 0, p.Timeout < 0, p.Timeout.Std() > time.Minute:
		return fmt.Errorf("a probe has a run and a timeout of at most 1m, and nothing else of a command: %w", ErrInvalid)
	}
	return nil
}

// checkProbes refuses a manifest's probes that could not be asked.
func (m Manifest) checkProbes() error {
	if len(m.Probes) > MaxProbes {
		return fmt.Errorf("%s: %d probes, limit %d: %w", ManifestName, len(m.Probes), MaxProbes, ErrInvalid)
	}
	for name, p := range m.Probes {
		if err := CheckProbeName(name); err != nil {
			return fmt.Errorf("%s: %w", ManifestName, err)
		}
		if err := p.check(); err != nil {
			return fmt.Errorf("%s: probe %s: %w", ManifestName, name, err)
		}
	}
	return nil
}

// Check asks whether something holds where a product runs.
type Check struct {
	Kind    CheckKind `json:"kind"`
	Product string    `json:"product"`
	Probe   string    `json:"probe,omitempty"` // by its name in the manifest; none for a version
	Want    string    `json:"want,omitempty"`
}

// Validate refuses a check that could never pass.
func (c Check) Validate() error {
	if _, _, err := SplitProduct(c.Product); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if c.Kind == CheckRuns && c.Probe != "" {
		return fmt.Errorf("check: a version needs no probe: %w", ErrInvalid)
	}
	if c.Kind != CheckRuns {
		if err := CheckProbeName(c.Probe); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	var err error
	switch c.Kind {
	case CheckRuns:
		err = CheckVersion(c.Want)
	case CheckHash:
		err = CheckDigest(c.Want)
	case CheckSetting:
		if c.Want == "" || len(c.Want) > MaxWant {
			err = fmt.Errorf("a value of %d bytes: want 1 to %d: %w", len(c.Want), MaxWant, ErrInvalid)
		}
	case CheckAge:
		if _, perr := time.Parse(time.RFC3339, c.Want); perr != nil {
			err = fmt.Errorf("%q is no instant as of RFC 3339: %w", c.Want, ErrInvalid)
		}
	case CheckCommand:
		if c.Want != "" {
			err = fmt.Errorf("a command wants nothing but to end with status 0: %w", ErrInvalid)
		}
	default:
		err = fmt.Errorf("kind %q is unknown: %w", c.Kind, ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("check: want: %w", err)
	}
	return nil
}

// Holds tells whether what a probe read is what the check wants: of a version the
// one that runs, of a file its SHA-256 in hex or when it was changed in
// microseconds since 1970, of a setting its value.
func (c Check) Holds(read string) (bool, error) {
	switch c.Kind {
	case CheckRuns:
		if err := CheckVersion(read); err != nil {
			return false, err
		}
		return read == c.Want || !Newer(c.Want, read), nil
	case CheckHash, CheckSetting:
		return read == c.Want, nil
	case CheckAge:
		us, err := strconv.ParseInt(read, 10, 64)
		if err != nil {
			return false, fmt.Errorf("time of a file %q: %w", read, ErrInvalid)
		}
		since, err := time.Parse(time.RFC3339, c.Want)
		if err != nil {
			return false, fmt.Errorf("check: want %q: %w", c.Want, ErrInvalid)
		}
		return us >= since.UnixMicro(), nil
	}
	return false, fmt.Errorf("check: kind %q reads nothing: %w", c.Kind, ErrInvalid)
}
