package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/artifact"
	"github.com/headgate/headgate/release/tuf"
)

// The files of a signed release's folder.
const (
	bundleArtifact = "artifact.tar"
	bundleMetadata = "metadata.json"
	bundleRelease  = "release.json"
)

// bundleInfo is release.json: what the metadata adds.
type bundleInfo struct {
	Product string        `json:"product"`
	Version string        `json:"version"`
	Digest  string        `json:"digest"`
	Length  int64         `json:"length"`
	Floor   span.Duration `json:"floor,omitzero"`
}

// bundle is a signed release that was read and found whole.
type bundle struct {
	dir      string
	release  bundleInfo
	metadata []byte
}

// readBundle reads a bundle and checks that its three files are of one release.
func readBundle(dir string) (*bundle, error) {
	b := &bundle{dir: dir}
	raw, err := readFile(filepath.Join(dir, bundleRelease), 64<<10)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b.release); err != nil {
		return nil, fmt.Errorf("read bundle: %s: %w", filepath.Join(dir, bundleRelease), err)
	}
	if b.metadata, err = readFile(filepath.Join(dir, bundleMetadata), tuf.MaxTargets); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	digest, length, err := digestFile(filepath.Join(dir, bundleArtifact))
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if digest != b.release.Digest || length != b.release.Length {
		return nil, fmt.Errorf("bundle %s: %s has %d bytes with sha256 %s, %s says %d bytes with %s: do not sign or publish it",
			dir, bundleArtifact, length, digest, bundleRelease, b.release.Length, b.release.Digest)
	}
	listed, err := tuf.Releases(b.metadata)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %s: %w", dir, bundleMetadata, err)
	}
	if !slices.ContainsFunc(listed, func(r release.Release) bool {
		return r.Product == b.release.Product && r.Version == b.release.Version && r.Digest == digest && r.Length == length
	}) {
		return nil, fmt.Errorf("bundle %s: %s does not list %s %s with sha256 %s: do not sign or publish it", dir, bundleMetadata, b.release.Product, b.release.Version, digest)
	}
	return b, nil
}

func digestFile(path string) (digest string, length int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	length, err = io.Copy(h, io.LimitReader(f, release.MaxArtifact+1))
	if err == nil && length > release.MaxArtifact {
		err = fmt.Errorf("%s: more than %d bytes", path, release.MaxArtifact)
	}
	return hex.EncodeToString(h.Sum(nil)), length, err
}

// listing is what metadata lists, in a reader's words.
func listing(metadata []byte) string {
	rs, err := tuf.Releases(metadata)
	if err != nil {
		return err.Error()
	}
	var s []string
	for _, r := range rs {
		s = append(s, r.Product+" "+r.Version+" "+r.Digest[:12])
	}
	return strings.Join(s, ", ")
}

// signNew packs a folder and signs the metadata that adds it.
func (a *app) signNew(ctx context.Context, o *signOptions, keys []*tuf.Key) error {
	vendor, _, err := release.SplitProduct(o.product)
	if err != nil {
		return usageError{err}
	}
	if err := release.CheckVersion(o.version); err != nil {
		return usageError{err}
	}
	if _, err := os.Stat(filepath.Join(o.bundle, bundleRelease)); err == nil {
		return fmt.Errorf("%s has a release already: name a new folder, or leave out --dir to add a signature to it", o.bundle)
	}
	current, err := a.currentMeta(ctx, vendor, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.bundle, 0o755); err != nil {
		return err
	}
	info := bundleInfo{Product: o.product, Version: o.version, Floor: span.Duration(o.floor)}
	if info.Digest, info.Length, err = pack(o.dir, filepath.Join(o.bundle, bundleArtifact)); err != nil {
		return err
	}
	metadata, err := tuf.AddRelease(vendor, current, release.Release{
		Product: o.product, Version: o.version, Digest: info.Digest, Length: info.Length,
		Custom: release.Custom{Floor: info.Floor}}, o.keep, time.Now().UTC().Add(o.life).Truncate(time.Second))
	if err != nil {
		return err
	}
	if err := a.confirm("You will sign, for %s: %s.", vendor, listing(metadata)); err != nil {
		return err
	}
	if metadata, err = signAll(metadata, keys); err != nil {
		return err
	}
	if err := writeBundle(o.bundle, info, metadata); err != nil {
		return err
	}
	return a.showBundle(&bundle{dir: o.bundle, release: info, metadata: metadata})
}

