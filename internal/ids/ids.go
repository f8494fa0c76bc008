// Package ids makes identifiers that sort by time and need no coordination: 41
// bits of milliseconds and 22 random bits, written in Crockford's base 32.
package ids

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Epoch is the first instant that an identifier can carry; 41 bits last until 2094.
var epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// New makes an identifier at now. It is positive and fits a BIGINT.
func New(now time.Time) int64 {
	var b [4]byte
	rand.Read(b[:]) // never fails: it aborts the program instead
	return now.Sub(epoch).Milliseconds()<<22 | int64(binary.BigEndian.Uint32(b[:])&(1<<22-1))
}

// Format writes id behind a prefix: Format("E", 1) is "E-0000000000001".
func Format(prefix string, id int64) string {
	var b [13]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = alphabet[id&31]
		id >>= 5
	}
	return prefix + "-" + string(b[:])
}

// Parse reads what Format wrote.
func Parse(prefix, s string) (int64, error) {
	rest, ok := strings.CutPrefix(s, prefix+"-")
	if !ok || len(rest) != 13 {
		return 0, fmt.Errorf("id %q: want %s- and 13 characters", s, prefix)
	}
	var id int64
	for i := range len(rest) {
		v := strings.IndexByte(alphabet, rest[i])
		if v < 0 || (i == 0 && v > 7) {
			return 0, fmt.Errorf("id %q: character %d is not of an id", s, i+len(prefix)+2)
		}
		id = id<<5 | int64(v)
	}
	return id, nil
}

// Random makes an identifier that tells nothing: neither when it was made nor how
// many there are. It is positive and fits a BIGINT.
func Random() int64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails: it aborts the program instead
		if id := int64(binary.BigEndian.Uint64(b[:]) >> 1); id > 0 {
			return id
		}
	}
}
