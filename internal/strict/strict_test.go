package strict

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/span"
)

type base struct {
	ID string `json:"id"`
}

type shift struct {
	From span.Duration  `json:"from"`
	At   *time.Time     `json:"at"`
	Who  []string       `json:"who"`
	N    int            `json:"n"`
	By   map[string]int `json:"by"`
	Body []byte         `json:"body"`
	Hide string         `json:"-"`
	Next *shift         `json:"next"`
}

type roster struct {
	base
	Levels []struct {
		Shifts []shift `json:"shifts"`
	} `json:"levels"`
}

func TestErrorsNameThePlace(t *testing.T) {
	for in, want := range map[string]string{
		``:                                     "line 1, column 1: unexpected end",
		"{\n \"id\": ]":                        "line 2, column 8: invalid character ']'",
		`[]`:                                   "line 1, column 1: the whole: an array, want an object",
		`{"id": 7}`:                            "line 1, column 8: id: a number, want a string",
		"{\"id\": \"a\",\n\"levels\": {}}":     "line 2, column 11: levels: an object, want an array",
		`{"id": "a"} x`:                        "data after the JSON value",
		`{"pager": 1}`:                         "line 1, column 2: pager: unknown key",
		`{"Hide": ""}`:                         "Hide: unknown key",
		`{"base": {"id": "a"}}`:                "base: unknown key",
		`{"levels": [{}, {"shift": []}]}`:      "levels[1].shift: unknown key",
		`{"levels": [{"shifts": [{"-": 1}]}]}`: "levels[0].shifts[0].-: unknown key",
		"{\"levels\": [\n{\"shifts\": [{},\n {\"from\": 5}]}]}":    "line 3, column 11: levels[0].shifts[1].from: duration 5: want a text",
		`{"levels": [{"shifts": [{"at": "noon"}]}]}`:               "levels[0].shifts[0].at: parsing time",
		`{"levels": [{"shifts": [{"who": ["a", 1]}]}]}`:            "levels[0].shifts[0].who[1]: a number, want a string",
		`{"levels": [{"shifts": [{"n": 1.5}]}]}`:                   "n: a number 1.5, want a whole number",
		`{"levels": [{"shifts": [{"by": {"a": true}}]}]}`:          "by.a: a bool, want a whole number",
		`{"levels": [{"shifts": [{"body": "***"}]}]}`:              "body: illegal base64",
		`{"levels": [{"shifts": [{"next": {"next": {"x": 1}}}]}]}`: "levels[0].shifts[0].next.next.x: unknown key",
	} {
		var r roster
		if err := Decode([]byte(in), &r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", in, err, want)
		}
	}
}

func TestWhatFitsIsRead(t *testing.T) {
	var r roster
	in := `{"ID": "a", "levels": [{"shifts": [{"from": "1h", "at": "2026-01-02T03:04:05Z", "n": 3, "next": null, "by": {"x": 1}}]}]}` + "\n"
	if err := Decode([]byte(in), &r); err != nil || r.ID != "a" || r.Levels[0].Shifts[0].N != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"id": "a", "levels": [{"shifts": [{"from": "1h", "who": ["x"]}]}]}`)
	f.Fuzz(func(t *testing.T, in string) {
		var r roster
		err := Decode([]byte(in), &r)
		var again roster
		d := json.NewDecoder(strings.NewReader(in))
		d.DisallowUnknownFields()
		plain := d.Decode(&again)
		if plain != nil && err == nil {
			t.Fatalf("%q: read, where encoding/json says %v", in, plain)
		}
		var place *json.SyntaxError
		if err != nil && !strings.Contains(err.Error(), "line ") && !errors.As(err, &place) {
			t.Fatalf("%q: %v names no place", in, err)
		}
	})
}
