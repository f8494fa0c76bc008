package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/headgate/headgate/internal/atomicfile"
)

// Identity is who an endpoint is, and whom it believes: made at enrolment.
type Identity struct {
	Server   string `json:"server"`        // base URL
	Pin      string `json:"pin,omitempty"` // SHA-256 of the server's certificate; empty: the system's roots
	Endpoint string `json:"endpoint"`      // "E-..."
	Tenant   string `json:"tenant"`
	Token    string `json:"token"` // "hge_..."
	Root     []byte `json:"root"`  // the first root.json, exact bytes
}

// maxIdentity is the largest identity file in bytes.
const maxIdentity = 1 << 20

// ReadIdentity reads what Write wrote, strictly.
func ReadIdentity(path string) (Identity, error) {
	var id Identity
	f, err := os.Open(path)
	if err != nil {
		return id, fmt.Errorf("read identity: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIdentity))
	if err != nil {
		return id, fmt.Errorf("read identity: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&id); err != nil {
		return id, fmt.Errorf("read identity %s: %w", path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return id, fmt.Errorf("read identity %s: data after the JSON value", path)
	}
	return id, id.check(path)
}

func (id Identity) check(path string) error {
	if err := CheckServer(id.Server, id.Pin); err != nil {
		return fmt.Errorf("identity %s: %w", path, err)
	}
	if id.Endpoint == "" || id.Token == "" || len(id.Root) == 0 {
		return fmt.Errorf("identity %s: endpoint, token and root are all needed: enrol again", path)
	}
	return nil
}

// Write replaces the identity file; only its owner may read it.
func (id Identity) Write(path string) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return atomicfile.Write(path, append(b, '\n'), 0o600)
}

// counter is the beacon number that survives restarts: it is on disk before it
// is used, so it never goes back.
type counter struct {
	path string
	last int64
}

func openCounter(dir string) (*counter, error) {
	c := &counter{path: filepath.Join(dir, "beacon.seq")}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read beacon number: %w", err)
	}
	c.last, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || c.last < 0 {
		return nil, fmt.Errorf("read beacon number %s: %q is no number", c.path, b)
	}
	return c, nil
}

func (c *counter) next() (int64, error) {
	n := c.last + 1
	// Always as long: a full disk has room to write it over, and an endpoint with a
	// full disk must be able to say so. Less than a sector is not torn.
	b := fmt.Appendf(nil, "%019d\n", n)
	err := atomicfile.Write(c.path, b, 0o600)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = overwrite(c.path, b)
	}
	if err != nil {
		return 0, fmt.Errorf("count beacon %d: %w", n, err)
	}
	c.last = n
	return n, nil
}

// overwrite writes over a file of the same length.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // what was written is synced before
	if st, err := f.Stat(); err != nil || st.Size() != int64(len(b)) {
		return fmt.Errorf("write over %s: it is not of %d bytes: %w", path, len(b), errors.Join(err, syscall.ENOSPC))
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Sync()
}
