package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/sim/pacing"
)

// draw writes the drawings of a simulation to a folder: the window over time,
// harm against speed for each fault, and the distance to the limit.
func (a *app) draw(dir string, f *pacing.Fleet, policies []pacing.Policy, faults []pacing.Fault, rows []pacing.Row, s simulation) error {
	limit, err := pacing.DistanceToLimit(s.endpoints, policies, rows, faults[0].Name)
	if err != nil {
		return err
	}
	flash, err := rollout.Preset("flash")
	if err != nil {
		return err
	}
	b := flash.Budget
	steps := rollout.LimitLadder(s.endpoints, b.Horizons[0].Budget(s.endpoints), b.Baseline, b.Delta)
	charts := map[string]pacing.Chart{
		"window.svg": pacing.Windows(f, policies, faults[0], s.first, steps),
		"limit.svg":  limit,
	}
	good := slices.IndexFunc(faults, pacing.Fault.Good)
	for _, x := range faults {
		if good < 0 || x.Good() {
			continue
		}
		charts["harm-"+strings.ReplaceAll(x.Name, "%", "")+".svg"] = pacing.HarmAgainstTime(rows, faults[good].Name, x.Name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write drawings: %w", err)
	}
	for name, c := range charts {
		var svg bytes.Buffer
		if err := c.SVG(&svg); err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
		if err := atomicfile.Write(filepath.Join(dir, name), svg.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write drawings: %w", err)
		}
	}
	a.say("%d drawings are in %s.", len(charts), dir)
	return nil
}
