package intake

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// inert lists what an HTML fragment holds that is not plain text and structure.
func inert(t *testing.T, fragment string) (bad []string) {
	t.Helper()
	allowed := map[string]bool{}
	for _, e := range strings.Fields("p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a") {
		allowed[e] = true
	}
	z := html.NewTokenizer(strings.NewReader(fragment))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return bad
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			if !allowed[tok.Data] {
				bad = append(bad, tok.String())
			}
			for _, a := range tok.Attr {
				href := tok.Data == "a" && a.Key == "href" && (strings.HasPrefix(a.Val, "https://") || strings.HasPrefix(a.Val, "http://") || strings.HasPrefix(a.Val, "mailto:"))
				if !href && (a.Key != "rel" || tok.Data != "a") {
					bad = append(bad, tok.String())
				}
			}
		case html.CommentToken, html.DoctypeToken:
			bad = append(bad, z.Token().String())
		}
	}
}

func TestReportersMarkdownIsNeverActive(t *testing.T) {
	got := HTML("# Title\n\n* **bold** `code`\n\n[link](https://x.example \"t\") <https://y.example>\n\n```go\nx := 1\n```\n")
	for _, want := range []string{"<h1>", "<strong>bold</strong>", "<code>code</code>", `href="https://x.example"`, "nofollow", "noreferrer", "x := 1"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	for _, evil := range []string{
		"<script>alert(1)</script>", "![p](https://spy.example/pixel.png)", "[x](javascript:alert(1))", "[x](data:text/html,x)", "[x](/report/secret)", "[x](//y.example)",
		"<img src=x onerror=alert(1)>", "<iframe src=https://x.example></iframe>", "<svg/onload=alert(1)>", "<form action=https://x.example><input></form>", "<style>*{}</style>",
		"<a href='https://x.example' onclick='x()'>x</a>", "<!-- x -->", "[x](https://x.example' onclick='x)", "[a]: javascript:x\n\n[a]", strings.Repeat("[", 10000), strings.Repeat("<", MaxText),
	} {
		if bad := inert(t, HTML(evil)); bad != nil {
			t.Errorf("%.40q: %q", evil, bad)
		}
	}
}

// What a stranger sends must not occupy a core.
func TestRenderingTakesBoundedTime(t *testing.T) {
	for _, unit := range []string{"[", "![", "[a](", "*a_ ", "> ", "`", "<a", "a\n\n", "- ", "|a|b|\n", "[a]: b\n", "\\", "&amp;", "****a"} {
		text := strings.Repeat(unit, maxMarkdown/len(unit))
		if tangled(text) {
			text = strings.Repeat(unit, 3900/strings.Count(strings.Map(opening, unit), "x"))
		}
		began := time.Now()
		HTML(text)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%q: %s", unit, took)
		}
	}
}

// opening maps what tangled counts to x.
func opening(r rune) rune {
	if strings.ContainsRune("[<*_`>!", r) {
		return 'x'
	}
	return ' '
}

func FuzzHTML(f *testing.F) {
	f.Add("# a\n[b](https://c.example)")
	f.Add("<a href=\"javascript:x\">")
	f.Fuzz(func(t *testing.T, s string) {
		if bad := inert(t, HTML(s)); bad != nil {
			t.Fatalf("%q", bad)
		}
	})
}

func TestSecurityTxtHasWhatRFC9116Demands(t *testing.T) {
	s := SecurityTxt{Contact: []string{"https://h.example/report", "mailto:s@h.example"}, Encryption: []string{"https://h.example/key.asc"},
		CSAF: []string{"https://h.example/.well-known/csaf/provider-metadata.json"}, Languages: []string{"en", "ja"}, Life: 30 * 24 * time.Hour}
	b, expires, err := s.Text(noon)
	if err != nil {
		t.Fatal(err)
	}
	want := "Contact: https://h.example/report\nContact: mailto:s@h.example\nEncryption: https://h.example/key.asc\n" +
		"CSAF: https://h.example/.well-known/csaf/provider-metadata.json\nPreferred-Languages: en, ja\nExpires: 2026-04-03T12:00:00Z\n"
	if string(b) != want {
		t.Errorf("%s", b)
	}
	if s.Stale(expires, noon) || s.Stale(expires, noon.Add(15*24*time.Hour)) || !s.Stale(expires, noon.Add(15*24*time.Hour+time.Second)) {
		t.Error("it must be renewed when half its life is over, and not before")
	}
	for name, bad := range map[string]SecurityTxt{
		"no contact": {Life: time.Hour}, "no life": {Contact: s.Contact}, "too long": {Contact: s.Contact, Life: 400 * 24 * time.Hour},
		"http": {Contact: []string{"http://h.example"}, Life: time.Hour}, "injection": {Contact: []string{"https://h.example\nExpires: x"}, Life: time.Hour},
		"no URI": {Contact: []string{"s@h.example"}, Life: time.Hour}, "languages": {Contact: s.Contact, Languages: []string{"en\nx"}, Life: time.Hour},
	} {
		if _, _, err := bad.Text(noon); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
