package notify

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/internal/strict"
	"github.com/headgate/headgate/psirt"
)

// Action is what a case asks of its customers.
type Action = psirt.Action

// The actions.
const (
	None      = psirt.ActNone
	Verify    = psirt.ActVerify
	Configure = psirt.ActConfigure
	Rotate    = psirt.ActRotate
	Update    = psirt.ActUpdate
	Peer      = psirt.ActPeer // a third party, such as a federated provider, must act
)

// Actions lists the actions.
func Actions() []Action { return []Action{None, Verify, Configure, Rotate, Update, Peer} }

// CheckKind is what a machine check looks at. A check names a probe that the
// product's signed manifest declares; it holds no path and no command of its own.
type CheckKind string

// The kinds of checks.
const (
	CheckVersion CheckKind = "version"   // the product runs Want or later
	CheckHash    CheckKind = "file_hash" // the probe's file has SHA-256 Want
	CheckSetting CheckKind = "setting"   // the probe's setting has the value Want
	CheckAge     CheckKind = "file_age"  // the probe's file was changed at or after Want (RFC 3339)
	CheckCommand CheckKind = "command"   // the probe's command ends with status 0
)

var checkKinds = []CheckKind{CheckVersion, CheckHash, CheckSetting, CheckAge, CheckCommand}

// Check is how a machine tells that a step was done.
type Check struct {
	Kind    CheckKind `json:"kind"`
	Product string    `json:"product"`
	Probe   string    `json:"probe,omitempty"` // by its name in the manifest; none for a version
	Want    string    `json:"want,omitempty"`
}

// Text is a text by language. English must be there; a language that is not
// falls back to it, and the notice says so.
type Text map[Language]string

// In is the text in a language, and whether it had to be English instead.
func (t Text) In(l Language) (text string, fellBack bool) {
	if s := t[l]; s != "" {
		return s, false
	}
	return t[English], l != English
}

// Step is one thing that a tenant must do, and the check that it was done. A step
// without a check can be attested only, and never becomes verified.
type Step struct {
	Text  Text   `json:"text"`
	Check *Check `json:"check,omitempty"`
}

// Content is what a notice says to everyone it reaches at a rung. What is one
// tenant's own comes from its Recipient. It is data with a version, kept with the
// wave that told it.
type Content struct {
	Version  int    `json:"version"` // 1
	Product  string `json:"product"`
	Severity string `json:"severity,omitempty"` // as the triage scored it: critical, high, medium, low
	Action   Action `json:"action"`
	Title    Text   `json:"title"`
	Summary  Text   `json:"summary"`
	// Advisory and Detail are told from the public and the details rung on.
	Advisory string `json:"advisory,omitempty"` // https URL
	Detail   Text   `json:"detail,omitempty"`
	Steps    []Step `json:"steps,omitempty"`
}

// maxContent is the largest content in JSON, bytes.
const maxContent = 256 << 10

// ParseContent reads and checks content. Unknown fields are errors: a misspelt
// "check" would leave a step without one.
func ParseContent(b []byte) (c Content, err error) {
	if len(b) > maxContent {
		return c, invalid("content of %d bytes, limit %d", len(b), maxContent)
	}
	if err := strict.Decode(b, &c); err != nil {
		return Content{}, invalid("content: %v", err)
	}
	return c, c.Check()
}

// Check refuses content that could not be told or closed.
func (c Content) Check() error {
	switch {
	case c.Version != 1:
		return invalid("version: %d; want 1", c.Version)
	case c.Product == "" || len(c.Product) > maxLine:
		return invalid("product: %d bytes; want 1 to %d", len(c.Product), maxLine)
	case !slices.Contains(Actions(), c.Action):
		return invalid("action: %q; want one of %v", c.Action, Actions())
	case !slices.Contains([]string{"", "critical", "high", "medium", "low"}, c.Severity):
		return invalid("severity: %q; want critical, high, medium, low, or none", c.Severity)
	case c.Advisory != "" && (!strings.HasPrefix(c.Advisory, "https://") || len(c.Advisory) > maxLine || clean(c.Advisory) != c.Advisory):
		return invalid("advisory: want an https URL of at most %d bytes", maxLine)
	case len(c.Steps) > maxSteps:
		return invalid("steps: %d, limit %d", len(c.Steps), maxSteps)
	case (c.Action == None) != (len(c.Steps) == 0):
		return invalid("action %s with %d steps: an action has steps, and none has none", c.Action, len(c.Steps))
	}
	if err := c.Title.check("title", true); err != nil {
		return err
	}
	if strings.ContainsAny(c.Title[English]+c.Title[Japanese], "\r\n") {
		return invalid("title: want one line")
	}
	if err := c.Summary.check("summary", true); err != nil {
		return err
	}
	if err := c.Detail.check("detail", false); err != nil {
		return err
	}
	for i, s := range c.Steps {
		if err := s.check(); err != nil {
			return invalid("step %d: %v", i+1, err)
		}
	}
	return nil
}

func (t Text) check(where string, needed bool) error {
	if needed && strings.TrimSpace(t[English]) == "" {
		return invalid("%s: no text in English (%q)", where, English)
	}
	for l, s := range t {
		if l != English && l != Japanese {
			return invalid("%s: language %q; want %s or %s", where, l, English, Japanese)
		}
		if len(s) > maxText || !utf8.ValidString(s) {
			return invalid("%s in %s: %d bytes; want at most %d of UTF-8", where, l, len(s), maxText)
		}
	}
	return nil
}

func (s Step) check() error {
	if err := s.Text.check("text", true); err != nil {
		return err
	}
	if s.Check == nil {
		return nil
	}
	c := *s.Check
	switch {
	case !slices.Contains(checkKinds, c.Kind):
		return invalid("check: kind %q; want one of %v", c.Kind, checkKinds)
	case c.Product == "":
		return invalid("check: no product")
	case (c.Kind == CheckVersion) != (c.Probe == ""):
		return invalid("check: a %s check and probe %q: all kinds but version name a probe of the product's manifest", c.Kind, c.Probe)
	case (c.Kind == CheckCommand) != (c.Want == ""):
		return invalid("check: a %s check wants %q: all kinds but command say what they want", c.Kind, c.Want)
	}
	return nil
}
