// Package notify says who must hear what about a case, in which words, on which
// channel, when, and when again; and when a notice may be called closed.
//
// A notice is one tenant's own: its resources, its steps, its language, its
// watermark. Nothing in it comes from another tenant. It stays open until each
// step's machine check has passed on each of its resources, and opens again when
// one fails later.
//
// It never sends (notify/smtp, notify/webhook and notify/feed do), never reads a
// clock and draws nothing at random: instants, keys and ids are passed in. It
// never counts an unknown as a success.
//
// Its words: audience, recipient, resource, notice, edition, wave, step, check,
// delivery, attempt, mark.
package notify

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/headgate/headgate/psirt"
)

// ErrInvalid: the input breaks a rule of this package.
var ErrInvalid = errors.New("invalid notice")

// SecretBytes is the length of a webhook's secret (Standard Webhooks: 24 to 64).
const SecretBytes = 32

// invalid says where a rule is broken.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrInvalid)...)
}

// Rung is a level of disclosure: the case's ladder opens them.
type Rung = psirt.Rung

// The rungs at which tenants hear: the steps only, then the advisory, then how it
// works.
const (
	Tenants = psirt.TenantsRung
	Public  = psirt.PublicRung
	Details = psirt.Details
)

// reaches tells whether r is other or a later rung.
func reaches(r, other Rung) bool { return r.At() >= other.At() }

// TLP is the marking that a notice carries at a rung (FIRST TLP 2.0): before the
// public one it is for the tenant alone.
func TLP(r Rung) string {
	if reaches(r, Public) {
		return "TLP:CLEAR"
	}
	return "TLP:AMBER+STRICT"
}

// Channel is a way to a tenant. The API and the feed are asked by the tenant
// itself; to the others Headgate sends.
type Channel string

// The channels.
const (
	Email   Channel = "email"
	Webhook Channel = "webhook"
	Feed    Channel = "feed"
	API     Channel = "api"
)

// Language is a language that notices are written in, a BCP 47 tag.
type Language string

// The languages. English is the one that every text must have.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

// State is how far a notice has come. It is derived (see Progress.State), never
// typed in.
type State string

// The states, each further than the one before.
const (
	Queued       State = "queued"       // nobody is known to have it yet
	Delivered    State = "delivered"    // a channel took it
	Opened       State = "opened"       // the tenant read it
	Acknowledged State = "acknowledged" // the tenant said that it will act
	Done         State = "done"         // the tenant says that all steps are done, which is weaker than:
	Verified     State = "verified"     // each step's check passed on each resource
)

// States lists the states in their order.
func States() []State { return []State{Queued, Delivered, Opened, Acknowledged, Done, Verified} }

// Limits of what a notice holds.
const (
	maxResources = 100_000 // of one tenant
	maxShown     = 200     // resources listed in a rendered notice; the rest are counted
	maxSteps     = 20
	maxText      = 16 << 10 // bytes of one text in one language
	maxLine      = 300      // bytes of a name, a version or a reason
)

// clean makes one line of what others wrote: control characters, line breaks and
// the marks that turn the direction of text (Unicode's Bidi_Control) become
// spaces, and what is too long is cut.
func clean(s string) string {
	if plain(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxLine {
		return s
	}
	cut := maxLine
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not inside a character
		cut--
	}
	return s[:cut] + "…"
}

// plain tells whether clean has nothing to do, as with nearly all that it is given.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return len(s) <= maxLine
}

// later is the later of two instants; the zero instant is earlier than any.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
