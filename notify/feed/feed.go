// Package feed writes a tenant's notices as an Atom feed (RFC 4287). The feed is
// asked for by its reader and says the same each time, so that it needs neither
// retries nor a log of what was sent: an entry's id is what a reader tells
// repeats by.
//
// It holds one tenant's notices only; whose they are is the caller's to see to.
package feed

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"golang.org/x/tools/blog/atom"
)

// Entry is one notice as it stands.
type Entry struct {
	Notice    string // "N-..."
	Title     string
	Body      string // plain text
	Published time.Time
	Updated   time.Time // its newest edition
}

// Feed is a tenant's feed.
type Feed struct {
	Tenant  string
	ID      string // stable, and no secret: "urn:headgate:tenant:NAME"
	Updated time.Time
	Entries []Entry
}

// Encode writes the feed.
func Encode(f Feed) ([]byte, error) {
	out := atom.Feed{
		Title: clean("Headgate notices for " + f.Tenant), ID: clean(f.ID), Updated: atom.Time(f.Updated.UTC()),
		Author: &atom.Person{Name: "Headgate"},
	}
	for _, e := range f.Entries {
		out.Entry = append(out.Entry, &atom.Entry{
			Title: clean(e.Title), ID: "urn:headgate:notice:" + clean(e.Notice),
			Published: atom.Time(e.Published.UTC()), Updated: atom.Time(e.Updated.UTC()),
			Content: &atom.Text{Type: "text", Body: clean(e.Body)},
		})
	}
	b, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode feed: %w", err)
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

// clean drops what XML 1.0 (2.2) cannot hold at all.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n', r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000 && r <= 0x10FFFF:
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, ""))
}
