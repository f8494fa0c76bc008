// Package test holds what no single package can test: the direction of imports
// (arch), the size of files and functions (house), and whole stories.
package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// records are the record packages in the data's order: each may import only
// those before it.
var records = []string{"ledger", "psirt", "release", "fleet", "health", "rollout", "advisory", "notify", "partner", "review"}

// others are the remaining root folders that may hold Go code: with the records
// they are the map of DESIGN's layout.
var others = []string{"agent", "api", "cli", "cmd", "console", "control", "docs", "examples", "internal", "server", "sim", "store", "test"}

// pureStd is what a record package may import of the standard library: nothing
// here can read a file, a clock or a random source, or start a goroutine, but
// for the few functions in impure.
var pureStd = []string{
	"bytes", "cmp", "embed", "errors", "fmt", "io", "iter", "maps", "math", "math/big", "math/bits",
	"net/netip", "net/url", "reflect", "regexp", "slices", "sort", "strconv", "strings", "time",
	"unicode", "unicode/utf16", "unicode/utf8",
	"container/heap", "container/list",
	"crypto/ed25519", "crypto/hmac", "crypto/sha256", "crypto/sha512", "crypto/subtle",
	"encoding", "encoding/base32", "encoding/base64", "encoding/binary", "encoding/csv", "encoding/hex", "encoding/json", "encoding/xml",
	"hash", "hash/crc32", "hash/fnv",
}

// pureModules are the field's own libraries that a record package may import.
// A new one needs its reason here.
var pureModules = []string{
	"deps.dev/util/semver",                 // version order of npm, PyPI, Maven and others
	"github.com/Masterminds/semver/v3",     // version order as the specification has it
	"github.com/knqyf263/go-cpe/common",    // CPE 2.3 names, NISTIR 7695
	"github.com/knqyf263/go-cpe/matching",  // and which of them is a superset of which, NISTIR 7696
	"github.com/knqyf263/go-cpe/naming",    // and their text form
	"github.com/knqyf263/go-deb-version",   // version order of Debian packages
	"github.com/knqyf263/go-rpm-version",   // version order of RPM packages
	"github.com/package-url/packageurl-go", // package URLs and their canonical form
	"github.com/pandatix/go-cvss/20",       // CVSS, each version as FIRST specifies it
	"github.com/pandatix/go-cvss/30",
	"github.com/pandatix/go-cvss/31",
	"github.com/pandatix/go-cvss/40",
	"golang.org/x/mod/sumdb/note", // signed notes, C2SP signed-note
	"golang.org/x/mod/sumdb/tlog", // RFC 6962 trees
	// Translated phrases, plural forms and number formats (CLDR). The tables are
	// compiled in; the package's own default catalogue is forbidden below.
	"golang.org/x/text/feature/plural",
	"golang.org/x/text/language",
	"golang.org/x/text/message",
	"golang.org/x/text/message/catalog",
	"golang.org/x/text/unicode/norm", // forms of one letter (UAX 15)
	"gonum.org/v1/gonum/mathext",     // incomplete beta, for confidence bounds
	"gonum.org/v1/gonum/stat/distuv", // distributions
	"gonum.org/v1/gonum/stat/combin", // covering arrays
}

// impure are the functions of otherwise pure packages that a record package may
// not even mention.
var impure = map[string][]string{
	"time":                        {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Local", "LoadLocation"},
	"fmt":                         {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"crypto/ed25519":              {"GenerateKey"},
	"golang.org/x/mod/sumdb/note": {"GenerateKey"},
	"golang.org/x/text/message":   {"Set", "SetString", "DefaultCatalog"},
}

func TestArchitecture(t *testing.T) {
	tree := readTree(t, "..")
	for _, v := range checkArch(tree) {
		t.Error(v)
	}
}

// Each bad tree breaks rules in the lines marked "// BAD: words"; the checker
// must find exactly these.
func TestArchitectureTestFindsWhatBreaksIt(t *testing.T) {
	names, err := filepath.Glob("testdata/arch/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("bad trees: %v, %v", names, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			tree, want := map[string][]byte{}, map[string]string{}
			for _, f := range ar.Files {
				tree[f.Name] = f.Data
				for i, line := range strings.Split(string(f.Data), "\n") {
					if _, words, ok := strings.Cut(line, "// BAD: "); ok {
						want[position(f.Name, i+1)] = words
					}
				}
			}
			got := checkArch(tree)
			for _, v := range got {
				words, ok := want[v.at]
				if !ok {
					t.Errorf("found what is allowed: %s", v)
					continue
				}
				if !strings.Contains(v.what, words) {
					t.Errorf("%s: want %q", v, words)
				}
				delete(want, v.at)
			}
			for at, words := range want {
				t.Errorf("%s: %q was not found", at, words)
			}
		})
	}
}

// readTree reads the Go files beneath root, by slash path, leaving out what the
// go command leaves out, and generated tools.
func readTree(t *testing.T, root string) map[string][]byte {
	t.Helper()
	tree := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		tree[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) == 0 || !slices.ContainsFunc(records, func(r string) bool { return tree[r+"/"+r+".go"] != nil }) {
		t.Fatalf("no Go files of the project beneath %s", root)
	}
	return tree
}
