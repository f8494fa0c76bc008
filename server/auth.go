package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/store"
)

// The prefixes of tokens. A prefix says what a token is for, so that a misplaced
// or leaked one is recognised.
const (
	prefixAccess   = "hgo_"
	prefixEnrol    = "hgt_"
	prefixEndpoint = "hge_"
)

// secretBytes is the length of a token's secret part: 43 characters of base64url.
const secretBytes = 32

// who may call a procedure.
type who uint8

const (
	anyone   who = 1 << iota // authenticates by the message itself
	endpoint                 // authenticates inside the batch's transaction
	operator
	vendor // and the handler checks that it is this vendor's
	tenant // and the handler checks that it is this tenant's
)

// access says who may call each procedure. A procedure that is not in it cannot
// be called.
var access = map[string]who{
	"/headgate.v1.AgentService/Enrol":                  anyone,
	"/headgate.v1.AgentService/Grant":                  endpoint,
	"/headgate.v1.AgentService/Beacon":                 endpoint,
	"/headgate.v1.AccountService/AddTenant":            operator,
	"/headgate.v1.AccountService/ListTenants":          operator | tenant,
	"/headgate.v1.AccountService/SetTenant":            operator | tenant,
	"/headgate.v1.AccountService/SetTenantLimits":      operator | tenant,
	"/headgate.v1.AccountService/GetTenantLimits":      operator | tenant,
	"/headgate.v1.AccountService/SetTenantOpacity":     operator,
	"/headgate.v1.AccountService/NewEnrolmentToken":    operator | tenant,
	"/headgate.v1.AccountService/AddToken":             operator,
	"/headgate.v1.AccountService/ListTokens":           operator,
	"/headgate.v1.AccountService/RevokeToken":          operator,
	"/headgate.v1.AffectedService/MatchAffected":       operator | tenant,
	"/headgate.v1.AffectedService/FreezeAffected":      operator,
	"/headgate.v1.AffectedService/GetAffected":         operator | tenant,
	"/headgate.v1.AffectedService/GetAffectedSnapshot": operator,
	"/headgate.v1.SBOMService/AttachSBOM":              operator | vendor | tenant,
	"/headgate.v1.SBOMService/ListSBOMs":               operator | vendor | tenant,
	"/headgate.v1.CaseService/OpenCase":                operator,
	"/headgate.v1.CaseService/GetCase":                 operator | vendor | tenant,
	"/headgate.v1.CaseService/ListCases":               operator | vendor | tenant,
	"/headgate.v1.CaseService/AddFacts":                operator | vendor | tenant,
	"/headgate.v1.CaseService/VerifyCase":              operator | vendor | tenant,
	"/headgate.v1.CaseService/GetBoard":                operator | vendor | tenant,
	"/headgate.v1.CaseService/CheckOpacity":            operator,
	"/headgate.v1.CatalogService/AddVendor":            operator,
	"/headgate.v1.CatalogService/ListVendors":          operator | vendor,
	"/headgate.v1.CatalogService/AddProduct":           operator,
	"/headgate.v1.CatalogService/ListProducts":         operator | vendor,
	"/headgate.v1.CatalogService/PublishRelease":       operator | vendor,
	"/headgate.v1.CatalogService/ListReleases":         operator | vendor,
	"/headgate.v1.EvidenceService/AddAttestor":         operator,
	"/headgate.v1.EvidenceService/ListAttestors":       operator | vendor,
	"/headgate.v1.EvidenceService/RemoveAttestor":      operator,
	"/headgate.v1.EvidenceService/AttachEvidence":      operator | vendor,
	"/headgate.v1.EvidenceService/ListEvidence":        operator | vendor,
	"/headgate.v1.FleetService/ListEndpoints":          operator | tenant,
	"/headgate.v1.FleetService/GetEndpoint":            operator | tenant,
	"/headgate.v1.FleetService/ExplainEndpoint":        operator | tenant,
	"/headgate.v1.LadderService/GetLadder":             operator,
	"/headgate.v1.LadderService/SetLadder":             operator,
	"/headgate.v1.LadderService/OverrideRung":          operator,
	"/headgate.v1.LedgerService/ListEntries":           operator,
	"/headgate.v1.LedgerService/RotateKey":             operator,
	"/headgate.v1.LedgerService/GetCheckpoint":         operator,
	"/headgate.v1.LedgerService/ProveInclusion":        operator,
	"/headgate.v1.LedgerService/ProveConsistency":      operator,
	"/headgate.v1.NoticeService/PrepareNotices":        operator,
	"/headgate.v1.NoticeService/TellAudience":          operator,
	"/headgate.v1.NoticeService/CountNotices":          operator | vendor | tenant,
	"/headgate.v1.NoticeService/ListNotices":           operator | tenant,
	"/headgate.v1.NoticeService/GetNotice":             operator | tenant,
	"/headgate.v1.NoticeService/AcknowledgeNotice":     tenant,
	"/headgate.v1.NoticeService/AttestStep":            tenant,
	"/headgate.v1.NoticeService/TraceText":             operator,
	"/headgate.v1.NoticeService/SetContact":            operator | tenant,
	"/headgate.v1.NoticeService/GetContact":            operator | tenant,
	"/headgate.v1.NoticeService/NewFeed":               operator | tenant,
	"/headgate.v1.PolicyService/ApplyPolicy":           operator,
	"/headgate.v1.PolicyService/ListPolicies":          operator,
	"/headgate.v1.PolicyService/GetPolicy":             operator,
	"/headgate.v1.IntakeService/ImportReports":         operator | vendor,
	"/headgate.v1.IntakeService/GetReportFile":         operator | vendor | tenant,
	"/headgate.v1.IntakeService/RewardReport":          operator,
	"/headgate.v1.IntakeService/ApplyRewardTable":      operator,
	"/headgate.v1.IntakeService/GetRewardTable":        operator,
	"/headgate.v1.IntakeService/ListRewardTables":      operator,
	"/headgate.v1.IntakeService/GetRoster":             operator,
	"/headgate.v1.IntakeService/SetRoster":             operator,
	"/headgate.v1.IntakeService/ListCalls":             operator,
	"/headgate.v1.IntakeService/AnswerCall":            operator,
	"/headgate.v1.IntakeService/ListCallAttempts":      operator,
	"/headgate.v1.ReportService/AddReport":             operator | vendor | tenant,
	"/headgate.v1.ReportService/GetReport":             operator | vendor | tenant,
	"/headgate.v1.ReportService/ListReports":           operator | vendor | tenant,
	"/headgate.v1.ReportService/AddReportFacts":        operator | vendor | tenant,
	"/headgate.v1.ReportService/ListSimilar":           operator | vendor | tenant,
	"/headgate.v1.ReportService/LinkReport":            operator,
	"/headgate.v1.ReportService/AddTriager":            operator,
	"/headgate.v1.ReportService/RemoveTriager":         operator,
	"/headgate.v1.ReportService/ListTriagers":          operator,
	"/headgate.v1.RepositoryService/GetOnlineKeys":     operator,
	"/headgate.v1.RepositoryService/NewOnlineKeys":     operator,
	"/headgate.v1.RepositoryService/PublishRoot":       operator,
	"/headgate.v1.RepositoryService/PublishTargets":    operator,
	"/headgate.v1.ReviewService/GetReview":             operator,
	"/headgate.v1.ReviewService/CheckCorrection":       operator,
	"/headgate.v1.ReviewService/AskFeedback":           operator,
	"/headgate.v1.RolloutService/StartRollout":         operator,
	"/headgate.v1.RolloutService/GetRollout":           operator,
	"/headgate.v1.RolloutService/ListRollouts":         operator,
	"/headgate.v1.RolloutService/WeighLanes":           operator,
	"/headgate.v1.RolloutService/SwitchLane":           operator,
	"/headgate.v1.RolloutService/WatchRollout":         operator,
	"/headgate.v1.RolloutService/HoldRollout":          operator,
	"/headgate.v1.RolloutService/ResumeRollout":        operator,
	"/headgate.v1.RolloutService/HaltRollout":          operator,
	"/headgate.v1.RolloutService/RevertRollout":        operator,
}

