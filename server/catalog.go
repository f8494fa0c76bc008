package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

const maxDescription = 1000 // bytes

// catalogService is CatalogService.
type catalogService struct{ *Server }

func vendorOut(v store.Vendor) *headgatev1.Vendor {
	return &headgatev1.Vendor{Name: v.Name, Threshold: v.Threshold, Keys: v.Keys}
}

// AddVendor implements CatalogService.
func (s catalogService) AddVendor(ctx context.Context, req *connect.Request[headgatev1.AddVendorRequest]) (*connect.Response[headgatev1.AddVendorResponse], error) {
	name := req.Msg.Name
	if err := release.CheckVendor(name); err != nil {
		return nil, err
	}
	state, err := s.publisher.State(ctx)
	if err != nil {
		return nil, err
	}
	vendors, err := delegated(state)
	if err != nil {
		return nil, err
	}
	for _, v := range vendors {
		if v.Name != name {
			continue
		}
		got, err := s.store.PutVendor(ctx, v, from(ctx).actor(), s.cfg.Now())
		if err != nil {
			return nil, fmt.Errorf("vendor %s: %w", name, err)
		}
		return connect.NewResponse(&headgatev1.AddVendorResponse{Vendor: vendorOut(got)}), nil
	}
	return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("vendor %s: the published targets.json (version %d) delegates nothing to it; publish one that does first", name, state.Version(tuf.Targets)))
}

// delegated lists the vendors of the targets in force.
func delegated(state tuf.State) ([]store.Vendor, error) {
	if state[tuf.Targets] == nil {
		return nil, nil
	}
	list, err := tuf.Vendors(state[tuf.Targets])
	if err != nil {
		return nil, fmt.Errorf("targets in force: %w", err)
	}
	out := make([]store.Vendor, len(list))
	for i, v := range list {
		out[i] = store.Vendor{Name: v.Name, Threshold: int64(v.Threshold), Keys: int64(len(v.Keys))}
	}
	return out, nil
}

