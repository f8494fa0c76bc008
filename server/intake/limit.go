package intake

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// limitedAddresses is how many addresses are remembered; the longest unseen goes.
	limitedAddresses = 100_000
	// maxUploads is how many bodies are read at once: each may take maxBody of memory.
	maxUploads = 8
	// looks is how many looks and messages go with one report of the limit.
	looks = 10
)

// limits hold how much may come from one address, and from all together.
type limits struct {
	reports, visits *lru.Cache[netip.Addr, *rate.Limiter]
	perReport       rate.Limit
	burst           int
	all             *rate.Limiter
}

func newLimits(perHour, overall int) *limits {
	cache := func() *lru.Cache[netip.Addr, *rate.Limiter] {
		c, err := lru.New[netip.Addr, *rate.Limiter](limitedAddresses)
		if err != nil {
			panic("intake: the memory of addresses has no room: " + err.Error())
		}
		return c
	}
	return &limits{
		reports: cache(), visits: cache(), perReport: rate.Limit(float64(perHour) / 3600), burst: perHour,
		all: rate.NewLimiter(rate.Limit(float64(overall)/3600), max(1, overall/10)),
	}
}

// report tells whether one more report may come from an address.
func (l *limits) report(a netip.Addr, now time.Time) bool {
	return of(l.reports, a, l.perReport, l.burst).AllowN(now, 1) && l.all.AllowN(now, 1)
}

// mayReport tells the same before a report is read: one that is refused for a slip
// counts as a look, so that whoever mistypes a field is not shut out.
func (l *limits) mayReport(a netip.Addr, now time.Time) bool {
	return of(l.reports, a, l.perReport, l.burst).TokensAt(now) >= 1 && l.all.TokensAt(now) >= 1 && l.visit(a, now)
}

// visit tells whether one more look or message may.
func (l *limits) visit(a netip.Addr, now time.Time) bool {
	return of(l.visits, a, l.perReport*looks, l.burst*looks).AllowN(now, 1)
}

func of(c *lru.Cache[netip.Addr, *rate.Limiter], a netip.Addr, r rate.Limit, burst int) *rate.Limiter {
	fresh := rate.NewLimiter(r, burst)
	if known, ok, _ := c.PeekOrAdd(a, fresh); ok {
		c.Get(a) // it was seen now
		return known
	}
	return fresh
}

// address is whom a request comes from. What a proxy says is believed of proxies
// that are named, from the nearest on. An IPv6 subscriber has a /64, not one
// address.
func address(r *http.Request, proxies []netip.Prefix) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	a := parseAddr(host)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) }) {
			break
		}
		next := parseAddr(strings.TrimSpace(hop))
		if !next.IsValid() {
			break
		}
		a = next
	}
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func parseAddr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}