// currentMeta finds the vendor's metadata in force; nil is none.
func (a *app) currentMeta(ctx context.Context, vendor string, o *signOptions) ([]byte, error) {
	switch {
	case o.first && o.previous != "":
		return nil, usagef("--first and --previous exclude each other")
	case o.first:
		return nil, nil
	case o.previous != "":
		return readFile(o.previous, tuf.MaxTargets)
	case a.conn.server == "":
		return nil, usagef("what the vendor lists already must stay listed: give --previous FILE with the vendor's metadata in force, or --first if there is none, or a --server to fetch it from")
	}
	c, err := a.conn.connect()
	if err != nil {
		return nil, err
	}
	return c.vendorMeta(ctx, vendor)
}

// pack writes the artifact of a product folder to path.
func pack(dir, path string) (digest string, length int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return "", 0, err
	}
	if err := artifact.Pack(dir, f); err != nil {
		f.Close()
		os.Remove(path)
		return "", 0, fmt.Errorf("pack %s: %w", dir, err)
	}
	if err := f.Close(); err != nil {
		return "", 0, fmt.Errorf("pack %s: %w", dir, err)
	}
	return digestFile(path)
}

// writeBundle writes release.json last: a bundle that has it is whole.
func writeBundle(dir string, info bundleInfo, metadata []byte) error {
	if err := atomicfile.Write(filepath.Join(dir, bundleMetadata), metadata, 0o644); err != nil {
		return err
	}
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, bundleRelease), append(b, '\n'), 0o644)
}

// cosign adds signatures to a bundle that is whole.
func (a *app) cosign(o *signOptions, keys []*tuf.Key) error {
	b, err := readBundle(o.bundle)
	if err != nil {
		return err
	}
	vendor, _, err := release.SplitProduct(b.release.Product)
	if err != nil {
		return err
	}
	if err := a.confirm("You will sign, for %s: %s.", vendor, listing(b.metadata)); err != nil {
		return err
	}
	if b.metadata, err = signAll(b.metadata, keys); err != nil {
		return err
	}
	if err := writeBundle(o.bundle, b.release, b.metadata); err != nil {
		return err
	}
	return a.showBundle(b)
}

func (a *app) showBundle(b *bundle) error {
	info, err := tuf.Inspect(b.metadata)
	if err != nil {
		return err
	}
	view := struct {
		bundleInfo
		Bundle   string   `json:"bundle"`
		SignedBy []string `json:"signed_by"`
	}{b.release, b.dir, info.Signatures}
	return a.result(view, func(t *table) {
		t.row("PRODUCT", "VERSION", "BYTES", "SHA-256", "SIGNATURES")
		t.row(b.release.Product, b.release.Version, b.release.Length, b.release.Digest, len(info.Signatures))
	})
}

// upload sends the bundle's artifact.
func (c *client) upload(ctx context.Context, b *bundle) error {
	f, err := os.Open(filepath.Join(b.dir, bundleArtifact))
	if err != nil {
		return fmt.Errorf("upload artifact: %w", err)
	}
	defer f.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+"/v1/artifacts/"+b.release.Digest, f)
	if err != nil {
		return fmt.Errorf("upload artifact: %w", err)
	}
	req.ContentLength = b.release.Length
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("upload artifact: %w", explain(err))
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("upload artifact: %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
