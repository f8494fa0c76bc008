package notify

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Letter is everything that one edition is rendered from.
type Letter struct {
	Notice   string // "N-..."
	Rung     Rung
	Content  Content
	To       Recipient
	Language Language
	Mark     Mark
	Purpose  Purpose // empty: ForNotice
	Open     []int   // numbers of the steps that are open, for what is not ForNotice
}

// Message is a rendered edition: plain text, and nothing that a mail program
// would run or fetch.
type Message struct {
	Subject string // says what the notice is about
	// Opaque is the subject for where the body is encrypted and the subject is not.
	Opaque string
	Body   string // lines end with \n
}

// ParseLanguage finds the language in which a tenant is written to: the nearest of
// those that there are, for a BCP 47 tag such as "ja-JP".
func ParseLanguage(tag string) (Language, error) {
	t, err := language.Parse(tag)
	if err != nil {
		return "", invalid("language %q: %v", clean(tag), err)
	}
	_, i, confidence := languages.Match(t)
	if confidence == language.No {
		return "", invalid("language %q: there are %s and %s", clean(tag), English, Japanese)
	}
	return []Language{English, Japanese}[i], nil
}

var languages = language.NewMatcher([]language.Tag{language.English, language.Japanese})

// Printer renders letters of one language. It is not safe for concurrent use.
type Printer struct {
	p    *message.Printer
	lang Language
	// The last texts and phrases without arguments: letters of a wave share them.
	owned, said map[string]string
}

// maxPrinted bounds the texts that a printer remembers.
const maxPrinted = 200

// NewPrinter makes the printer of a language.
func NewPrinter(l Language) *Printer {
	tag := language.English
	if l == Japanese {
		tag = language.Japanese
	}
	return &Printer{p: message.NewPrinter(tag, message.Catalog(phrases)), lang: l, owned: map[string]string{}, said: map[string]string{}}
}

// Render writes a letter in its language.
func Render(l Letter) Message { return NewPrinter(l.Language).Render(l) }

// Render writes one letter; its language must be the printer's.
func (p *Printer) Render(l Letter) Message {
	if l.Language != p.lang {
		panic("notify: a letter in " + string(l.Language) + " was given to the printer of " + string(p.lang))
	}
	w := &writer{Printer: p, l: l}
	title, _ := l.Content.Title.In(p.lang)
	w.head()
	w.why(title)
	w.steps()
	w.resources()
	w.foot()
	kind := w.say("action-" + string(l.Content.Action))
	if l.Purpose != "" && l.Purpose != ForNotice {
		kind = w.say("kind-" + string(l.Purpose))
	}
	return Message{
		Subject: clean("[" + kind + "] " + title + " (" + l.Notice + ")"),
		Opaque:  clean(w.say(keyHead, l.Notice, l.To.Tenant)),
		Body:    w.b.String(),
	}
}

// Check says in words what a check looks at.
func (p *Printer) Check(c Check) string {
	key := "check-" + string(c.Kind)
	return p.p.Sprintf(message.Key(key, key), clean(c.Product), clean(c.Probe), clean(c.Want))
}

type writer struct {
	*Printer
	l Letter
	b strings.Builder
}

// fallsBack tells whether some of what is told is there in English only.
func (w *writer) fallsBack() bool {
	c := w.l.Content
	texts := []Text{c.Title, c.Summary}
	for _, s := range c.Steps {
		texts = append(texts, s.Text)
	}
	return slices.ContainsFunc(texts, func(t Text) bool { _, back := t.In(w.lang); return back })
}

func (w *writer) say(key string, args ...any) string {
	if len(args) == 0 {
		return remember(w.said, key, func() string { return w.p.Sprintf(message.Key(key, key)) })
	}
	return w.p.Sprintf(message.Key(key, key), args...)
}

// remember makes a text once.
func remember(texts map[string]string, key string, text func() string) string {
	if s, ok := texts[key]; ok {
		return s
	}
	if len(texts) >= maxPrinted {
		clear(texts)
	}
	texts[key] = text()
	return texts[key]
}

// pair is the wording of a sentence that the mark chooses.
func (w *writer) pair(n int) string { return pairs[n][w.lang][w.l.Mark.wording(n)] }

func (w *writer) line(s string) {
	w.b.WriteString(s)
	w.b.WriteByte('\n')
}

func (w *writer) block(s string) {
	w.b.WriteByte('\n')
	w.line(s)
}

