package server

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/tlog"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/store"
)

// ledgerService is LedgerService.
type ledgerService struct{ *Server }

// ListEntries implements LedgerService.
func (s ledgerService) ListEntries(ctx context.Context, req *connect.Request[headgatev1.ListEntriesRequest]) (*connect.Response[headgatev1.ListEntriesResponse], error) {
	m := req.Msg
	if m.From < 0 || m.Limit < 0 || m.Limit > maxPage {
		return nil, invalid(fmt.Errorf("from %d, limit %d: want no negative number and a limit of at most %d", m.From, m.Limit, maxPage))
	}
	entries, err := s.store.ListEntries(ctx, store.EntryQuery{From: m.From, Limit: int(m.Limit), Subject: m.Subject, Descending: m.Descending})
	if err != nil {
		return nil, err
	}
	head, err := s.store.LedgerHead(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListEntriesResponse{Size: head.Size}
	for _, e := range entries {
		out.Entries = append(out.Entries, &headgatev1.LedgerEntry{
			Seq: e.Seq, TimeUs: e.Time.UnixMicro(), Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Body: string(e.Body), Prev: e.Prev.String(), Hash: e.Hash().String(),
		})
	}
	return connect.NewResponse(out), nil
}

// GetCheckpoint implements LedgerService.
func (s ledgerService) GetCheckpoint(ctx context.Context, _ *connect.Request[headgatev1.GetCheckpointRequest]) (*connect.Response[headgatev1.GetCheckpointResponse], error) {
	c, err := s.store.LatestCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return connect.NewResponse(&headgatev1.GetCheckpointResponse{Checkpoint: string(c.Note)}), nil
}

// ProveInclusion implements LedgerService.
func (s ledgerService) ProveInclusion(ctx context.Context, req *connect.Request[headgatev1.ProveInclusionRequest]) (*connect.Response[headgatev1.ProveInclusionResponse], error) {
	seq, size := req.Msg.Seq, req.Msg.Size
	if err := s.within(ctx, size); err != nil {
		return nil, err
	}
	if seq < 0 || seq >= size {
		return nil, invalid(fmt.Errorf("seq: entry %d is not among the first %d", seq, size))
	}
	proof, err := tlog.ProveRecord(size, seq, s.store.LedgerHashes(ctx))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.ProveInclusionResponse{Hashes: proofOut(proof)}), nil
}

// ProveConsistency implements LedgerService.
func (s ledgerService) ProveConsistency(ctx context.Context, req *connect.Request[headgatev1.ProveConsistencyRequest]) (*connect.Response[headgatev1.ProveConsistencyResponse], error) {
	before, after := req.Msg.OldSize, req.Msg.NewSize
	if err := s.within(ctx, after); err != nil {
		return nil, err
	}
	if before < 1 || before > after {
		return nil, invalid(fmt.Errorf("old_size: %d; want 1 to %d", before, after))
	}
	proof, err := tlog.ProveTree(after, before, s.store.LedgerHashes(ctx))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.ProveConsistencyResponse{Hashes: proofOut(proof)}), nil
}

// RotateKey implements LedgerService.
func (s ledgerService) RotateKey(ctx context.Context, _ *connect.Request[headgatev1.RotateKeyRequest]) (*connect.Response[headgatev1.RotateKeyResponse], error) {
	before, key, err := s.rotateLedgerKey(ctx, from(ctx).actor())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.RotateKeyResponse{Before: before, Key: key}), nil
}

// within refuses a size that the ledger has not reached.
func (s ledgerService) within(ctx context.Context, size int64) error {
	head, err := s.store.LedgerHead(ctx)
	if err != nil {
		return err
	}
	if size < 1 || size > head.Size {
		return invalid(fmt.Errorf("size: %d; the ledger has %d entries", size, head.Size))
	}
	return nil
}

func proofOut(proof []tlog.Hash) [][]byte {
	out := make([][]byte, len(proof))
	for i := range proof {
		out[i] = proof[i][:]
	}
	return out
}
