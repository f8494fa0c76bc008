package store

import "context"

// Problem is something in the database that breaks one of its rules.
type Problem struct {
	Code    string // stable: "counts", "recount", "orphan", "ledger-head", ...
	Subject string // "R-17", "E-..."
	Detail  string
}

// Doctor checks the rules that tie rows together: counts against exposures
// recounted, per rollout and segment; rows without owner; the ledger's head
// against its entries. It changes nothing.
func (s *Store) Doctor(ctx context.Context) ([]Problem, error) { return nil, errUnbuilt }
