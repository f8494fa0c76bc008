package notify

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strings"
)

// markAlphabet is Crockford's base 32: nothing in it is mistaken for another.
const markAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// Mark is what is in one recipient's edition and in nobody else's: a visible code
// of 40 bits, and the wordings chosen among pairs that mean the same. A page that
// was passed on names who passed it on even when the code was cut off.
type Mark struct {
	Code     string // "4F7K-9Q2M"
	wordings [sha256.Size]byte
}

// NewMark derives the mark of one tenant's notices of one case. The key is the
// server's own; without it nobody can tell or forge a mark.
func NewMark(key []byte, caseID int64, tenant string) Mark {
	h := hmac.New(sha256.New, key)
	var id [8]byte
	for i := range id {
		id[i] = byte(uint64(caseID) >> (8 * i))
	}
	h.Write([]byte("headgate notice mark\x00"))
	h.Write(id[:])
	h.Write([]byte(tenant))
	var m Mark
	h.Sum(m.wordings[:0])
	var b [9]byte
	bits := uint64(0)
	for _, c := range m.wordings[24:29] {
		bits = bits<<8 | uint64(c)
	}
	for i := 8; i >= 0; i-- {
		if i == 4 {
			b[i] = '-'
			continue
		}
		b[i] = markAlphabet[bits&31]
		bits >>= 5
	}
	m.Code = string(b[:])
	return m
}

// wording is which of two wordings the pair of this number takes: 0 or 1.
func (m Mark) wording(pair int) int { return int(m.wordings[pair/8] >> (pair % 8) & 1) }

// Suspect is a tenant whose edition a leaked text may come from.
type Suspect struct {
	Tenant string
	ByCode bool // the code itself is in the text
	Agree  int  // wordings of the text that are this tenant's
	Differ int  // wordings of the text that are the other one
}

// Trace compares a leaked text with the marks of all recipients. Those whose code
// it shows come first; without a code, those with no differing wording remain, if
// the text shows any wording at all. It accuses nobody: a text may be quoted from
// another, and few wordings say little.
func Trace(text string, marks map[string]Mark) (out []Suspect) {
	text = squeeze(text)
	for tenant, m := range marks {
		s := Suspect{Tenant: tenant, ByCode: strings.Contains(text, m.Code)}
		for i, p := range pairs {
			for _, l := range []Language{English, Japanese} {
				for side := range 2 {
					if !strings.Contains(text, squeeze(p[l][side])) {
						continue
					}
					if side == m.wording(i) {
						s.Agree++
					} else {
						s.Differ++
					}
				}
			}
		}
		if s.ByCode || (s.Differ == 0 && s.Agree > 0) {
			out = append(out, s)
		}
	}
	sortSuspects(out)
	return out
}

// squeeze drops white space: a text that was pasted elsewhere is wrapped anew.
func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

// sortSuspects puts first whom the text names most plainly.
func sortSuspects(s []Suspect) {
	slices.SortFunc(s, func(a, b Suspect) int {
		if a.ByCode != b.ByCode {
			if a.ByCode {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Differ, b.Differ), cmp.Compare(b.Agree, a.Agree), cmp.Compare(a.Tenant, b.Tenant))
	})
}
