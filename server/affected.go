package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/sbom"
	"github.com/headgate/headgate/store"
)

// affectedService is AffectedService.
type affectedService struct{ *Server }

// MatchAffected implements AffectedService.
func (s affectedService) MatchAffected(ctx context.Context, req *connect.Request[headgatev1.MatchAffectedRequest]) (*connect.Response[headgatev1.MatchAffectedResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	page, err := pageOf(req.Msg.After, req.Msg.Limit)
	if err != nil {
		return nil, err
	}
	a, err := s.store.MatchAffected(ctx, from(ctx).viewer(), id, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.MatchAffectedResponse{Ranges: rangesOut(a), Tally: tallyOut(a), Resources: page.out(a)}), nil
}

// FreezeAffected implements AffectedService.
func (s affectedService) FreezeAffected(ctx context.Context, req *connect.Request[headgatev1.FreezeAffectedRequest]) (*connect.Response[headgatev1.FreezeAffectedResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	a, err := s.store.FreezeAffected(ctx, from(ctx).viewer(), id, s.cfg.Now(), nil)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.FreezeAffectedResponse{Snapshot: snapshotOut(a.Snapshots[0]), Tally: tallyOut(a)}), nil
}

// GetAffected implements AffectedService.
func (s affectedService) GetAffected(ctx context.Context, req *connect.Request[headgatev1.GetAffectedRequest]) (*connect.Response[headgatev1.GetAffectedResponse], error) {
	m := req.Msg
	id, err := parseCase(m.Case)
	if err != nil {
		return nil, err
	}
	page, err := pageOf(m.After, m.Limit)
	if err != nil {
		return nil, err
	}
	var endpoint int64
	if m.Endpoint != "" {
		if endpoint, err = ids.Parse("E", m.Endpoint); err != nil {
			return nil, invalid(fmt.Errorf("endpoint: %w", err))
		}
	}
	a, err := s.store.ReadAffected(ctx, from(ctx).viewer(), id, endpoint, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.GetAffectedResponse{Ranges: rangesOut(a), Tally: tallyOut(a), Resources: page.out(a)}
	for _, shot := range a.Snapshots {
		out.Snapshots = append(out.Snapshots, snapshotOut(shot))
	}
	return connect.NewResponse(out), nil
}

// snapshotPart is about how much of a snapshot one answer holds, bytes.
const snapshotPart = 1 << 20

// GetAffectedSnapshot implements AffectedService.
func (s affectedService) GetAffectedSnapshot(ctx context.Context, req *connect.Request[headgatev1.GetAffectedSnapshotRequest]) (*connect.Response[headgatev1.GetAffectedSnapshotResponse], error) {
	m := req.Msg
	id, err := parseCase(m.Case)
	if err != nil {
		return nil, err
	}
	shot, text, err := s.store.AffectedSnapshotText(ctx, from(ctx).viewer(), id, m.N, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	if m.Offset < 0 || m.Offset > int64(len(text)) {
		return nil, invalid(fmt.Errorf("offset: %d; the text has %d bytes", m.Offset, len(text)))
	}
	part, next := wholeLines(text, int(m.Offset))
	return connect.NewResponse(&headgatev1.GetAffectedSnapshotResponse{Snapshot: snapshotOut(shot), Text: strings.ToValidUTF8(string(part), "?"), NextOffset: int64(next)}), nil
}

// wholeLines is a part of a text from an offset on, and where the next one begins; 0
// at the end.
func wholeLines(text []byte, from int) (part []byte, next int) {
	rest := text[from:]
	if len(rest) <= snapshotPart {
		return rest, 0
	}
	n := bytes.LastIndexByte(rest[:snapshotPart], '\n') + 1
	if n == 0 {
		n = snapshotPart + bytes.IndexByte(rest[snapshotPart:], '\n') + 1
	}
	if n == len(rest) {
		return rest, 0
	}
	return rest[:n], from + n
}

// someOf is which resources to show.
type someOf struct {
	after int64
	limit int
}

func pageOf(after string, limit int32) (p someOf, err error) {
	p.limit = int(limit)
	if limit < 0 || limit > maxPage {
		return p, invalid(fmt.Errorf("limit: %d; want at most %d", limit, maxPage))
	}
	or(&p.limit, 100)
	if after != "" {
		if p.after, err = ids.Parse("E", after); err != nil {
			return p, invalid(fmt.Errorf("after: %w", err))
		}
	}
	return p, nil
}

func (p someOf) out(a store.Affected) (out []*headgatev1.AffectedResource) {
	for _, r := range a.Resources {
		if r.Endpoint <= p.after {
			continue
		}
		if len(out) == p.limit {
			break
		}
		out = append(out, resourceOut(r))
	}
	return out
}

func rangesOut(a store.Affected) (out []string) {
	for _, r := range a.Ranges {
		out = append(out, r.String())
	}
	return out
}

func tallyOut(a store.Affected) *headgatev1.AffectedTally {
	t := a.Tally
	return &headgatev1.AffectedTally{
		Resources: t.Resources, Vulnerable: t.Vulnerable, Unknown: t.Unknown, Attested: t.Attested, Verified: t.Verified, Stale: t.Stale,
		Tenants: t.Tenants, ExposedUs: t.Exposed.Microseconds(), Lower: a.Protection().Lower(store.Confidence),
	}
}

func snapshotOut(s store.AffectedSnapshot) *headgatev1.AffectedSnapshot {
	return &headgatev1.AffectedSnapshot{N: s.N, AtUs: micros(s.At), Hash: s.Hash, Tenants: s.Tenants, Resources: s.Resources, Unknown: s.Unknown}
}

func resourceOut(r fleet.Resource) *headgatev1.AffectedResource {
	out := &headgatev1.AffectedResource{
		Endpoint: ids.Format("E", r.Endpoint), Tenant: r.Tenant, State: string(r.State), SinceUs: micros(r.Since), FixedUs: micros(r.FixedAt),
		ExposedUs: r.Exposed.Microseconds(), JoinedUs: micros(r.Joined), LastSeenUs: micros(r.Seen), Stale: r.Stale,
	}
	for _, i := range r.Intervals {
		out.Intervals = append(out.Intervals, &headgatev1.AffectedInterval{
			Product: i.Product, Runs: i.Runs, Component: i.Key, Version: i.Version, Ranges: i.Ranges, Unknown: i.Unknown, Reason: store.Reason(i),
			FromUs: micros(i.From), Basis: string(i.Basis), UntilUs: micros(i.Until), End: string(i.End), JoinedUs: micros(i.Joined),
		})
	}
	return out
}

// sbomService is SBOMService.
type sbomService struct{ *Server }

// sbomTarget reads what a bill of materials is of, and refuses what is not the
// caller's.
func (s sbomService) target(ctx context.Context, product, version, endpoint string, whole bool) (b store.SBOM, tenant string, err error) {
	c := from(ctx)
	if endpoint != "" {
		if product != "" || version != "" {
			return b, "", invalid(errors.New("endpoint: want a release or an endpoint, not both"))
		}
		if c.Scope == store.ScopeVendor {
			return b, "", connect.NewError(connect.CodePermissionDenied, errors.New("endpoint: is a tenant's, not a vendor's"))
		}
		if c.Scope == store.ScopeTenant {
			tenant = c.Of
		}
		if b.Endpoint, err = ids.Parse("E", endpoint); err != nil {
			return b, "", invalid(fmt.Errorf("endpoint: %w", err))
		}
		return b, tenant, nil
	}
	vendor, _, err := release.SplitProduct(product)
	if err != nil {
		return b, "", err
	}
	if c.Scope == store.ScopeTenant {
		return b, "", connect.NewError(connect.CodePermissionDenied, errors.New("product: is a vendor's, not a tenant's"))
	}
	if err := c.owns(store.ScopeVendor, vendor); err != nil {
		return b, "", err
	}
	if version != "" || whole {
		err = release.CheckVersion(version)
	}
	b.Product, b.Version = product, version
	return b, "", err
}

// AttachSBOM implements SBOMService.
func (s sbomService) AttachSBOM(ctx context.Context, req *connect.Request[headgatev1.AttachSBOMRequest]) (*connect.Response[headgatev1.AttachSBOMResponse], error) {
	m := req.Msg
	b, tenant, err := s.target(ctx, m.Product, m.Version, m.Endpoint, true)
	if err != nil {
		return nil, err
	}
	doc, err := sbom.Read(m.Document)
	if err != nil {
		return nil, invalid(fmt.Errorf("document: %w", err))
	}
	b, err = s.store.AttachSBOM(ctx, b, tenant, m.Document, doc, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AttachSBOMResponse{Sbom: sbomOut(b), NamelessSome: doc.NamelessSome}), nil
}

// ListSBOMs implements SBOMService.
func (s sbomService) ListSBOMs(ctx context.Context, req *connect.Request[headgatev1.ListSBOMsRequest]) (*connect.Response[headgatev1.ListSBOMsResponse], error) {
	m := req.Msg
	b, tenant, err := s.target(ctx, m.Product, m.Version, m.Endpoint, false)
	if err != nil {
		return nil, err
	}
	if tenant != "" {
		e, err := s.store.Endpoint(ctx, b.Endpoint)
		if err == nil && e.Tenant != tenant {
			err = store.ErrNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", m.Endpoint, err)
		}
	}
	list, err := s.store.ListSBOMs(ctx, b.Product, b.Version, b.Endpoint)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListSBOMsResponse{}
	for _, x := range list {
		out.Sboms = append(out.Sboms, sbomOut(x))
	}
	return connect.NewResponse(out), nil
}

func sbomOut(b store.SBOM) *headgatev1.SBOM {
	out := &headgatev1.SBOM{
		Product: b.Product, Version: b.Version, Digest: b.Digest, Format: b.Format, Components: b.Parts, Nameless: b.Nameless,
		AddedUs: micros(b.Added), AddedBy: b.AddedBy,
	}
	if b.Endpoint != 0 {
		out.Endpoint = ids.Format("E", b.Endpoint)
	}
	return out
}
