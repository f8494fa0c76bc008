package rollout

import (
	"fmt"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

// utc reads an instant.
func utc(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func windows(t testing.TB, ws ...Window) []Window {
	t.Helper()
	for i := range ws {
		if err := ws[i].resolve(time.LoadLocation); err != nil {
			t.Fatal(err)
		}
	}
	return ws
}

// The wall clock rules, where it jumps too. In 2026 Berlin skips 02:00 to 03:00 on
// 29 March (01:00 UTC) and has it twice on 25 October (00:00 to 02:00 UTC); Lord
// Howe moves by half an hour; New York skips on 8 March and repeats on 1 November;
// Apia is 13 hours ahead.
func TestWindowsFollowTheWallClockThroughSummerTime(t *testing.T) {
	weekly := func(zone, day, from, to string) Window {
		return Window{Zone: zone, Days: []string{day}, From: from, To: to}
	}
	for _, c := range []struct {
		name  string
		w     Window
		at    string // UTC
		opens string // UTC; empty is open at that time
	}{
		{"open in winter", Window{Zone: "Europe/Berlin", From: "22:00", To: "04:00"}, "2026-01-10T21:00", ""},
		{"closed just before", Window{Zone: "Europe/Berlin", From: "22:00", To: "04:00"}, "2026-01-10T20:59", "2026-01-10T21:00"},
		{"its end is not in it", Window{Zone: "Europe/Berlin", From: "22:00", To: "04:00"}, "2026-01-10T03:00", "2026-01-10T21:00"},
		{"an hour earlier by UTC in summer", Window{Zone: "Europe/Berlin", From: "22:00", To: "04:00"}, "2026-07-10T19:59", "2026-07-10T20:00"},
		{"past midnight belongs to the day it opens on", weekly("Europe/Berlin", "sat", "22:00", "04:00"), "2026-01-11T02:59", ""},
		{"and closes on the next", weekly("Europe/Berlin", "sat", "22:00", "04:00"), "2026-01-11T03:00", "2026-01-17T21:00"},
		{"a night that loses an hour", weekly("Europe/Berlin", "sat", "22:00", "04:00"), "2026-03-29T01:59", ""},
		{"and ends by the clock", weekly("Europe/Berlin", "sat", "22:00", "04:00"), "2026-03-29T02:00", "2026-04-04T20:00"},
		{"a night that gains an hour", weekly("Europe/Berlin", "sat", "22:00", "04:00"), "2026-10-25T02:59", ""},
		{"a skipped hour does not open that week", weekly("Europe/Berlin", "sun", "02:00", "03:00"), "2026-03-29T00:59", "2026-04-05T00:00"},
		{"what begins in the skipped hour opens after it", weekly("Europe/Berlin", "sun", "02:30", "05:00"), "2026-03-29T00:59", "2026-03-29T01:00"},
		{"an hour that comes twice is open twice: first", weekly("Europe/Berlin", "sun", "02:00", "03:00"), "2026-10-25T00:30", ""},
		{"second", weekly("Europe/Berlin", "sun", "02:00", "03:00"), "2026-10-25T01:59", ""},
		{"then closed", weekly("Europe/Berlin", "sun", "02:00", "03:00"), "2026-10-25T02:00", "2026-11-01T01:00"},
		{"between two halves of the repeated hour", weekly("Europe/Berlin", "sun", "02:30", "03:00"), "2026-10-25T01:00", "2026-10-25T01:30"},
		{"New York skips", weekly("America/New_York", "sun", "02:00", "03:00"), "2026-03-08T06:59", "2026-03-15T06:00"},
		{"New York repeats", weekly("America/New_York", "sun", "01:00", "02:00"), "2026-11-01T06:30", ""},
		{"half an hour on Lord Howe", weekly("Australia/Lord_Howe", "sun", "02:00", "02:30"), "2026-10-03T15:00", "2026-10-10T15:00"},
		{"a day ahead in Apia", weekly("Pacific/Apia", "mon", "00:00", "24:00"), "2026-02-01T11:00", ""},
		{"UTC", weekly("UTC", "mon", "00:00", "24:00"), "2026-02-01T23:59", "2026-02-02T00:00"},
		{"a day without its midnight opens when it begins", weekly("America/Santiago", "sun", "00:00", "02:00"), "2026-09-06T03:59", "2026-09-06T04:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws, at := windows(t, c.w), utc(t, c.at)
			if open := openAt(ws, at); open != (c.opens == "") {
				t.Fatalf("open is %v at %s (%s)", open, at, at.In(ws[0].zone))
			}
			if c.opens == "" {
				return
			}
			if next := nextOpening(ws, at); !next.Equal(utc(t, c.opens)) {
				t.Errorf("opens next %s (%s), want %s", next, next.In(ws[0].zone), c.opens)
			}
		})
	}
}

// The next opening is right: closed all the way up to it, and open at it.
func TestTheNextOpeningIsTheFirst(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/Santiago"}
	rapid.Check(t, func(rt *rapid.T) {
		var ws []Window
		for range rapid.IntRange(1, 3).Draw(rt, "windows") {
			from := rapid.IntRange(0, 24*60-1).Draw(rt, "from")
			to := (from + rapid.IntRange(1, 24*60-1).Draw(rt, "length")) % (24 * 60)
			w := Window{Zone: rapid.SampledFrom(zones).Draw(rt, "zone"), From: fmt.Sprintf("%02d:%02d", from/60, from%60), To: fmt.Sprintf("%02d:%02d", to/60, to%60)}
			if rapid.Bool().Draw(rt, "weekly") {
				w.Days = []string{rapid.SampledFrom(dayNames).Draw(rt, "day")}
			}
			ws = append(ws, w)
		}
		ws = windows(t, ws...)
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		at := start.Add(time.Duration(rapid.IntRange(0, 366*24*60).Draw(rt, "minute")) * time.Minute)
		if openAt(ws, at) {
			return
		}
		next := nextOpening(ws, at)
		if next.IsZero() || !next.After(at) || !openAt(ws, next) {
			rt.Fatalf("%+v: after %s comes %s", ws, at, next)
		}
		for m := at; m.Before(next); m = m.Add(time.Minute) {
			if openAt(ws, m) {
				rt.Fatalf("%+v: said to open %s, and is open at %s", ws, next, m)
			}
		}
	})
}
