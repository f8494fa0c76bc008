package feed

import (
	"encoding/xml"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mmcdole/gofeed"
	"github.com/mmcdole/gofeed/atom"
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

// A parser that feed readers are built with reads what was meant, and RFC 4287's
// musts hold: an id, a title and a time in the feed and in each entry, an author, ids
// that are absolute and not repeated.
func TestAReaderReadsTheFeed(t *testing.T) {
	in := Feed{Tenant: "example-corp", ID: "urn:headgate:tenant:example-corp", Updated: at, Entries: []Entry{
		{Notice: "N-2", Title: "acme/rules を今すぐ更新してください", Body: "1. 更新\n2. <b>鍵</b> & \"秘密\"\n", Published: at.Add(-time.Hour), Updated: at},
		{Notice: "N-1", Title: "Look for ]]> & <script>", Body: "Nothing to do.", Published: at.Add(-2 * time.Hour), Updated: at.Add(-2 * time.Hour)},
	}}
	b, err := Encode(in)
	if err != nil {
		t.Fatal(err)
	}
	if kind := gofeed.DetectFeedType(strings.NewReader(string(b))); kind != gofeed.FeedTypeAtom {
		t.Fatalf("it is taken for %v", kind)
	}
	got, err := (&atom.Parser{}).Parse(strings.NewReader(string(b)))
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if got.ID != in.ID || got.Title != "Headgate notices for example-corp" || got.UpdatedParsed == nil || !got.UpdatedParsed.Equal(at) || len(got.Authors) != 1 || got.Authors[0].Name == "" || len(got.Entries) != 2 {
		t.Fatalf("the reader reads %s", got)
	}
	ids := map[string]bool{}
	for i, e := range got.Entries {
		want := in.Entries[i]
		if e.Title != want.Title || e.Content == nil || strings.TrimSpace(e.Content.Value) != strings.TrimSpace(want.Body) || e.Content.Type != "text" ||
			!e.UpdatedParsed.Equal(want.Updated) || !e.PublishedParsed.Equal(want.Published) {
			t.Errorf("entry %d: the reader reads %+v of %+v", i, e, want)
		}
		if u, err := url.Parse(e.ID); err != nil || !u.IsAbs() || ids[e.ID] {
			t.Errorf("entry %d has id %q", i, e.ID)
		}
		ids[e.ID] = true
	}
}

// A feed without notices is one too.
func TestAnEmptyFeedIsRead(t *testing.T) {
	b, err := Encode(Feed{Tenant: "t", ID: "urn:headgate:tenant:t", Updated: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := gofeed.NewParser().ParseString(string(b))
	if err != nil || got.Title == "" || got.UpdatedParsed == nil || len(got.Items) != 0 {
		t.Errorf("%v, %v\n%s", got, err, b)
	}
}

func TestTwoFeedsOfOneStateAreTheSameBytes(t *testing.T) {
	f := Feed{Tenant: "t", ID: "urn:headgate:tenant:t", Updated: at, Entries: []Entry{{Notice: "N-1", Title: "お知らせ", Body: "x", Published: at, Updated: at}}}
	one, err1 := Encode(f)
	two, err2 := Encode(f)
	if err1 != nil || err2 != nil || string(one) != string(two) || !strings.Contains(string(one), "お知らせ") {
		t.Errorf("%v %v\n%s\n%s", err1, err2, one, two)
	}
}
