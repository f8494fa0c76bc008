package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/release"
)

func TestASettingIsReadFromJSONAndFromLines(t *testing.T) {
	for _, c := range []struct{ name, content, key, want, err string }{
		{"a.json", `{"tls":{"min":"1.3","on":true},"n":42}`, "tls.min", "1.3", ""},
		{"a.json", `{"tls":{"min":"1.3","on":true},"n":42}`, "tls.on", "true", ""},
		{"a.json", `{"n": 42 }`, "n", "42", ""},
		{"a.json", `{"n":42}`, "m", "", "no such setting"},
		{"a.json", `{"n":42}`, "n.m", "", "cannot unmarshal"},
		{"a.json", `{"n":[1]}`, "n", "", "no text"},
		{"a.json", `{`, "n", "", "unexpected end"},
		{"a.json", `{"n":"two\nlines"}`, "n", "", "than a line"},
		{"a.conf", "# min = 1.0\nmin = 1.2\nmin=\"1.3\"\n", "min", "1.3", ""},
		{"a.conf", "; min: 1\nmin: 1.3", "min", "1.3", ""},
		{"a.conf", "minimum = 1", "min", "", "no such setting"},
		{"a.conf", "min=" + strings.Repeat("x", release.MaxWant+1), "min", "", "longer"},
		{"a.conf", strings.Repeat("x", MaxSettings+1), "min", "", "more than"},
	} {
		got, err := Setting(c.name, []byte(c.content), c.key)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s of %.40q: %q, %v; want %q, %q", c.key, c.content, got, err, c.want, c.err)
		}
	}
}

func TestAProbeReadsOneFileAndNothingOutsideItsFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "key"), "secret")
	write(filepath.Join(outside, "shadow"), "root")
	if err := errors.Join(
		os.Symlink(filepath.Join(outside, "shadow"), filepath.Join(dir, "link")),
		os.Symlink("key", filepath.Join(dir, "inner")),
		os.Mkdir(filepath.Join(dir, "folder"), 0o700),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("secret"))
	at := time.UnixMicro(1_700_000_000_000_000)
	if err := os.Chtimes(filepath.Join(dir, "key"), at, at); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"key": hex.EncodeToString(sum[:]), "inner": hex.EncodeToString(sum[:]), "link": "escapes", "folder": "no file", "pipe": "no file", "../" + filepath.Base(outside) + "/shadow": "escapes"} {
		got, err := readProbe(release.CheckHash, dir, path, "")
		if got != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if got, err := readProbe(release.CheckAge, dir, "key", ""); got != strconv.FormatInt(at.UnixMicro(), 10) || err != nil {
		t.Errorf("when the key was changed: %q, %v", got, err)
	}
	if _, err := readProbe(release.CheckAge, dir, "nothing", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzSetting(f *testing.F) {
	f.Add("a.json", []byte(`{"a":{"b":"c"}}`), "a.b")
	f.Add("a.conf", []byte("# x\na = \"b\"\n"), "a")
	f.Fuzz(func(t *testing.T, name string, b []byte, key string) {
		v, err := Setting(name, b, key)
		if err == nil && (len(v) > release.MaxWant || strings.Contains(v, "\n")) {
			t.Fatalf("a value of %d bytes: %q", len(v), v)
		}
	})
}
