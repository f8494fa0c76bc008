package sbom

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// All four documents list the same parts: lodash by PURL, OpenSSL by PURL and
// CPE, and one part that has a name only for people.
func TestEachFormatGivesTheSameComponents(t *testing.T) {
	want := []string{
		"cpe:2.3:a:openssl:openssl:3.0.7:*:*:*:*:*:*:* 3.0.7",
		"pkg:deb/debian/openssl@3.0.7-1?distro=bookworm 3.0.7-1",
		"pkg:npm/lodash@4.17.20 4.17.20",
	}
	names, err := filepath.Glob("testdata/*")
	if err != nil || len(names) != 4 {
		t.Fatalf("documents: %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Read(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(d.Format) != strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)) {
			t.Errorf("%s was read as %s", name, d.Format)
		}
		var got []string
		for _, c := range d.Components {
			got = append(got, c.Name+" "+c.Version)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if d.Nameless != 1 || !slices.Equal(d.NamelessSome, []string{"in-house"}) {
			t.Errorf("%s: %d nameless: %q", name, d.Nameless, d.NamelessSome)
		}
	}
}

// A part within a part counts like any other.
func TestNestedComponentsAreRead(t *testing.T) {
	d, err := Read([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"outer","components":[{"type":"library","name":"x","version":"1.0.0","purl":"pkg:npm/x"}]}]}`))
	if err != nil || len(d.Components) != 1 || d.Components[0] != (Component{"pkg:npm/x", "pkg:npm/x", "1.0.0"}) {
		t.Errorf("%+v, %v", d, err)
	}
}

// A name that cannot be read is said even if the component has another: nothing
// that asks by it finds the component.
func TestANameThatCannotBeReadIsSaid(t *testing.T) {
	d, err := Read([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"openssl","version":"3.0.6",
		"purl":"pk:deb/debian/openssl@3.0.6-1","cpe":"cpe:2.3:a:openssl:openssl:3.0.6:*:*:*:*:*:*:*"}]}`))
	if err != nil || len(d.Components) != 1 || d.Nameless != 1 || !slices.Equal(d.NamelessSome, []string{"pk:deb/debian/openssl@3.0.6-1"}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestWhatIsNoBillOfMaterialsIsRefused(t *testing.T) {
	one := `{"type":"library","name":"a","purl":"pkg:npm/a@1.0.0"},`
	for name, doc := range map[string]string{
		"nothing": "", "text": "hello", "other JSON": `{"a":1}`, "other XML": "<html></html>",
		"broken JSON":        `{"bomFormat":"CycloneDX",`,
		"another bomFormat":  `{"bomFormat":"Other","specVersion":"1.6"}`,
		"SPDX 3":             `{"spdxVersion":"SPDX-3.0"}`,
		"too deep":           `{"bomFormat":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}",
		"too many":           `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[` + strings.Repeat(one, MaxComponents) + strings.TrimSuffix(one, ",") + `]}`,
		"too long":           strings.Repeat(" ", MaxSize+1),
		"XML of a namespace": `<bom xmlns="http://example.org/"></bom>`,
	} {
		if d, err := Read([]byte(doc)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %d components, %v", name, len(d.Components), err)
		}
	}
}

func FuzzRead(f *testing.F) {
	names, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Read(b)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("an error of no kind: %v", err)
		}
		for _, c := range d.Components {
			if c.Key == "" {
				t.Fatalf("%+v has no key", c)
			}
		}
	})
}
