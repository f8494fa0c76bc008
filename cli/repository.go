package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release/tuf"
)

// errAbsent means that the repository has no such file.
var errAbsent = errors.New("not there")

// tufFile reads a file of the server's repository.
func (c *client) tufFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	url := c.base + "/tuf/" + name
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, explain(err))
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("fetch %s: %w", url, errAbsent)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: %s", url, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("fetch %s: more than %d bytes", url, limit)
	}
	return b, nil
}

// trust is what the operators signed last, as the server has it.
type trust struct {
	online  *headgatev1.GetOnlineKeysResponse
	root    []byte // nil: an empty repository
	targets []byte // nil: none yet
}

func (c *client) trust(ctx context.Context) (*trust, error) {
	online, err := call(ctx, c.repository.GetOnlineKeys, &headgatev1.GetOnlineKeysRequest{})
	if err != nil {
		return nil, err
	}
	t := &trust{online: online}
	if online.RootVersion > 0 {
		if t.root, err = c.tufFile(ctx, tuf.MetaFile(tuf.Root, online.RootVersion), tuf.MaxRoot); err != nil {
			return nil, err
		}
	}
	if online.TargetsVersion > 0 {
		if t.targets, err = c.tufFile(ctx, tuf.MetaFile(tuf.Targets, online.TargetsVersion), tuf.MaxTargets); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// check makes sure that what the server calls root and targets is what holders
// of these keys signed before: a server that was taken over must not get its
// own delegations signed by asking for the next version of forged ones.
func (t *trust) check(keys []*tuf.Key) error {
	if t.root == nil {
		return fmt.Errorf("the repository is empty: make its root of trust first, with headgate root new")
	}
	valid, _, err := tuf.Signed(t.root, tuf.Root, t.root)
	if err != nil {
		return fmt.Errorf("the server's root: %w", err)
	}
	if !slices.ContainsFunc(keys, func(k *tuf.Key) bool { return slices.Contains(valid, k.ID()) }) {
		return fmt.Errorf("none of your keys signed the root that the server shows (version %d): it may not be the real one; use a key that signed it", t.online.RootVersion)
	}
	if t.targets == nil {
		return fmt.Errorf("the repository has a root and no targets yet: finish headgate root new, or publish its bundle")
	}
	valid, want, err := tuf.Signed(t.root, tuf.Targets, t.targets)
	if err != nil {
		return fmt.Errorf("the server's targets: %w", err)
	}
	if len(valid) < want {
		return fmt.Errorf("the targets that the server shows (version %d) carry %d of the %d signatures they need: they are not the real ones", t.online.TargetsVersion, len(valid), want)
	}
	return nil
}

// vendorMeta reads the vendor's role metadata in force; nil if it has none yet.
func (c *client) vendorMeta(ctx context.Context, vendor string) ([]byte, error) {
	version, err := c.versionOf(ctx, vendor)
	if err != nil || version == 0 {
		return nil, err
	}
	return c.tufFile(ctx, tuf.MetaFile(vendor, version), tuf.MaxTargets)
}

// versionOf finds a role's version in the snapshot in force; 0 is none.
func (c *client) versionOf(ctx context.Context, role string) (int64, error) {
	type listing struct {
		Signed struct {
			Meta map[string]struct {
				Version int64 `json:"version"`
			} `json:"meta"`
		} `json:"signed"`
	}
	var l listing
	b, err := c.tufFile(ctx, tuf.MetaFile(tuf.Timestamp, 0), tuf.MaxTimestamp)
	if errors.Is(err, errAbsent) {
		return 0, fmt.Errorf("the repository has no timestamp yet: make its root of trust first, with headgate root new")
	}
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return 0, fmt.Errorf("timestamp.json: %w", err)
	}
	name := tuf.MetaFile(tuf.Snapshot, l.Signed.Meta["snapshot.json"].Version)
	if b, err = c.tufFile(ctx, name, tuf.MaxSnapshot); err != nil {
		return 0, err
	}
	l = listing{}
	if err := json.Unmarshal(b, &l); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return l.Signed.Meta[role+".json"].Version, nil
}

// vendorsText is the delegations in a reader's words.
func vendorsText(targets []byte) string {
	vs, err := tuf.Vendors(targets)
	if err != nil {
		return err.Error()
	}
	if len(vs) == 0 {
		return "no vendor"
	}
	var s []string
	for _, v := range vs {
		s = append(s, fmt.Sprintf("%s (%d of %d keys)", v.Name, v.Threshold, len(v.Keys)))
	}
	return strings.Join(s, ", ")
}

// signAll signs with each key in turn.
func signAll(meta []byte, keys []*tuf.Key) ([]byte, error) {
	for _, k := range keys {
		var err error
		if meta, err = tuf.Sign(meta, k); err != nil {
			return nil, err
		}
	}
	return meta, nil
}