func (w *writer) heading(s string) {
	w.block(s)
	w.line(strings.Repeat("-", width(s)))
}

// width is how many columns a terminal or a fixed-width mail takes: East Asian
// characters take two.
func width(s string) (n int) {
	for _, r := range s {
		n++
		if r >= 0x1100 {
			n++
		}
	}
	return n
}

// own is a text of the case in the letter's language. Its lines are kept, and
// nothing else that could move a cursor.
func (w *writer) own(t Text) string {
	s, _ := t.In(w.lang)
	return remember(w.owned, s, func() string {
		lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(cleanLong(lines[i]), " ")
		}
		return strings.Trim(strings.Join(lines, "\n"), "\n")
	})
}

// cleanLong is clean for a line of prose, which is not cut.
func cleanLong(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		cut := min(len(s), maxLine)
		for cut < len(s) && s[cut]&0xC0 == 0x80 {
			cut--
		}
		b.WriteString(strings.TrimSuffix(clean(s[:cut]), "…"))
		s = s[cut:]
	}
	return b.String()
}

func (w *writer) head() {
	tlp := TLP(w.l.Rung)
	w.line(w.say(keyHead, w.l.Notice, clean(w.l.To.Tenant)))
	if reaches(w.l.Rung, Public) {
		w.line(w.say(keyPublic, tlp))
	} else {
		w.line(w.say(keyPrivate, tlp))
	}
}

func (w *writer) why(title string) {
	c := w.l.Content
	if p := w.l.Purpose; p != "" && p != ForNotice {
		w.block(w.say("why-"+string(p), numbers(w.l.Open)))
	}
	w.block(clean(title))
	if c.Severity != "" {
		w.line(w.say(keySeverity, w.say("severity-"+c.Severity)))
	}
	w.block(w.say(keyConcerned, len(w.ids()), clean(c.Product)) + w.gap() + w.pair(0))
	if w.fallsBack() {
		w.block(w.say(keyEnglish))
	}
	w.block(w.own(c.Summary))
	if reaches(w.l.Rung, Public) && c.Advisory != "" {
		w.block(w.say(keyAdvisory, c.Advisory))
	}
	if reaches(w.l.Rung, Details) && c.Detail[English] != "" {
		w.block(w.own(c.Detail))
	}
}

// gap is what stands between two sentences.
func (w *writer) gap() string {
	if w.lang == Japanese {
		return ""
	}
	return " "
}

// ids are the resources' ids, each once: one resource may match for two reasons.
func (w *writer) ids() (ids []string) {
	for _, r := range w.l.To.Resources {
		ids = append(ids, r.ID)
	}
	return slices.Compact(ids) // they are sorted
}

// numbers writes step numbers: "1, 3".
func numbers(n []int) string {
	s := make([]string, len(n))
	for i := range n {
		s[i] = strconv.Itoa(n[i])
	}
	return strings.Join(s, ", ")
}

func (w *writer) steps() {
	steps := w.l.Content.Steps
	if len(steps) == 0 {
		w.block(w.say(keyNoSteps))
		return
	}
	w.heading(w.say(keySteps))
	w.line(w.pair(1))
	for i, s := range steps {
		number := strconv.Itoa(i+1) + ". "
		w.block(number + indent(w.own(s.Text), strings.Repeat(" ", len(number))))
		pad := strings.Repeat(" ", len(number))
		if c := s.Check; c != nil {
			w.line(pad + w.say(keyChecked, w.Check(*c)))
		} else {
			w.line(pad + w.say(keyAttest))
		}
	}
	w.block(w.pair(2) + w.gap() + w.pair(3))
}

func indent(s, by string) string { return strings.ReplaceAll(s, "\n", "\n"+by) }

func (w *writer) resources() {
	w.heading(w.say(keyResources))
	for i, r := range w.l.To.Resources {
		if i == maxShown {
			w.line(w.say(keyMore, len(w.l.To.Resources)-maxShown))
			break
		}
		name := clean(r.ID)
		if r.Name != "" {
			name = clean(r.Name) + " (" + name + ")"
		}
		w.line("- " + name + "  " + clean(r.Product) + " " + clean(r.Version))
		w.line("  " + clean(r.Reason))
	}
}

func (w *writer) foot() {
	w.block(w.pair(4))
	w.line(w.say(keyAnswer, w.l.Notice))
	w.block("-- ")
	w.line(w.pair(5) + w.gap() + w.say(keyMark, w.l.Mark.Code))
}
