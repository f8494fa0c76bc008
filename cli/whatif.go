package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/sim/recorded"
)

// maxRecorded is the largest file of records in bytes.
const maxRecorded = 4 << 30

func (a *app) reviewWhatif() *cobra.Command {
	var names []string
	c := &cobra.Command{
		Use: "whatif FILE", Short: "Play policies over a recorded rollout", Args: cobra.ExactArgs(1),
		Long: `Play policies over the records of a rollout, ours or another product's: whom would
each have exposed, how many would have been harmed, when would it have stopped?
FILE is CSV or Parquet, a row for each endpoint: endpoint, exposed_at, outcome,
outcome_at, label.KEY. docs/simulation.md describes the columns, and what an
answer rests on. No server is needed.

  headgate review whatif rollout.csv
  headgate review whatif rollout.parquet --policy flash --policy mine.json -o json`,
		RunE: func(_ *cobra.Command, args []string) error {
			records, err := readRecords(args[0])
			if err != nil {
				return err
			}
			answers := []recorded.Answer{}
			for _, name := range names {
				p, err := readPolicy(name)
				if err != nil {
					return err
				}
				x, err := recorded.WhatIf(records, p)
				if err != nil {
					return err
				}
				answers = append(answers, x)
			}
			return a.whatif(answers)
		},
	}
	c.Flags().StringSliceVar(&names, "policy", []string{"flash", "standard"}, "presets or policy `files`, comma separated")
	return c
}

// readRecords reads a file by the end of its name.
func readRecords(path string) ([]recorded.Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecorded {
		return nil, fmt.Errorf("read %s: want a file of at most %d bytes", path, int64(maxRecorded))
	}
	var records []recorded.Record
	switch {
	case strings.HasSuffix(path, ".csv"):
		records, err = recorded.ReadCSV(io.LimitReader(f, maxRecorded))
	case strings.HasSuffix(path, ".parquet"):
		records, err = recorded.ReadParquet(f, info.Size())
	default:
		err = errors.New("want a name that ends in .csv or .parquet")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return records, nil
}

func (a *app) whatif(answers []recorded.Answer) error {
	err := a.result(answers, func(t *table) {
		t.row("POLICY", "EXPOSED", "HARMED", "OF RECORDED", "HALTED MIN", "99 % MIN", "LEFT OUT", "BECAUSE")
		for _, x := range answers {
			left := "-"
			if len(x.Segments) > 0 {
				left = strings.Join(x.Segments, ", ")
			}
			because, _, _ := strings.Cut(x.Reason, ":")
			t.row(x.Policy, x.Exposed, x.Harmed, x.RecordedHarmed, number(x.Halted), number(x.T99), left, because)
		}
	})
	if err == nil && a.format != "json" {
		a.say("This assumes that %s.", strings.Join(recorded.Assumptions, "; "))
	}
	return err
}
