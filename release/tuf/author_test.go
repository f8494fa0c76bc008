package tuf

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

func TestKeyFilesComeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ops.key")
	k := newKey(t)
	if err := SaveKey(path, k); err != nil {
		t.Fatal(err)
	}
	wantError(t, "save over a key", SaveKey(path, newKey(t)), os.ErrExist)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "Headgate signing key "+k.ID()) {
		t.Errorf("the file does not say what it is: %v", err)
	}
	got, err := LoadKey(path)
	if err != nil || got.ID() != k.ID() || !got.private.Equal(k.private) {
		t.Errorf("loaded %v, %v", got, err)
	}
	public, err := LoadPublic(path + ".pub")
	if err != nil || public != k.Public() {
		t.Errorf("loaded %v, %v; want %v", public, err, k.Public())
	}
	_, err = LoadKey(path + ".pub")
	wantError(t, "public part as key", err, ErrKey)
	_, err = LoadPublic(path)
	wantError(t, "key as public part", err, ErrKey)
	if err != nil && strings.Contains(err.Error(), "PRIVATE") {
		t.Error("the error quotes the key file")
	}
}

func TestPublicKeyIsATUFKeyObject(t *testing.T) {
	k := newKey(t)
	b, err := json.Marshal(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	var obj struct{ Keytype, Scheme string }
	if err := json.Unmarshal(b, &obj); err != nil || obj.Keytype != "ed25519" || obj.Scheme != "ed25519" {
		t.Errorf("%s, %v", b, err)
	}
	var back PublicKey
	if err := json.Unmarshal(b, &back); err != nil || back != k.Public() {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{
		`null`, `{}`, `{"keytype":"rsa","scheme":"rsassa-pss-sha256","keyval":{"public":"x"}}`,
		`{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}`,
	} {
		_, err := ParsePublic([]byte(bad))
		wantError(t, bad, err, ErrKey)
	}
}

func TestPeopleSignOneAfterAnother(t *testing.T) {
	w := newWorld(t)
	root := w.must(RotateRoot(w.repo.State[Root], RootSpec{Expires: w.now.Add(2 * year)}))
	for i, want := range []int{0, 1, 2} {
		if i > 0 {
			root = w.sign(root, w.ops[i])
			root = w.sign(root, w.ops[i]) // twice is once
		}
		valid, threshold, err := Signed(w.repo.State[Root], Root, root)
		if err != nil || len(valid) != want || threshold != 2 {
			t.Errorf("%d signatures of %d, %v; want %d of 2", len(valid), threshold, err, want)
		}
		info, err := Inspect(root)
		if err != nil || len(info.Signatures) != want || info.Version != 2 || info.Type != Root || !info.Expires.Equal(w.now.Add(2*year)) {
			t.Errorf("%+v, %v", info, err)
		}
	}
	root = w.sign(root, newKey(t)) // a stranger's counts nothing
	if valid, _, err := Signed(w.repo.State[Root], Root, root); err != nil || len(valid) != 2 {
		t.Errorf("%v, %v; want 2", valid, err)
	}
	w.apply(w.repo.SetRoot(root, w.now))
	if valid, threshold, err := Signed(w.repo.State[Targets], "acme", w.repo.State["acme"]); err != nil || len(valid) != 2 || threshold != 2 {
		t.Errorf("acme: %v of %d, %v", valid, threshold, err)
	}
}

func TestEditsOfADraftAreOneVersion(t *testing.T) {
	w := newWorld(t)
	v := Vendor{"one", public(newKey(t)), 1}
	draft := w.must(AddVendor(w.repo.State[Targets], v, time.Time{}))
	v.Name = "two"
	draft = w.must(AddVendor(draft, v, time.Time{}))
	draft = w.must(RemoveVendor(draft, "zeta", time.Time{}))
	info, err := Inspect(draft)
	if err != nil || info.Version != 2 || len(info.Signatures) != 0 {
		t.Errorf("%+v, %v; want version 2 without signatures", info, err)
	}
	vendors, err := Vendors(draft)
	if err != nil || len(vendors) != 3 || vendors[0].Name != "acme" || vendors[0].Threshold != 2 || len(vendors[0].Keys) != 3 || vendors[2].Name != "two" {
		t.Errorf("%+v, %v", vendors, err)
	}
	if bytes.Contains(draft, []byte(w.vendors["zeta"][0].ID())) {
		t.Error("the removed vendor's key is still there")
	}
	c := w.client(t.TempDir())
	w.mustRefresh(c)
	w.apply(w.repo.SetTargets(w.sign(draft, w.ops[:2]...), w.now))
	w.mustRefresh(c)
	_, err = w.target(c, "zeta/rules", "1.0.0")
	wantError(t, "removed vendor", err, ErrNotFound)
}

func TestSupersededReleasesLeaveTheRole(t *testing.T) {
	w := newWorld(t)
	for _, v := range []string{"1.10.0", "1.9.0", "2.0.0", "2.0.0-rc.1"} { // keep is 3
		w.release("acme/sensor", v)
	}
	w.release("acme/other", "0.1.0")
	got, err := Releases(w.repo.State["acme"])
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, r := range got {
		text = append(text, r.Product+" "+r.Version)
	}
	// 2.0.0-rc.1 came last and stays beside the newest two.
	want := "acme/other 0.1.0, acme/sensor 1.10.0, acme/sensor 2.0.0-rc.1, acme/sensor 2.0.0"
	if s := strings.Join(text, ", "); s != want {
		t.Errorf("%s; want %s", s, want)
	}
	if got[1] != releaseFor("acme/sensor", "1.10.0") {
		t.Errorf("%+v", got[1])
	}
	meta := w.must(RemoveRelease(w.repo.State["acme"], "acme/other", "0.1.0", time.Time{}))
	if got, err := Releases(meta); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAuthorsMistakesAreRefusedBeforeSigning(t *testing.T) {
	w := newWorld(t)
	k, other := newKey(t), releaseFor("acme/sensor", "1.0.0")
	other.Digest = strings.Repeat("0", 64)
	long := releaseFor("acme/sensor", "1.1.0")
	long.Length = release.MaxArtifact + 1
	spec := func(change func(*RootSpec)) error {
		s := w.spec()
		change(&s)
		_, err := NewRoot(s)
		return err
	}
	vendor := func(v Vendor) error {
		_, err := AddVendor(w.repo.State[Targets], v, time.Time{})
		return err
	}
	add := func(vendor string, r release.Release) error {
		_, err := AddRelease(vendor, w.repo.State["acme"], r, 0, time.Time{})
		return err
	}
	for what, c := range map[string][2]error{
		"threshold above keys":    {spec(func(s *RootSpec) { s.Threshold = 4 }), ErrKey},
		"threshold 0":             {spec(func(s *RootSpec) { s.Threshold = 0 }), ErrKey},
		"one key twice":           {spec(func(s *RootSpec) { s.Operators = public(k, k) }), ErrKey},
		"online key as operator":  {spec(func(s *RootSpec) { s.Snapshot = s.Operators[0] }), ErrKey},
		"no online key":           {spec(func(s *RootSpec) { s.Timestamp = PublicKey{} }), ErrKey},
		"vendor named rollout":    {vendor(Vendor{"rollout", public(k), 1}), release.ErrInvalid},
		"vendor without keys":     {vendor(Vendor{"new", nil, 1}), ErrKey},
		"another vendor's":        {add("zeta", releaseFor("acme/sensor", "1.1.0")), ErrForeign},
		"zeta's in acme's":        {add("acme", releaseFor("zeta/rules", "1.1.0")), ErrForeign},
		"a version's new content": {add("acme", other), ErrRollback},
		"too long":                {add("acme", long), ErrTooLarge},
		"no version":              {add("acme", release.Release{Product: "acme/sensor"}), release.ErrInvalid},
	} {
		wantError(t, what, c[0], c[1])
	}
}
