package artifact

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

const manifest = `{"schema":"headgate.manifest/1","preflight":{"run":["true"]},"activate":{"run":["sleep"],"long_running":true},"check":{"run":["true"]},"stop":{"run":[]}}`

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func packed(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(dir, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSameContentGivesSameBytes(t *testing.T) {
	files := map[string]string{"headgate.json": manifest, "a/b": "1", "a-b": "2", "ü/" + strings.Repeat("x", 150): "3"}
	one, two := folder(t, files), folder(t, files)
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	if err := os.Chtimes(filepath.Join(two, "a-b"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(two, "a-b"), 0o666); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packed(t, one), packed(t, two)) {
		t.Error("times or modes changed the artifact")
	}
}

func TestUnpackGivesBackWhatWasPacked(t *testing.T) {
	files := map[string]string{"headgate.json": manifest, "a/b": "1", "a-b": "", "deep/er/x": "3"}
	src := folder(t, files)
	if err := os.Chmod(filepath.Join(src, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := packed(t, src)
	dst := t.TempDir()
	got, err := Unpack(bytes.NewReader(b), dst)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(files) {
		t.Fatalf("%d files, want %d", len(got), len(files))
	}
	for _, f := range got {
		sum := sha256.Sum256([]byte(files[f.Path]))
		want := os.FileMode(0o644)
		if f.Path == "a/b" {
			want = 0o755
		}
		info, err := os.Stat(filepath.Join(dst, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if f.SHA256 != hex.EncodeToString(sum[:]) || f.Size != int64(len(files[f.Path])) || f.Mode != want || info.Mode() != want {
			t.Errorf("%+v on disk %s, want mode %s", f, info.Mode(), want)
		}
	}
	if !bytes.Equal(packed(t, dst), b) {
		t.Error("packing what was unpacked gives other bytes")
	}
	if m, err := ReadManifest(dst); err != nil || !m.Activate.LongRunning {
		t.Errorf("manifest %+v, %v", m, err)
	}
}

func TestPackRefusesWhatCannotBeCarried(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"link":  func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "link")) },
		"empty": func(dir string) error { return os.Mkdir(filepath.Join(dir, "empty"), 0o755) },
		`back\slash`: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, `back\slash`), nil, 0o644)
		},
		"headgate.json": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "headgate.json"), []byte(`{"schema":"x"}`), 0o644)
		},
		"file-1000": func(dir string) error {
			for i := range release.MaxFiles + 1 {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%04d", i)), nil, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		dir := folder(t, map[string]string{"headgate.json": manifest})
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		err := Pack(dir, new(bytes.Buffer))
		if !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
		if word := strings.Split(name, `\`)[0]; err != nil && name != "file-1000" && !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v does not name the entry", name, err)
		}
	}
}

// entry is a header that Unpack takes, for tests to spoil.
func entry(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}
}

func tarOf(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := []byte{}
		if h.Name == "headgate.json" {
			body = []byte(manifest)
		} else if h.Size > 0 {
			body = make([]byte, h.Size)
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackRefusesAllThatPackDoesNotWrite(t *testing.T) {
	with := func(name string, spoil func(*tar.Header)) []byte {
		h := entry(name)
		spoil(h)
		return tarOf(t, entry("headgate.json"), h)
	}
	good := tarOf(t, entry("headgate.json"), entry("x"))
	huge := bytes.Clone(good)
	copy(huge[1024+124:], "77777777777\x00") // the second entry's size, in octal: 8 GiB
	fixSum(huge[1024:1536])
	for name, b := range map[string][]byte{
		"parent":       with("../x", func(*tar.Header) {}),
		"inner parent": with("x/../../y", func(*tar.Header) {}),
		"absolute":     with("/x", func(*tar.Header) {}),
		"dot":          with("./x", func(*tar.Header) {}),
		"control":      with("x\x01", func(*tar.Header) {}),
		"long":         with("x"+strings.Repeat("/x", 100), func(*tar.Header) {}),
		"symlink":      with("x", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc/passwd" }),
		"hard link":    with("x", func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "headgate.json" }),
		"folder":       with("x/", func(h *tar.Header) { h.Typeflag = tar.TypeDir }),
		"device":       with("x", func(h *tar.Header) { h.Typeflag = tar.TypeChar }),
		"setuid":       with("x", func(h *tar.Header) { h.Mode = 0o4755 }),
		"writable":     with("x", func(h *tar.Header) { h.Mode = 0o666 }),
		"owner":        with("x", func(h *tar.Header) { h.Uid = 1 }),
		"owner name":   with("x", func(h *tar.Header) { h.Uname = "root" }),
		"time":         with("x", func(h *tar.Header) { h.ModTime = time.Unix(1, 0) }),
		"attributes":   with("x", func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"} }),
		"unsorted":     with("a", func(*tar.Header) {}),
		"twice":        with("headgate.json", func(*tar.Header) {}),
		"file as folder": tarOf(t, entry("headgate.json"), entry("x"),
			entry("x/y")),
		"no manifest": tarOf(t, entry("x")),
		"empty":       {},
		"trailing":    append(bytes.Clone(good), 1),
		"cut header":  good[:700],
		"huge":        huge,
		"not a tar":   bytes.Repeat([]byte("x"), 2048),
	} {
		if _, err := Unpack(bytes.NewReader(b), t.TempDir()); err == nil {
			t.Errorf("%s: taken", name)
		} else if !errors.Is(err, release.ErrInvalid) && name != "no manifest" && name != "empty" && name != "file as folder" {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if _, err := Unpack(bytes.NewReader(good), t.TempDir()); err != nil {
		t.Errorf("the unspoilt one: %v", err)
	}
}

// fixSum writes a tar header's checksum.
func fixSum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestUnpackRefusesTooManyFiles(t *testing.T) {
	headers := []*tar.Header{entry("headgate.json")}
	for i := range release.MaxFiles {
		headers = append(headers, entry(fmt.Sprintf("x-%04d", i)))
	}
	if _, err := Unpack(bytes.NewReader(tarOf(t, headers...)), t.TempDir()); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "x-0999") {
		t.Errorf("%v, want ErrInvalid that names x-0999", err)
	}
}

func TestTruncationAnywhereIsRefused(t *testing.T) {
	b := packed(t, folder(t, map[string]string{"headgate.json": manifest, "rules": strings.Repeat("r", 3000)}))
	for n := 0; n < len(b); n += 256 {
		if _, err := Unpack(bytes.NewReader(b[:n]), t.TempDir()); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("cut after %d of %d bytes: %v, want ErrInvalid", n, len(b), err)
		}
	}
}

func TestUnpackWantsAnEmptyFolder(t *testing.T) {
	b := packed(t, folder(t, map[string]string{"headgate.json": manifest}))
	dir := folder(t, map[string]string{"x": "1"})
	if _, err := Unpack(bytes.NewReader(b), dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v, want ErrExist", err)
	}
	if _, err := Unpack(bytes.NewReader(b), filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want ErrNotExist", err)
	}
}

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "headgate.json"), []byte(manifest), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := Pack(dir, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		outer := t.TempDir()
		dst := filepath.Join(outer, "slot")
		if err := os.Mkdir(dst, 0o755); err != nil {
			t.Fatal(err)
		}
		files, err := Unpack(bytes.NewReader(in), dst)
		if left, _ := os.ReadDir(outer); len(left) != 1 {
			t.Fatalf("wrote outside: %v", left)
		}
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Pack(dst, &again); err != nil {
			t.Fatalf("%d files unpacked, but not packed again: %v", len(files), err)
		}
	})
}
