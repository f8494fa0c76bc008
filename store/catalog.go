package store

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
)

// Vendor is who signs for products.
type Vendor struct {
	Name      string
	Threshold int64
	Keys      int64
	Added     time.Time
}

// PutVendor records a vendor, or its new threshold and number of keys;
// repeating it changes nothing.
func (s *Store) PutVendor(ctx context.Context, v Vendor, actor string, now time.Time) (Vendor, error) {
	err := s.inWrite(ctx, fmt.Sprintf("put vendor %q", v.Name), func(c conn) error {
		changed, err := c.putVendor(ctx, &v, now)
		if err != nil || !changed {
			return err
		}
		return c.note(ctx, now, "vendor.put", v.Name, actor, map[string]any{"vendor": v.Name, "threshold": v.Threshold, "keys": v.Keys})
	})
	return v, err
}

// putVendor records v, gives it its time, and tells whether anything changed.
func (c conn) putVendor(ctx context.Context, v *Vendor, now time.Time) (bool, error) {
	old, err := c.vendors(ctx, `SELECT name, threshold, keys, added FROM vendor WHERE name = $1`, v.Name)
	if err != nil {
		return false, err
	}
	v.Added = now.UTC().Truncate(time.Microsecond)
	if len(old) > 0 {
		v.Added = old[0].Added
		if old[0] == *v {
			return false, nil
		}
	}
	_, err = c.exec(ctx, `INSERT INTO vendor (name, threshold, keys, added) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET threshold = excluded.threshold, keys = excluded.keys`, v.Name, v.Threshold, v.Keys, micros(v.Added))
	return true, err
}

func (c conn) vendors(ctx context.Context, text string, args ...any) (out []Vendor, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var v Vendor
		var added int64
		if err := rows.Scan(&v.Name, &v.Threshold, &v.Keys, &added); err != nil {
			return err
		}
		v.Added = fromMicros(added)
		out = append(out, v)
		return nil
	})
	return out, err
}

// ListVendors lists all vendors by name.
func (s *Store) ListVendors(ctx context.Context) (out []Vendor, err error) {
	err = s.inRead(ctx, "list vendors", func(c conn) error {
		out, err = c.vendors(ctx, `SELECT name, threshold, keys, added FROM vendor ORDER BY name`)
		return err
	})
	return out, err
}

// Product is what is updated.
type Product struct {
	Name        string // "vendor/product"
	Description string
	Added       time.Time
}

// AddProduct records a product, or its new description; repeating it changes
// nothing. ErrNotFound if there is no such vendor.
func (s *Store) AddProduct(ctx context.Context, p Product, actor string, now time.Time) (Product, error) {
	vendor, _, err := release.SplitProduct(p.Name)
	if err != nil {
		return Product{}, fmt.Errorf("add product: %w: %w", err, ErrInvalid)
	}
	err = s.inWrite(ctx, fmt.Sprintf("add product %q", p.Name), func(c conn) error {
		old, err := c.products(ctx, `SELECT name, description, added FROM product WHERE name = $1`, p.Name)
		if err != nil {
			return err
		}
		p.Added = now.UTC().Truncate(time.Microsecond)
		if len(old) > 0 {
			p.Added = old[0].Added
			if old[0] == p {
				return nil
			}
		}
		var known string
		if err := c.row(ctx, `SELECT name FROM vendor WHERE name = $1`, vendor).Scan(&known); err != nil {
			return fmt.Errorf("vendor %q: %w", vendor, found(err))
		}
		_, err = c.exec(ctx, `INSERT INTO product (name, vendor, description, added) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET description = excluded.description`, p.Name, vendor, p.Description, micros(p.Added))
		if err != nil {
			return err
		}
		return c.note(ctx, now, "product.put", p.Name, actor, map[string]any{"product": p.Name, "description": p.Description})
	})
	return p, err
}

func (c conn) products(ctx context.Context, text string, args ...any) (out []Product, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var p Product
		var added int64
		if err := rows.Scan(&p.Name, &p.Description, &added); err != nil {
			return err
		}
		p.Added = fromMicros(added)
		out = append(out, p)
		return nil
	})
	return out, err
}

// ListProducts lists all products by name.
func (s *Store) ListProducts(ctx context.Context) (out []Product, err error) {
	err = s.inRead(ctx, "list products", func(c conn) error {
		out, err = c.products(ctx, `SELECT name, description, added FROM product ORDER BY name`)
		return err
	})
	return out, err
}

// Release is a published release.
type Release struct {
	release.Release
	Published time.Time
	Listed    bool // still in the vendor's role, so that endpoints can fetch it
}

// Release finds one release. ErrNotFound.
func (s *Store) Release(ctx context.Context, product, version string) (r Release, err error) {
	err = s.inRead(ctx, "read release", func(c conn) error {
		out, err := c.releases(ctx, `SELECT product, version, digest, length, floor, published, listed FROM release WHERE product = $1 AND version = $2`, product, version)
		if err == nil && len(out) == 0 {
			err = fmt.Errorf("release %s %s: %w", product, version, ErrNotFound)
		}
		if err != nil {
			return err
		}
		r = out[0]
		return nil
	})
	return r, err
}

// ListReleases lists the releases of a product, or all if product is empty,
// newest first.
func (s *Store) ListReleases(ctx context.Context, product string) (out []Release, err error) {
	err = s.inRead(ctx, "list releases", func(c conn) error {
		out, err = c.releases(ctx, `SELECT product, version, digest, length, floor, published, listed FROM release
			WHERE $1 = '' OR product = $1 ORDER BY published DESC, product, version`, product)
		return err
	})
	return out, err
}

func (c conn) releases(ctx context.Context, text string, args ...any) (out []Release, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var r Release
		var floor, published int64
		if err := rows.Scan(&r.Product, &r.Version, &r.Digest, &r.Length, &floor, &published, &r.Listed); err != nil {
			return err
		}
		r.Floor = span.Duration(time.Duration(floor) * time.Microsecond)
		r.Published = fromMicros(published)
		out = append(out, r)
		return nil
	})
	return out, err
}

// putRelease records a release. What was published stays as it was signed:
// another artifact under the same version is refused.
func (c conn) putRelease(ctx context.Context, r Release, now time.Time) error {
	old, err := c.releases(ctx, `SELECT product, version, digest, length, floor, published, listed FROM release WHERE product = $1 AND version = $2`, r.Product, r.Version)
	if err != nil {
		return err
	}
	if len(old) > 0 && (old[0].Digest != r.Digest || old[0].Length != r.Length) {
		return fmt.Errorf("release %s %s is of artifact %s: %w", r.Product, r.Version, old[0].Digest, ErrExists)
	}
	if len(old) > 0 {
		_, err = c.exec(ctx, `UPDATE release SET listed = $3, floor = $4 WHERE product = $1 AND version = $2`, r.Product, r.Version, r.Listed, r.Floor.Std().Microseconds())
		return err
	}
	_, err = c.exec(ctx, `INSERT INTO release (product, version, digest, length, floor, published, listed) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		r.Product, r.Version, r.Digest, r.Length, r.Floor.Std().Microseconds(), micros(now), r.Listed)
	return err
}
