package server

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/store"
)

// checksEvery is how often the server looks for new checks, and checkEvery how
// often an endpoint looks at each.
const (
	checksEvery = 5 * time.Second
	checkEvery  = time.Minute
)

// checks holds what endpoints are asked to check. A beacon costs one look into a
// map, and no query: most endpoints are asked for nothing.
type checks struct {
	store *store.Store
	every time.Duration
	log   *slog.Logger

	version string // of what asked holds; only run touches it
	asked   atomic.Pointer[map[int64][]*headgatev1.Check]
}

// of is what one endpoint is asked to check.
func (c *checks) of(endpoint int64) []*headgatev1.Check {
	if m := c.asked.Load(); m != nil {
		return (*m)[endpoint]
	}
	return nil
}

// run keeps the map up to date until ctx ends.
func (c *checks) run(ctx context.Context) {
	t := time.NewTicker(c.every)
	defer t.Stop()
	for {
		if err := c.refresh(ctx); err != nil && ctx.Err() == nil {
			c.log.LogAttrs(ctx, slog.LevelWarn, "cannot look for new checks", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (c *checks) refresh(ctx context.Context) error {
	version, err := c.store.ChecksVersion(ctx)
	if err != nil || version == c.version {
		return err
	}
	all, err := c.store.AskedChecks(ctx)
	if err != nil {
		return err
	}
	asked := map[int64][]*headgatev1.Check{}
	for _, a := range all {
		if len(asked[a.Endpoint]) == release.MaxChecks {
			continue // the newest notices wait until older ones end
		}
		asked[a.Endpoint] = append(asked[a.Endpoint], &headgatev1.Check{
			Id: checkID(a.Notice, a.Step), Kind: string(a.Check.Kind), Product: a.Check.Product, Probe: a.Check.Probe, Want: a.Check.Want,
			EveryUs: checkEvery.Microseconds(),
		})
	}
	c.asked.Store(&asked)
	c.version = version
	return nil
}

// checkID names the check of a notice's step.
func checkID(notice int64, step int) string {
	return store.NoticeID(notice) + "/" + strconv.Itoa(step)
}

func parseCheckID(id string) (notice int64, step int, err error) {
	n, s, _ := strings.Cut(id, "/")
	if notice, err = ids.Parse("N", n); err == nil {
		step, err = strconv.Atoi(s)
	}
	return notice, step, err
}

// takeChecks keeps what an endpoint says of the checks that it was asked for. What
// it was not asked for is left out, and so is what nobody can tell: a step is done
// when it is known to be, and opens again when it is known not to be.
func (s agentService) takeChecks(ctx context.Context, endpoint int64, results []*headgatev1.CheckResult) error {
	if len(results) > release.MaxChecks {
		return invalid(fmt.Errorf("check_results: %d of them, limit %d", len(results), release.MaxChecks))
	}
	mine := map[string]bool{}
	for _, c := range s.checks.of(endpoint) {
		mine[c.Id] = true
	}
	now := s.cfg.Now()
	var out []store.CheckResult
	for i, r := range results {
		if len(r.GetReason()) > maxReason {
			return invalid(fmt.Errorf("check_results[%d].reason: %d bytes, limit %d", i, len(r.Reason), maxReason))
		}
		passed := r.GetState() == headgatev1.CheckState_CHECK_STATE_PASSED
		if !mine[r.GetId()] || !passed && r.GetState() != headgatev1.CheckState_CHECK_STATE_FAILED {
			continue
		}
		notice, step, err := parseCheckID(r.Id)
		if err != nil {
			return invalid(fmt.Errorf("check_results[%d].id: %w", i, err))
		}
		out = append(out, store.CheckResult{Notice: notice, Step: step, Resource: ids.Format("E", endpoint), Passed: passed, At: now})
	}
	if len(out) == 0 {
		return nil
	}
	if err := s.store.RecordChecks(ctx, out, now); err != nil {
		return s.fail(ctx, "keep the results of checks", err)
	}
	return nil
}
