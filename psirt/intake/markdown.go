package intake

import (
	"bytes"
	"fmt"
	"html"
	"net/url"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
)

// policy is what a reporter's Markdown may become: text, lists, code, quotes,
// tables and links that tell the other side nothing. No image, because fetching
// one tells its owner who reads the report, and when.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "del")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("mailto")
	// Without a host a browser would take it for an address of our own.
	for _, scheme := range []string{"https", "http"} {
		p.AllowURLSchemeWithCustomPolicy(scheme, func(u *url.URL) bool { return u.Host != "" })
	}
	p.AllowRelativeURLs(false)
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	return p
})

// maxMarkdown is the longest text that is rendered; a longer one is shown as it
// is. Rendering takes at most a few milliseconds for each of its kilobytes.
const maxMarkdown = MaxText

// HTML is a reporter's Markdown as HTML that is safe to show: without scripts,
// styles, images, frames, forms or raw HTML of the reporter's.
func HTML(markdown string) string {
	markdown = strings.ToValidUTF8(markdown, "\ufffd")
	if len(markdown) > maxMarkdown || tangled(markdown) {
		return "<pre>" + html.EscapeString(markdown) + "</pre>"
	}
	var b bytes.Buffer
	if err := goldmark.Convert([]byte(markdown), &b); err != nil {
		panic(fmt.Sprintf("intake: goldmark failed to write to memory: %v", err))
	}
	return string(policy().SanitizeBytes(b.Bytes()))
}

// tangled tells a text that costs a Markdown parser more than it is worth: very
// many openings that are never closed.
func tangled(s string) bool {
	const many = 4000
	n := 0
	for i := range len(s) {
		switch s[i] {
		case '[', '<', '*', '_', '`', '>', '!':
			n++
		}
	}
	return n > many
}
