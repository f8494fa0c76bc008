package server

import (
	"fmt"
	"os"
	"time"
	_ "time/tzdata" // a business calendar's zone must not depend on the machine

	"github.com/headgate/headgate/psirt"
)

// readClocks reads a policy of deadlines.
func readClocks(path string) (p psirt.ClockPolicy, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read clocks_file: %w", err)
	}
	if p, err = psirt.ParseClockPolicy(b, time.LoadLocation); err != nil {
		return p, fmt.Errorf("clocks_file %s: %w", path, err)
	}
	return p, nil
}