// ListVendors implements CatalogService. A vendor sees itself only.
func (s catalogService) ListVendors(ctx context.Context, _ *connect.Request[headgatev1.ListVendorsRequest]) (*connect.Response[headgatev1.ListVendorsResponse], error) {
	all, err := s.store.ListVendors(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListVendorsResponse{}
	for _, v := range all {
		if from(ctx).owns(store.ScopeVendor, v.Name) == nil {
			out.Vendors = append(out.Vendors, vendorOut(v))
		}
	}
	return connect.NewResponse(out), nil
}

// AddProduct implements CatalogService.
func (s catalogService) AddProduct(ctx context.Context, req *connect.Request[headgatev1.AddProductRequest]) (*connect.Response[headgatev1.AddProductResponse], error) {
	p := req.Msg.GetProduct()
	if _, _, err := release.SplitProduct(p.GetName()); err != nil {
		return nil, err
	}
	if len(p.GetDescription()) > maxDescription {
		return nil, invalid(fmt.Errorf("product.description: %d bytes, limit %d", len(p.GetDescription()), maxDescription))
	}
	got, err := s.store.AddProduct(ctx, store.Product{Name: p.Name, Description: p.Description}, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("product %s: its vendor: %w", p.Name, err)
	}
	return connect.NewResponse(&headgatev1.AddProductResponse{Product: &headgatev1.Product{Name: got.Name, Description: got.Description}}), nil
}

// ListProducts implements CatalogService. A vendor sees its own only.
func (s catalogService) ListProducts(ctx context.Context, _ *connect.Request[headgatev1.ListProductsRequest]) (*connect.Response[headgatev1.ListProductsResponse], error) {
	all, err := s.store.ListProducts(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListProductsResponse{}
	for _, p := range all {
		if from(ctx).owns(store.ScopeVendor, vendorOf(p.Name)) == nil {
			out.Products = append(out.Products, &headgatev1.Product{Name: p.Name, Description: p.Description})
		}
	}
	return connect.NewResponse(out), nil
}

func vendorOf(product string) string {
	v, _, _ := strings.Cut(product, "/")
	return v
}

func releaseOut(r store.Release) *headgatev1.Release {
	return &headgatev1.Release{
		Product: r.Product, Version: r.Version, Digest: r.Digest, Length: r.Length, Target: release.Target(r.Product, r.Version),
		PublishedUs: micros(r.Published), FloorUs: r.Floor.Std().Microseconds(), Listed: r.Listed,
	}
}

// ListReleases implements CatalogService. A vendor sees its own only.
func (s catalogService) ListReleases(ctx context.Context, req *connect.Request[headgatev1.ListReleasesRequest]) (*connect.Response[headgatev1.ListReleasesResponse], error) {
	all, err := s.store.ListReleases(ctx, req.Msg.Product)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListReleasesResponse{}
	for _, r := range all {
		if from(ctx).owns(store.ScopeVendor, vendorOf(r.Product)) == nil {
			out.Releases = append(out.Releases, releaseOut(r))
		}
	}
	return connect.NewResponse(out), nil
}

// PublishRelease implements CatalogService.
func (s catalogService) PublishRelease(ctx context.Context, req *connect.Request[headgatev1.PublishReleaseRequest]) (*connect.Response[headgatev1.PublishReleaseResponse], error) {
	c, m := from(ctx), req.Msg
	vendor, _, err := release.SplitProduct(m.Product)
	if err != nil {
		return nil, err
	}
	if err := release.CheckVersion(m.Version); err != nil {
		return nil, err
	}
	if err := c.owns(store.ScopeVendor, vendor); err != nil {
		return nil, err
	}
	err = s.publisher.Change(ctx, nil, func(step *control.Step) (tuf.Change, error) {
		ch, err := step.Repo().SetVendor(vendor, m.Metadata, step.Now)
		if err != nil || len(ch.Files) == 0 {
			return ch, err
		}
		add, unlist, err := s.compare(ctx, vendor, m)
		if err != nil {
			return ch, err
		}
		if len(add) > 0 {
			if _, err := s.opaque(ctx, m.Product, m.Version, add[0].Digest, m.Metadata); err != nil {
				return ch, err
			}
		}
		step.Record(nil, add, unlist)
		if len(add) == 0 {
			return ch, step.Note("release.resigned", vendor, c.actor(), map[string]any{"version": step.State.With(ch).Version(vendor), "unlisted": unlist})
		}
		return ch, step.Note("release.published", m.Product+"@"+m.Version, c.actor(), map[string]any{"digest": add[0].Digest, "length": add[0].Length, "floor": add[0].Floor, "unlisted": unlist})
	})
	if err != nil {
		return nil, fmt.Errorf("publish %s %s: %w", m.Product, m.Version, err)
	}
	r, err := s.store.Release(ctx, m.Product, m.Version)
	if err != nil {
		return nil, fmt.Errorf("release %s %s: %w", m.Product, m.Version, err)
	}
	return connect.NewResponse(&headgatev1.PublishReleaseResponse{Release: releaseOut(r)}), nil
}

// compare finds what a vendor's new metadata changes: the named release comes, its
// artifact was uploaded, and nothing that a rollout offers goes. If the named one
// is listed already, nothing comes: the vendor signs its list afresh, with other
// keys or for longer.
func (s catalogService) compare(ctx context.Context, vendor string, m *headgatev1.PublishReleaseRequest) (add []store.Release, unlist []store.ReleaseKey, err error) {
	listed, err := tuf.Releases(m.Metadata)
	if err != nil {
		return nil, nil, err
	}
	all, err := s.store.ListReleases(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	known := map[store.ReleaseKey]store.Release{}
	for _, r := range all {
		if vendorOf(r.Product) == vendor {
			known[store.ReleaseKey{Product: r.Product, Version: r.Version}] = r
		}
	}
	found := false
	named := store.ReleaseKey{Product: m.Product, Version: m.Version}
	for _, r := range listed {
		key := store.ReleaseKey{Product: r.Product, Version: r.Version}
		old, seen := known[key]
		delete(known, key)
		if seen && old.Digest != r.Digest {
			return nil, nil, fmt.Errorf("%s %s was published with artifact %s; a version keeps its artifact for ever: %w", r.Product, r.Version, old.Digest, store.ErrExists)
		}
		found = found || key == named
		if seen && old.Listed && (key != named || old.Floor == r.Floor) {
			continue
		}
		if key != named {
			return nil, nil, invalid(fmt.Errorf("the metadata also adds %s %s; publish one release at a time", r.Product, r.Version))
		}
		if err := s.checkArtifact(ctx, r); err != nil {
			return nil, nil, err
		}
		add = append(add, store.Release{Release: r, Published: s.cfg.Now(), Listed: true})
	}
	if !found {
		return nil, nil, invalid(fmt.Errorf("the metadata does not list %s", release.Target(m.Product, m.Version)))
	}
	unlist, err = s.mayGo(ctx, known)
	return add, unlist, err
}

// checkArtifact refuses a release whose artifact is not here.
func (s catalogService) checkArtifact(ctx context.Context, r release.Release) error {
	a, err := s.store.OpenArtifact(ctx, r.Digest)
	if errors.Is(err, store.ErrNotFound) {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("artifact %s is not uploaded; PUT it to /v1/artifacts/%s first", r.Digest, r.Digest))
	}
	if err != nil {
		return err
	}
	if a.Length() != r.Length {
		return invalid(fmt.Errorf("artifact %s has %d bytes; the metadata says %d", r.Digest, a.Length(), r.Length))
	}
	return nil
}

// mayGo lists what is unlisted, and refuses if a rollout in progress needs it.
func (s catalogService) mayGo(ctx context.Context, gone map[store.ReleaseKey]store.Release) (unlist []store.ReleaseKey, err error) {
	open, err := s.store.OpenRollouts(ctx)
	if err != nil {
		return nil, err
	}
	for key, r := range gone {
		if !r.Listed {
			continue
		}
		for _, o := range open {
			if o.Product == key.Product && o.Version == key.Version && (o.State == rollout.Running || o.State == rollout.Held) {
				return nil, fmt.Errorf("the metadata drops %s %s, which rollout R-%d offers: %w", key.Product, key.Version, o.ID, store.ErrState)
			}
		}
		unlist = append(unlist, key)
	}
	return unlist, nil
}
