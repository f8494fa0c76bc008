package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/psirt"
)

// EmbargoedFix is a case with an active embargo that a release is a fix of, and the
// case's revision.
type EmbargoedFix struct {
	Case     int64
	Revision int64
	psirt.Withheld
}

const textEmbargoedFix = `SELECT f.case_id, c.revision, f.until, f.opacity FROM embargoed_fix f JOIN psirt_case c ON c.id = f.case_id
	WHERE f.product = $1 AND f.version = $2 AND f.until > $3 ORDER BY f.case_id`

// EmbargoedFixes lists the cases with an active embargo that a release is a fix of:
// for the server itself, never for a caller.
func (s *Store) EmbargoedFixes(ctx context.Context, product, version string, now time.Time) (out []EmbargoedFix, err error) {
	err = s.inRead(ctx, "read embargoes", func(c conn) error {
		out, err = c.embargoedFixes(ctx, product, version, now)
		return err
	})
	return out, err
}

func (c conn) embargoedFixes(ctx context.Context, product, version string, now time.Time) (out []EmbargoedFix, err error) {
	rows, err := c.rows(ctx, textEmbargoedFix, product, version, micros(now))
	err = each(rows, err, func() error {
		var f EmbargoedFix
		var until int64
		if err := rows.Scan(&f.Case, &f.Revision, &until, &f.Most); err != nil {
			return err
		}
		f.Until = fromMicros(until)
		out = append(out, f)
		return nil
	})
	return out, err
}

// keepEmbargo brings what a case's embargo allows of its fixes up to date, and the
// rollouts of these fixes with it.
func (c conn) keepEmbargo(ctx context.Context, id int64, kase psirt.Case) error {
	if len(kase.Work.Fixes) == 0 {
		return nil // none ever is unbound
	}
	want := map[psirt.FixBound]psirt.Withheld{}
	if w := kase.Withheld(kase.Changed); !w.Until.IsZero() {
		for _, f := range kase.Work.Fixes {
			want[f] = w
		}
	}
	have := map[psirt.FixBound]psirt.Withheld{}
	rows, err := c.rows(ctx, `SELECT product, version, until, opacity FROM embargoed_fix WHERE case_id = $1`, id)
	err = each(rows, err, func() error {
		var f psirt.FixBound
		var w psirt.Withheld
		var until int64
		err := rows.Scan(&f.Product, &f.Version, &until, &w.Most)
		w.Until = fromMicros(until)
		have[f] = w
		return err
	})
	if err != nil || maps.EqualFunc(want, have, func(a, b psirt.Withheld) bool { return a.Most == b.Most && a.Until.Equal(b.Until) }) {
		return err
	}
	if _, err := c.exec(ctx, `DELETE FROM embargoed_fix WHERE case_id = $1`, id); err != nil {
		return err
	}
	for f, w := range want {
		if _, err := c.exec(ctx, `INSERT INTO embargoed_fix (product, version, case_id, until, opacity) VALUES ($1, $2, $3, $4, $5)`,
			f.Product, f.Version, id, micros(w.Until), string(w.Most)); err != nil {
			return err
		}
	}
	for _, f := range kase.Work.Fixes {
		if err := c.withhold(ctx, f, kase.Changed); err != nil {
			return err
		}
	}
	return nil
}

// withhold writes what all embargoes allow of a fix where its grants are given.
func (c conn) withhold(ctx context.Context, f psirt.FixBound, now time.Time) error {
	all, err := c.embargoedFixes(ctx, f.Product, f.Version, now)
	if err != nil {
		return err
	}
	var text []byte
	if len(all) > 0 {
		var w []psirt.Withheld
		for _, x := range all {
			w = append(w, x.Withheld)
		}
		if text, err = json.Marshal(w); err != nil {
			return err
		}
	}
	if _, err := c.exec(ctx, `UPDATE rollout SET withheld = $3 WHERE product = $1 AND version = $2`, f.Product, f.Version, string(text)); err != nil {
		return fmt.Errorf("withhold: %w", err)
	}
	return nil
}

func parseWithheld(text string) (out []psirt.Withheld, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("what embargoes allow: %w", err)
	}
	return out, nil
}

// checkLooked refuses to start a release that has become the fix of an embargoed case, or
// whose case has changed, since the caller looked at what the release shows.
func (c conn) checkLooked(ctx context.Context, st Start, now time.Time) error {
	all, err := c.embargoedFixes(ctx, st.Product, st.Version, now)
	if err != nil {
		return err
	}
	same := func(a EmbargoedFix, b EmbargoedFix) bool { return a.Case == b.Case && a.Revision == b.Revision }
	if !slices.EqualFunc(all, st.Looked, same) {
		return fmt.Errorf("start %s %s: something changed meanwhile; try again: %w", st.Product, st.Version, ErrConflict)
	}
	return nil
}

// SetOpacity says how much of what a tenant's endpoints run can be seen from
// outside. ErrNotFound.
func (s *Store) SetOpacity(ctx context.Context, name string, o psirt.Opacity, actor string, now time.Time) (t Tenant, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("set opacity of tenant %q", name), func(c conn) error {
		if t, err = c.tenant(ctx, name); err != nil || t.Opacity == o {
			return err
		}
		t.Opacity = o
		if _, err := c.exec(ctx, `UPDATE tenant SET opacity = $2 WHERE id = $1`, t.ID, string(o)); err != nil {
			return err
		}
		return c.note(ctx, now, "tenant.changed", name, actor, map[string]any{"tenant": name, "opacity": o})
	})
	return t, err
}

// waits tells whether an embargo keeps a rollout's release from anybody.
func (c conn) waits(ctx context.Context, id int64, now time.Time) (bool, error) {
	var text string
	if err := c.row(ctx, `SELECT withheld FROM rollout WHERE id = $1`, id).Scan(&text); err != nil {
		return false, fmt.Errorf("read who waits: %w", err)
	}
	all, err := parseWithheld(text)
	return slices.ContainsFunc(all, func(w psirt.Withheld) bool { return w.From(psirt.PublicTarget, now) }), err
}
