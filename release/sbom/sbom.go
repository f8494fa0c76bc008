// Package sbom reads bills of materials, CycloneDX (JSON, XML) and SPDX 2 (JSON,
// tag-value), into the few facts that matching needs: what each component is
// called and which version it has.
//
// It judges nothing, follows no reference out of the document, and leaves out
// what has neither a PURL nor a CPE, saying how many those were: what has no name
// that others know cannot be matched by anybody.
//
// Its words: component, as in fleet.
package sbom

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/tagvalue"

	"github.com/headgate/headgate/release"
)

// Limits of a bill of materials.
const (
	MaxSize       = 16 << 20 // bytes
	MaxComponents = 50_000
	maxDepth      = 100 // components within components, and of the JSON around them
)

// ErrInvalid marks a document that cannot be read.
var ErrInvalid = errors.New("invalid")

// Format is how a document is written.
type Format string

// The formats that are read.
const (
	CycloneDXJSON Format = "cyclonedx-json"
	CycloneDXXML  Format = "cyclonedx-xml"
	SPDXJSON      Format = "spdx-json"
	SPDXTagValue  Format = "spdx-tag-value"
)

// Document is what was read.
type Document struct {
	Format     Format
	Components []Component
	// Nameless is how many components had neither a PURL nor a CPE that can be
	// read, or one besides that cannot be; the first few of them are in NamelessSome, for people.
	Nameless     int
	NamelessSome []string
}

// Component is one component by one name: a component with a PURL and a CPE
// comes twice.
type Component struct {
	Name    string // PURL or CPE 2.3, which release.ParseName reads
	Key     string // release.Name.Key of it
	Version string
}

// Read reads a document, whichever format it has.
func Read(b []byte) (Document, error) {
	if len(b) > MaxSize {
		return Document{}, fmt.Errorf("bill of materials of %d bytes, limit %d: %w", len(b), MaxSize, ErrInvalid)
	}
	format, err := formatOf(b)
	if err != nil {
		return Document{}, err
	}
	d := &Document{Format: format}
	switch format {
	case CycloneDXJSON:
		err = d.cyclone(b, cdx.BOMFileFormatJSON)
	case CycloneDXXML:
		err = d.cyclone(b, cdx.BOMFileFormatXML)
	default:
		err = d.spdx(b)
	}
	if err != nil {
		return Document{}, fmt.Errorf("read %s: %w", format, err)
	}
	return *d, nil
}

// formatOf looks for what each format must begin with or hold.
func formatOf(b []byte) (Format, error) {
	text := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("<")):
		return CycloneDXXML, nil
	case bytes.HasPrefix(text, []byte("SPDXVersion:")):
		return SPDXTagValue, nil
	case !bytes.HasPrefix(text, []byte("{")):
	case depth(text) > maxDepth:
		return "", fmt.Errorf("JSON nested more than %d deep: %w", maxDepth, ErrInvalid)
	case bytes.Contains(text, []byte(`"bomFormat"`)):
		return CycloneDXJSON, nil
	case bytes.Contains(text, []byte(`"spdxVersion"`)):
		return SPDXJSON, nil
	}
	return "", fmt.Errorf("bill of materials: neither CycloneDX (JSON or XML) nor SPDX 2 (JSON or tag-value): %w", ErrInvalid)
}

// depth is how deep JSON is nested. It is measured before decoding, since the
// decoders recurse.
func depth(b []byte) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func (d *Document) cyclone(b []byte, f cdx.BOMFileFormat) error {
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b), f).Decode(&bom); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	if f == cdx.BOMFileFormatXML && !strings.HasPrefix(bom.XMLNS, "http://cyclonedx.org/schema/bom/") {
		return fmt.Errorf("XML namespace %q is not CycloneDX's: %w", bom.XMLNS, ErrInvalid)
	}
	if f == cdx.BOMFileFormatJSON && bom.BOMFormat != "CycloneDX" {
		return fmt.Errorf("bomFormat %q: %w", bom.BOMFormat, ErrInvalid)
	}
	if bom.Components == nil {
		return nil
	}
	return d.cycloneComponents(*bom.Components, 1)
}

func (d *Document) cycloneComponents(list []cdx.Component, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("components nested more than %d deep: %w", maxDepth, ErrInvalid)
	}
	for _, c := range list {
		if err := d.add(c.Name, c.Version, c.PackageURL, c.CPE); err != nil {
			return err
		}
		if c.Components != nil {
			if err := d.cycloneComponents(*c.Components, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Document) spdx(b []byte) (err error) {
	var doc *spdx.Document
	if d.Format == SPDXJSON {
		doc, err = spdxjson.Read(bytes.NewReader(b))
	} else {
		doc, err = tagvalue.Read(bytes.NewReader(b))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	for _, p := range doc.Packages {
		if p == nil {
			continue
		}
		var names []string
		for _, r := range p.PackageExternalReferences {
			if r != nil && (r.RefType == spdx.PackageManagerPURL || r.RefType == spdx.SecurityCPE23Type) {
				names = append(names, r.Locator)
			}
		}
		if err := d.add(p.PackageName, p.PackageVersion, names...); err != nil {
			return err
		}
	}
	return nil
}

// someNameless is how many components without a usable name are named.
const someNameless = 5

// add takes in one component by each of its names.
func (d *Document) add(title, version string, names ...string) error {
	known, unread := false, ""
	for _, text := range names {
		n, err := release.ParseName(text)
		if err != nil || !strings.Contains(text, ":") {
			if text != "" {
				unread = text
			}
			continue
		}
		known = true
		if n.Version == "" {
			n.Version = version
		}
		d.Components = append(d.Components, Component{Name: text, Key: n.Key, Version: n.Version})
	}
	if known && unread != "" { // what matches by that name alone is not found
		title, known = unread, false
	}
	if !known {
		if d.Nameless++; len(d.NamelessSome) < someNameless {
			d.NamelessSome = append(d.NamelessSome, strings.ToValidUTF8(title[:min(len(title), 80)], "?"))
		}
	}
	if len(d.Components)+d.Nameless > MaxComponents {
		return fmt.Errorf("more than %d components: %w", MaxComponents, ErrInvalid)
	}
	return nil
}
