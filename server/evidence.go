package server

import (
	"context"
	"encoding/json"
	"fmt"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/attest"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/store"
)

// evidenceService is EvidenceService.
type evidenceService struct{ *Server }

func attestorOut(a store.Attestor) *headgatev1.Attestor {
	return &headgatev1.Attestor{Name: a.Name, KeyId: a.KeyID, AddedUs: micros(a.Added), RemovedUs: micros(a.Removed)}
}

// AddAttestor implements EvidenceService.
func (s evidenceService) AddAttestor(ctx context.Context, req *connect.Request[headgatev1.AddAttestorRequest]) (*connect.Response[headgatev1.AddAttestorResponse], error) {
	if err := attest.CheckKind(req.Msg.Name); err != nil { // the form is the same
		return nil, invalid(fmt.Errorf("attestor %.50q: want 1 to 40 of a-z, 0-9 and inner hyphens", req.Msg.Name))
	}
	key, err := tuf.ParsePublic(req.Msg.PublicKey)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(key)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	a, err := s.store.AddAttestor(ctx, store.Attestor{Name: req.Msg.Name, KeyID: key.ID(), Public: string(b)}, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AddAttestorResponse{Attestor: attestorOut(a)}), nil
}

// ListAttestors implements EvidenceService.
func (s evidenceService) ListAttestors(ctx context.Context, _ *connect.Request[headgatev1.ListAttestorsRequest]) (*connect.Response[headgatev1.ListAttestorsResponse], error) {
	all, err := s.store.ListAttestors(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListAttestorsResponse{}
	for _, a := range all {
		out.Attestors = append(out.Attestors, attestorOut(a))
	}
	return connect.NewResponse(out), nil
}

// RemoveAttestor implements EvidenceService.
func (s evidenceService) RemoveAttestor(ctx context.Context, req *connect.Request[headgatev1.RemoveAttestorRequest]) (*connect.Response[headgatev1.RemoveAttestorResponse], error) {
	if err := s.store.RemoveAttestor(ctx, req.Msg.Name, from(ctx).actor(), s.cfg.Now()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.RemoveAttestorResponse{}), nil
}

// AttachEvidence implements EvidenceService. A vendor attaches to its own
// releases; whose signature counts is the operators' to say.
func (s evidenceService) AttachEvidence(ctx context.Context, req *connect.Request[headgatev1.AttachEvidenceRequest]) (*connect.Response[headgatev1.AttachEvidenceResponse], error) {
	st, by, err := s.verifyEvidence(ctx, req.Msg.Envelope)
	if err != nil {
		return nil, err
	}
	if err := s.ownsProduct(ctx, st.Product); err != nil {
		return nil, err
	}
	all, err := s.store.AddEvidence(ctx, store.Evidence{
		Product: st.Product, Version: st.Version, Digest: st.Digest, Kinds: st.Kinds, Result: string(st.Result), KeyIDs: by, Envelope: req.Msg.Envelope,
	}, from(ctx).actor(), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AttachEvidenceResponse{Evidence: evidenceOut(all)}), nil
}

// verifyEvidence checks an envelope against the attestors that are trusted now.
func (s *Server) verifyEvidence(ctx context.Context, envelope []byte) (st attest.Statement, keyIDs []string, err error) {
	known, err := s.store.ListAttestors(ctx)
	if err != nil {
		return st, nil, err
	}
	var keys []tuf.PublicKey
	for _, a := range known {
		if !a.Removed.IsZero() {
			continue
		}
		k, err := tuf.ParsePublic([]byte(a.Public))
		if err != nil {
			return st, nil, fmt.Errorf("key of attestor %s: %w", a.Name, err)
		}
		keys = append(keys, k)
	}
	return attest.Verify(ctx, envelope, keys)
}

// ListEvidence implements EvidenceService.
func (s evidenceService) ListEvidence(ctx context.Context, req *connect.Request[headgatev1.ListEvidenceRequest]) (*connect.Response[headgatev1.ListEvidenceResponse], error) {
	if err := s.ownsProduct(ctx, req.Msg.Product); err != nil {
		return nil, err
	}
	all, err := s.store.ListEvidence(ctx, req.Msg.Product, req.Msg.Version)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.ListEvidenceResponse{Evidence: evidenceOut(all)}), nil
}

// ownsProduct refuses a vendor what is another vendor's.
func (s evidenceService) ownsProduct(ctx context.Context, product string) error {
	vendor, _, err := release.SplitProduct(product)
	if err != nil {
		return err
	}
	return from(ctx).owns(store.ScopeVendor, vendor)
}

func evidenceOut(all []store.Attestation) (out []*headgatev1.Evidence) {
	for _, a := range all {
		out = append(out, &headgatev1.Evidence{
			Product: a.Product, Version: a.Version, Kind: a.Kind, Result: a.Result, Attestor: a.Attestor, EnvelopeSha256: a.Envelope, AttachedUs: micros(a.At),
		})
	}
	return out
}
