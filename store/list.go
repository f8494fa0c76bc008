package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// list is a statement over many rows at once: head, n times row with commas
// between, tail. $1 to $fixed are the same for all rows; each "?" in row is a
// parameter of its own.
type list struct {
	head, row, tail string
	fixed           int
	// pad: a row may be repeated without harm, so that lists are rounded up to a
	// length of listSizes instead of being cut into several.
	pad bool
	// of are the types of a row's parameters. PostgreSQL then gets each column as
	// one array, whatever its length: a statement with a thousand parameters costs
	// it more to start than to run.
	of string
}

// listSizes are the lengths of lists, so that few different statements are
// ever prepared.
var listSizes = []int{256, 64, 16, 4, 1}

// arrays tells whether l's rows are sent as an array for each column.
func (d dialect) arrays(l *list) bool { return d.numbered && l.of != "" }

// renderArrays gives the text for any number of rows: "VALUES" becomes a SELECT
// from arrays, "IN (...)" becomes "= ANY (...)".
func (l *list) renderArrays() string {
	var arrays, names []string
	for i, t := range strings.Fields(l.of) {
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", l.fixed+1+i, t))
		names = append(names, fmt.Sprintf("c%d", i+1))
	}
	if head, ok := strings.CutSuffix(l.head, "IN ("); ok && l.row == "?" {
		return head + "= ANY (" + arrays[0] + l.tail
	}
	row := strings.TrimSuffix(strings.TrimPrefix(l.row, "("), ")")
	for _, name := range names {
		row = strings.Replace(row, "?", "u."+name, 1)
	}
	return fmt.Sprintf("%sSELECT %s FROM unnest(%s) AS u(%s)%s",
		strings.TrimSuffix(l.head, "VALUES "), row, strings.Join(arrays, ", "), strings.Join(names, ", "), l.tail)
}

// columns turns rows into a slice for each column.
func (l *list) columns(rows []any) ([]any, error) {
	types := strings.Fields(l.of)
	out := make([]any, len(types))
	for i, t := range types {
		var err error
		switch t {
		case "BIGINT":
			out[i], err = column[int64](rows, i, len(types))
		case "TEXT":
			out[i], err = column[string](rows, i, len(types))
		case "BOOLEAN":
			out[i], err = column[bool](rows, i, len(types))
		default:
			err = fmt.Errorf("a list of %s: %w", t, ErrInvalid)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func column[T any](rows []any, at, per int) ([]T, error) {
	out := make([]T, 0, len(rows)/per)
	for i := at; i < len(rows); i += per {
		v, ok := rows[i].(T)
		if !ok {
			return nil, fmt.Errorf("parameter %d of a list is %T: %w", i+1, rows[i], ErrInvalid)
		}
		out = append(out, v)
	}
	return out, nil
}

// render gives the text for n rows. SQLite numbers a bare "?" one above the
// highest before it, so that only the first needs its number.
func (l *list) render(d dialect, n int) string {
	var b strings.Builder
	next := l.fixed
	write := func(text string) {
		for _, r := range text {
			switch {
			case r == '$' && !d.numbered:
				b.WriteByte('?')
			case r == '?':
				next++
				if d.numbered {
					fmt.Fprintf(&b, "$%d", next)
				} else if b.WriteByte('?'); next == l.fixed+1 {
					fmt.Fprint(&b, next)
				}
			default:
				b.WriteRune(r)
			}
		}
	}
	write(l.head)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		write(l.row)
	}
	write(l.tail)
	return b.String()
}

// prepare renders and prepares what the hot path runs.
func (s *Store) prepare(ctx context.Context) error {
	texts := append([]string(nil), hotTexts...)
	for _, l := range hotLists {
		if s.dialect.arrays(l) {
			s.texts[l] = []string{l.renderArrays()}
			continue // never prepared by us
		}
		for _, n := range listSizes {
			s.texts[l] = append(s.texts[l], l.render(s.dialect, n))
		}
		texts = append(texts, s.texts[l]...)
	}
	if !s.dialect.prepare {
		return nil
	}
	for _, text := range texts {
		st, err := s.write.PrepareContext(ctx, text)
		if err != nil {
			return fmt.Errorf("prepare %.60q: %w", text, err)
		}
		s.prepared[text] = st
	}
	return nil
}

// cut calls f with the text and parameters of one piece of rows after another.
// rows holds per parameters for each row.
func (c conn) cut(l *list, fixed, rows []any, f func(text string, args []any) error) error {
	if c.s.dialect.arrays(l) && len(rows) > 0 {
		columns, err := l.columns(rows)
		if err != nil {
			return err
		}
		return f(c.s.texts[l][0], append(append(make([]any, 0, len(fixed)+len(columns)), fixed...), columns...))
	}
	per := strings.Count(l.row, "?")
	for n := len(rows) / per; n > 0; n = len(rows) / per {
		size, at := fit(n, l.pad)
		take := min(n, size)
		args := append(append(make([]any, 0, len(fixed)+size*per), fixed...), rows[:take*per]...)
		for range size - take {
			args = append(args, rows[(take-1)*per:take*per]...)
		}
		if err := f(c.s.texts[l][at], args); err != nil {
			return err
		}
		rows = rows[take*per:]
	}
	return nil
}

// fit chooses the list length for n rows: the least that holds them if rows
// may be repeated and that does not double the work, else the greatest that
// they fill.
func fit(n int, pad bool) (size, at int) {
	for i, s := range listSizes {
		if n >= s {
			return s, i
		}
		if pad && n > listSizes[i+1] && n*2 > s {
			return s, i
		}
	}
	panic("store: a list of no rows")
}

// execList runs l over rows and returns how many rows it changed.
func (c conn) execList(ctx context.Context, l *list, fixed, rows []any) (changed int64, err error) {
	err = c.cut(l, fixed, rows, func(text string, args []any) error {
		n, err := c.exec(ctx, text, args...)
		changed += n
		return err
	})
	return changed, err
}

// queryList runs l over rows and calls f on each row found.
func (c conn) queryList(ctx context.Context, l *list, fixed, rows []any, f func(*sql.Rows) error) error {
	return c.cut(l, fixed, rows, func(text string, args []any) error {
		r, err := c.rows(ctx, text, args...)
		return each(r, err, func() error { return f(r) })
	})
}

// hotLists and hotTexts are what Open prepares.
var hotLists = []*list{listCovering,
	listEndpoints, listTenants, listExposures, listDomains, listGrant, listProve, listCount, listVitals, listRefuse, listInstalled, listFirst, listWell, listStillQuiet, listHashes, listInstallations,
	listNotices, listMessages, listDeliveries,
	listDeferred, listDeferredGroups,
	listComponents, listIntervals, listSeen, listMeasured,
}

var hotTexts = []string{textGate, textTotal, textNew, textTally, textMove, textCohorts, textCohort, textWatching, textHead, textMoveHead, textEntry, textHash, textLimits, textNewer, textPublished}