// scopes says which right a token's scope gives.
var scopes = map[store.Scope]who{store.ScopeOperator: operator, store.ScopeVendor: vendor, store.ScopeTenant: tenant}

// caller is who calls: a token's holder, or an endpoint that is not
// authenticated yet.
type caller struct {
	store.Token
	endpoint int64
	secret   store.Hash
}

// actor names the caller in the ledger: "operator:alice".
func (c caller) actor() string { return string(c.Scope) + ":" + c.Name }

// owns refuses a scoped caller what belongs to somebody else.
func (c caller) owns(scope store.Scope, name string) error {
	if c.Scope == scope && c.Of != name {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("this token is of %s %s, not of %s", scope, c.Of, name))
	}
	return nil
}

type callerKey struct{}

// from is the caller that the gate let in.
func from(ctx context.Context) caller {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		panic("server: handler without caller: its procedure passed no gate")
	}
	return c
}

// gate lets a call in before its message is read.
func (s *Server) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, h http.Header) (context.Context, error) {
	c, err := s.admit(ctx, access[spec.Procedure], h.Get("Authorization"))
	if err != nil {
		s.metrics.requests.WithLabelValues(counted(spec.Procedure), connect.CodeOf(err).String()).Inc()
		return nil, err
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

// admit finds the caller and checks that its scope is among may.
func (s *Server) admit(ctx context.Context, may who, authorization string) (caller, error) {
	if may == anyone {
		return caller{}, nil
	}
	token, err := bearer(authorization)
	if err != nil {
		return caller{}, err
	}
	if may == endpoint {
		return endpointCaller(token)
	}
	if strings.HasPrefix(token, prefixEndpoint) || strings.HasPrefix(token, prefixEnrol) {
		return caller{}, connect.NewError(connect.CodePermissionDenied, errors.New("an endpoint's or enrolment token opens nothing here; want an access token (hgo_...)"))
	}
	hash, err := hashToken(prefixAccess, token)
	if err != nil {
		return caller{}, connect.NewError(connect.CodeUnauthenticated, fmt.Errorf("access token: %w", err))
	}
	t, err := s.store.TokenByHash(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		return caller{}, connect.NewError(connect.CodeUnauthenticated, errors.New("access token: unknown or revoked"))
	}
	if err != nil {
		return caller{}, s.fail(ctx, "check access token", err)
	}
	if scopes[t.Scope]&may == 0 {
		return caller{}, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("a token of scope %s may not do this", t.Scope))
	}
	return caller{Token: t}, nil
}

// endpointCaller reads an endpoint's token; the batch compares the secret.
func endpointCaller(token string) (caller, error) {
	bad := func(code connect.Code, what string) (caller, error) {
		return caller{}, connect.NewError(code, errors.New("endpoint token: "+what))
	}
	if strings.HasPrefix(token, prefixAccess) || strings.HasPrefix(token, prefixEnrol) {
		return bad(connect.CodePermissionDenied, "this is another kind of token; want hge_...")
	}
	rest, ok := strings.CutPrefix(token, prefixEndpoint)
	if !ok {
		return bad(connect.CodeUnauthenticated, "want hge_, 13 characters, _, 43 characters")
	}
	id, secret, ok := strings.Cut(rest, "_")
	if !ok {
		return bad(connect.CodeUnauthenticated, "want hge_, 13 characters, _, 43 characters")
	}
	n, err := ids.Parse("E", "E-"+id)
	if err != nil {
		return bad(connect.CodeUnauthenticated, "its id part is no endpoint id")
	}
	hash, err := hashSecret(secret)
	if err != nil {
		return bad(connect.CodeUnauthenticated, err.Error())
	}
	return caller{endpoint: n, secret: hash}, nil
}

// bearer reads the token of an Authorization header (RFC 6750 2.1).
func bearer(authorization string) (string, error) {
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", connect.NewError(connect.CodeUnauthenticated, errors.New("want the header \"Authorization: Bearer TOKEN\""))
	}
	return token, nil
}

// hashToken checks a token's form and hashes its secret part.
func hashToken(prefix, token string) (store.Hash, error) {
	secret, ok := strings.CutPrefix(token, prefix)
	if !ok {
		return store.Hash{}, fmt.Errorf("want %s and 43 characters", prefix)
	}
	return hashSecret(secret)
}

// hashSecret hashes the 32 bytes behind 43 characters of base64url. Errors never
// quote the secret.
func hashSecret(secret string) (store.Hash, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(b) != secretBytes {
		return store.Hash{}, fmt.Errorf("its secret part is not %d bytes in base64url without padding", secretBytes)
	}
	return sha256.Sum256(b), nil
}

// newToken makes a token and the hash to store.
func newToken(prefix string) (token string, hash store.Hash) {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: it aborts the program instead
	return prefix + base64.RawURLEncoding.EncodeToString(b[:]), sha256.Sum256(b[:])
}
