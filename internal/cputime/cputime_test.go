//go:build unix

package cputime

import (
	"testing"
	"time"
)

// Work counts, and waiting does not.
func TestWorkCountsAndWaitingDoesNot(t *testing.T) {
	before := Used()
	n := 0
	for began := time.Now(); Used()-before < 20*time.Millisecond; n++ {
		if time.Since(began) > 20*time.Second {
			t.Fatal("20 s of work, and no 20 ms of processor time")
		}
	}
	before = Used()
	time.Sleep(200 * time.Millisecond)
	if d := Used() - before; d > 150*time.Millisecond {
		t.Errorf("200 ms of waiting took %s of processor time", d)
	}
}
