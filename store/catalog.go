package store

import (
	"context"
	"time"

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
	return Vendor{}, errUnbuilt
}

// ListVendors lists all vendors by name.
func (s *Store) ListVendors(ctx context.Context) ([]Vendor, error) { return nil, errUnbuilt }

// Product is what is updated.
type Product struct {
	Name        string // "vendor/product"
	Description string
	Added       time.Time
}

// AddProduct records a product, or its new description; repeating it changes
// nothing. ErrNotFound if there is no such vendor.
func (s *Store) AddProduct(ctx context.Context, p Product, actor string, now time.Time) (Product, error) {
	return Product{}, errUnbuilt
}

// ListProducts lists all products by name.
func (s *Store) ListProducts(ctx context.Context) ([]Product, error) { return nil, errUnbuilt }

// Release is a published release.
type Release struct {
	release.Release
	Published time.Time
	Listed    bool // still in the vendor's role, so that endpoints can fetch it
}

// Release finds one release. ErrNotFound.
func (s *Store) Release(ctx context.Context, product, version string) (Release, error) {
	return Release{}, errUnbuilt
}

// ListReleases lists the releases of a product, or all if product is empty,
// newest first.
func (s *Store) ListReleases(ctx context.Context, product string) ([]Release, error) {
	return nil, errUnbuilt
}
