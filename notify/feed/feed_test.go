package feed

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// Whatever a notice holds, the feed is well-formed XML and its text is text.
func FuzzFeedIsWellFormed(f *testing.F) {
	f.Add("title", "body")
	f.Add("<script>", "]]></content><entry>\x00\xff￾")
	f.Fuzz(func(t *testing.T, title, body string) {
		b, err := Encode(Feed{Tenant: title, ID: "urn:headgate:tenant:t", Updated: at, Entries: []Entry{{Notice: "N-1", Title: title, Body: body, Published: at, Updated: at}}})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
			Entry   []struct {
				ID      string `xml:"id"`
				Title   string `xml:"title"`
				Updated string `xml:"updated"`
				Content struct {
					Type string `xml:"type,attr"`
					Text string `xml:",chardata"`
				} `xml:"content"`
			} `xml:"entry"`
		}
		if err := xml.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if len(got.Entry) != 1 || got.Entry[0].Title != clean(title) || got.Entry[0].Content.Text != clean(body) || got.Entry[0].Content.Type != "text" || got.Entry[0].ID != "urn:headgate:notice:N-1" {
			t.Fatalf("%+v\n%s", got, b)
		}
		if _, err := time.Parse(time.RFC3339, got.Entry[0].Updated); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTwoFeedsOfOneStateAreTheSameBytes(t *testing.T) {
	f := Feed{Tenant: "t", ID: "urn:headgate:tenant:t", Updated: at, Entries: []Entry{{Notice: "N-1", Title: "お知らせ", Body: "x", Published: at, Updated: at}}}
	one, err1 := Encode(f)
	two, err2 := Encode(f)
	if err1 != nil || err2 != nil || string(one) != string(two) || !strings.Contains(string(one), "お知らせ") {
		t.Errorf("%v %v\n%s\n%s", err1, err2, one, two)
	}
}
