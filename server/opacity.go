package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/artifact"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/store"
)

// opaque refuses a release that gives away an embargoed case which it is a fix of,
// before it is published or rolled out, and says with which cases it was compared.
// The refusal names what of the release tells, which whoever asks can read, and
// nothing of the case. meta is the vendor's metadata that lists the release.
func (s *Server) opaque(ctx context.Context, product, version, digest string, meta []byte) ([]store.EmbargoedFix, error) {
	fixes, err := s.store.EmbargoedFixes(ctx, product, version, s.cfg.Now())
	if err != nil || len(fixes) == 0 {
		return nil, err
	}
	shown, err := s.shown(ctx, product, version, digest, meta)
	if err != nil {
		return nil, fmt.Errorf("what %s %s shows cannot be read: %w: %w", product, version, store.ErrState, err)
	}
	for _, f := range fixes {
		kase, err := s.store.ReadCase(ctx, store.Engine("server"), f.Case, s.cfg.Now())
		if err != nil {
			return nil, err
		}
		if slices.Contains(kase.Work.Opaque, psirt.FixBound{Product: product, Version: version}) {
			continue
		}
		if told := kase.Reveals(product, shown); len(told) > 0 {
			return nil, fmt.Errorf("%s %s is not opaque, and may not go out now: %s: %w", product, version, toldText(told), store.ErrState)
		}
	}
	return fixes, nil
}

// maxTold is how many of the texts that tell a refusal quotes.
const maxTold = 5

func toldText(told []psirt.Revealed) string {
	var out []string
	for _, r := range told[:min(len(told), maxTold)] {
		out = append(out, fmt.Sprintf("%s %q", r.Place, cutText(r.Text, 200)))
	}
	if n := len(told) - maxTold; n > 0 {
		out = append(out, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(out, "; ")
}

func cutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// shown lists what whoever can fetch a release reads of it, but for what the
// product's release before it said already.
func (s *Server) shown(ctx context.Context, product, version, digest string, meta []byte) ([]psirt.Shown, error) {
	target := release.Target(product, version)
	custom, err := tuf.Custom(meta, target)
	if err != nil {
		return nil, err
	}
	out := []psirt.Shown{{Place: "target path", Text: target}}
	if len(custom) > 0 {
		out = append(out, psirt.Shown{Place: "custom metadata", Text: string(custom)})
	}
	notes, err := s.notes(ctx, digest)
	if err != nil {
		return nil, err
	}
	before, err := s.notesBefore(ctx, product, version)
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		if !before[n.Text] {
			out = append(out, psirt.Shown{Place: n.Place, Text: n.Text})
		}
	}
	return out, nil
}

func (s *Server) notes(ctx context.Context, digest string) ([]artifact.Note, error) {
	a, err := s.store.OpenArtifact(ctx, digest)
	if err != nil {
		return nil, err
	}
	return artifact.Notes(a)
}

// notesBefore are the texts of the newest listed release that is older.
func (s *Server) notesBefore(ctx context.Context, product, version string) (map[string]bool, error) {
	all, err := s.store.ListReleases(ctx, product)
	if err != nil {
		return nil, err
	}
	var before store.Release
	for _, r := range all {
		if r.Listed && release.Newer(version, r.Version) && release.Newer(r.Version, before.Version) {
			before = r
		}
	}
	if before.Version == "" {
		return nil, nil
	}
	notes, err := s.notes(ctx, before.Digest)
	if err != nil {
		return nil, nil //nolint:nilerr // an older artifact that cannot be read said nothing
	}
	out := map[string]bool{}
	for _, n := range notes {
		out[n.Text] = true
	}
	return out, nil
}

// vendorMeta is a vendor's metadata in force; nil if it has none.
func (s *Server) vendorMeta(ctx context.Context, product string) ([]byte, error) {
	state, err := s.publisher.State(ctx)
	if err != nil {
		return nil, err
	}
	return state[vendorOf(product)], nil
}

// mayStart is opaque for a release that is published already.
func (s *Server) mayStart(ctx context.Context, product, version string) ([]store.EmbargoedFix, error) {
	if fixes, err := s.store.EmbargoedFixes(ctx, product, version, s.cfg.Now()); err != nil || len(fixes) == 0 {
		return nil, err
	}
	r, err := s.store.Release(ctx, product, version)
	if err != nil {
		return nil, err
	}
	meta, err := s.vendorMeta(ctx, product)
	if err != nil {
		return nil, err
	}
	return s.opaque(ctx, product, version, r.Digest, meta)
}

// CheckOpacity implements CaseService.
func (s caseService) CheckOpacity(ctx context.Context, req *connect.Request[headgatev1.CheckOpacityRequest]) (*connect.Response[headgatev1.CheckOpacityResponse], error) {
	id, err := parseCase(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	kase, err := s.store.ReadCase(ctx, from(ctx).viewer(), id, now)
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	w := kase.Withheld(now)
	out := &headgatev1.CheckOpacityResponse{UntilUs: micros(w.Until), Most: string(w.Most)}
	for _, f := range kase.Work.Fixes {
		fix, err := s.fixOpacity(ctx, kase, f)
		if err != nil {
			return nil, about(req.Msg.Id, err)
		}
		out.Fixes = append(out.Fixes, fix)
	}
	return connect.NewResponse(out), nil
}

func (s *Server) fixOpacity(ctx context.Context, kase store.Case, f psirt.FixBound) (*headgatev1.FixOpacity, error) {
	out := &headgatev1.FixOpacity{Product: f.Product, Version: f.Version, Cleared: slices.Contains(kase.Work.Opaque, f)}
	releases, err := s.store.ListReleases(ctx, f.Product)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(releases, func(r store.Release) bool { return r.Version == f.Version && r.Listed })
	if i < 0 {
		return out, nil
	}
	out.Published = true
	meta, err := s.vendorMeta(ctx, f.Product)
	if err != nil {
		return nil, err
	}
	shown, err := s.shown(ctx, f.Product, f.Version, releases[i].Digest, meta)
	if err != nil {
		return nil, fmt.Errorf("what %s %s shows cannot be read: %w: %w", f.Product, f.Version, store.ErrState, err)
	}
	for _, r := range kase.Reveals(f.Product, shown) {
		out.Revealed = append(out.Revealed, &headgatev1.Revealed{Place: r.Place, Text: cutText(r.Text, psirt.MaxLine), Clue: r.Clue})
	}
	return out, nil
}

// SetTenantOpacity implements AccountService.
func (s accountService) SetTenantOpacity(ctx context.Context, req *connect.Request[headgatev1.SetTenantOpacityRequest]) (*connect.Response[headgatev1.SetTenantOpacityResponse], error) {
	o, err := psirt.ParseOpacity(req.Msg.Opacity)
	if err != nil {
		return nil, err
	}
	t, err := s.store.SetOpacity(ctx, req.Msg.Name, o, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.SetTenantOpacityResponse{Tenant: tenantOut(t)}), nil
}
