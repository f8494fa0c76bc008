package recorded

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// ReadParquet reads records from a Parquet file: flat columns of strings, named
// as in CSV; times are strings (RFC 3339) or timestamps. Errors name the row,
// from 1.
func ReadParquet(r io.ReaderAt, size int64) (out []Record, err error) {
	// The decoder panics on some files that are not what they say.
	defer func() {
		if broken := recover(); broken != nil {
			out, err = nil, fmt.Errorf("parquet: %v: %w", broken, ErrInvalid)
		}
	}()
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("parquet: %w: %w", err, ErrInvalid)
	}
	if n := f.NumRows(); n < 0 || n > MaxRecords {
		return nil, fmt.Errorf("parquet: %d rows, limit %d: %w", n, MaxRecords, ErrInvalid)
	}
	var names []string
	for _, field := range f.Schema().Fields() {
		if !field.Leaf() || field.Repeated() {
			return nil, fmt.Errorf("parquet: column %q is nested; want flat columns: %w", field.Name(), ErrInvalid)
		}
		names = append(names, field.Name())
	}
	c, err := layout(names)
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	units := make([]time.Duration, len(names))
	for i, field := range f.Schema().Fields() {
		if units[i], err = unit(field); err != nil {
			return nil, fmt.Errorf("parquet: column %q: %w: %w", field.Name(), err, ErrInvalid)
		}
	}
	rows := parquet.NewReader(f)
	defer rows.Close()
	buf := make([]parquet.Row, 256)
	for {
		n, err := rows.ReadRows(buf)
		for _, row := range buf[:n] {
			rec, err := c.row(row, units)
			if err != nil {
				return nil, fmt.Errorf("row %d: %w: %w", len(out)+1, err, ErrInvalid)
			}
			if out = append(out, rec); len(out) > MaxRecords {
				return nil, fmt.Errorf("row %d: more than %d records: %w", len(out), MaxRecords, ErrInvalid)
			}
		}
		if errors.Is(err, io.EOF) {
			return out, distinct(out, func(i int) string { return fmt.Sprint("row ", i+1) })
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w: %w", len(out)+1, err, ErrInvalid)
		}
	}
}

// unit is that of a timestamp column, 0 for a string.
func unit(field parquet.Field) (time.Duration, error) {
	switch field.Type().Kind() {
	case parquet.ByteArray:
		return 0, nil
	case parquet.Int64:
		if l := field.Type().LogicalType(); l != nil {
			if ts, ok := l.Value.(*format.TimestampType); ok {
				return ts.Unit.Value.Duration(), nil
			}
		}
	}
	return 0, errors.New("want strings or timestamps")
}

// row makes a record of a row: its values as text, timestamps included.
func (c columns) row(row parquet.Row, units []time.Duration) (Record, error) {
	fields := make([]string, len(units))
	for _, v := range row {
		i := v.Column()
		if i < 0 || i >= len(fields) || v.IsNull() {
			continue
		}
		if units[i] == 0 {
			fields[i] = string(v.ByteArray())
			continue
		}
		if i != c.exposed && i != c.outcomeAt {
			return Record{}, fmt.Errorf("column %d holds a time; only exposed_at and outcome_at may", i+1)
		}
		fields[i] = after(v.Int64(), units[i]).Format(time.RFC3339Nano)
	}
	return c.text(fields)
}

// after is so many units after 1970.
func after(n int64, unit time.Duration) time.Time {
	per := int64(time.Second / unit)
	return time.Unix(n/per, n%per*int64(unit)).UTC()
}
