// Package attest makes and verifies signed statements about releases: in-toto
// attestations (Statement v1, test-result predicate v0.1) in DSSE envelopes. They
// are the evidence that a release was tried before anybody gets it.
//
// It decides nothing: which evidence a rollout needs is its policy's, and whether
// there is enough of it, rollout's. Its words: statement, kind, attestor.
package attest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	testresult "github.com/in-toto/attestation/go/predicates/test_result/v0"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
)

// Limits of an envelope.
const (
	MaxEnvelope   = 256 << 10 // bytes
	maxSubjects   = 16
	maxSignatures = 16
	maxKinds      = 16
	maxTests      = 10_000 // names in each list
)

// The types of what is signed (in-toto Attestation Framework 1.1; DSSE 1.0).
const (
	PayloadType   = "application/vnd.in-toto+json"
	PredicateType = "https://in-toto.io/attestation/test-result/v0.1"
)

// ErrInvalid marks an envelope that is none, or that nobody known has signed.
var ErrInvalid = errors.New("invalid")

// Result is what the tests came to, in the predicate's words.
type Result string

// The results.
const (
	Passed Result = "PASSED"
	Warned Result = "WARNED" // passed, with warnings
	Failed Result = "FAILED"
)

// Statement says how a release did in tests of some kinds.
type Statement struct {
	Product, Version string
	Digest           string // SHA-256 of the artifact, lower-case hex
	// Kinds name what was tried: "compatibility", "data-integrity", "regression".
	// They are the names of the predicate's configurations.
	Kinds  []string
	Result Result
	URL    string // where the whole result stands; may be empty
	Passed []string
	Warned []string
	Failed []string
}

var kindName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// CheckKind refuses what cannot name a kind of evidence.
func CheckKind(kind string) error {
	if !kindName.MatchString(kind) {
		return fmt.Errorf("kind of evidence %.50q: want 1 to 40 of a-z, 0-9 and inner hyphens: %w", kind, ErrInvalid)
	}
	return nil
}

// Check refuses a statement that says nothing of a release.
func (s Statement) Check() error {
	if _, _, err := release.SplitProduct(s.Product); err != nil {
		return err
	}
	if err := release.CheckVersion(s.Version); err != nil {
		return err
	}
	if err := release.CheckDigest(s.Digest); err != nil {
		return err
	}
	if len(s.Kinds) == 0 || len(s.Kinds) > maxKinds {
		return fmt.Errorf("statement: %d kinds; want 1 to %d, as names of the predicate's configuration: %w", len(s.Kinds), maxKinds, ErrInvalid)
	}
	for _, k := range s.Kinds {
		if err := CheckKind(k); err != nil {
			return err
		}
	}
	if !slices.Contains([]Result{Passed, Warned, Failed}, s.Result) {
		return fmt.Errorf("statement: result %.20q; want PASSED, WARNED or FAILED: %w", s.Result, ErrInvalid)
	}
	if len(s.Passed) > maxTests || len(s.Warned) > maxTests || len(s.Failed) > maxTests {
		return fmt.Errorf("statement: more than %d tests in a list: %w", maxTests, ErrInvalid)
	}
	if s.Result == Passed && len(s.Failed) > 0 {
		return fmt.Errorf("statement: the result is PASSED, and failed tests are named (%.60q): %w", s.Failed[0], ErrInvalid)
	}
	return nil
}

// Sign signs a statement with each of the keys, and gives the envelope's JSON.
func Sign(ctx context.Context, s Statement, keys ...tuf.Signer) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	payload, err := s.encode()
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	var signers []dsse.Signer
	for _, k := range keys {
		signers = append(signers, signer{k})
	}
	es, err := dsse.NewEnvelopeSigner(signers...)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	e, err := es.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return json.MarshalIndent(e, "", "  ")
}

func (s Statement) encode() ([]byte, error) {
	result := &testresult.TestResult{Result: string(s.Result), Url: s.URL, PassedTests: s.Passed, WarnedTests: s.Warned, FailedTests: s.Failed}
	for _, k := range s.Kinds {
		result.Configuration = append(result.Configuration, &intoto.ResourceDescriptor{Name: k})
	}
	b, err := protojson.Marshal(result)
	if err != nil {
		return nil, err
	}
	predicate := &structpb.Struct{}
	if err := protojson.Unmarshal(b, predicate); err != nil {
		return nil, err
	}
	st := &intoto.Statement{
		Type: intoto.StatementTypeUri, PredicateType: PredicateType, Predicate: predicate,
		Subject: []*intoto.ResourceDescriptor{{Name: release.Target(s.Product, s.Version), Digest: map[string]string{"sha256": s.Digest}}},
	}
	return protojson.Marshal(st)
}

// Verify checks an envelope against the known keys and reads what it says. It
// returns the ids of the keys that signed it, at least one. A statement about
// several releases is refused: evidence is of one.
func Verify(ctx context.Context, envelope []byte, known []tuf.PublicKey) (Statement, []string, error) {
	bad := func(format string, a ...any) (Statement, []string, error) {
		return Statement{}, nil, fmt.Errorf("attestation: "+format+": %w", append(a, ErrInvalid)...)
	}
	if len(envelope) > MaxEnvelope {
		return bad("%d bytes, limit %d", len(envelope), MaxEnvelope)
	}
	var e dsse.Envelope
	d := json.NewDecoder(bytes.NewReader(envelope))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return bad("not a DSSE envelope: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("data after the JSON value")
	}
	if e.PayloadType != PayloadType {
		return bad("payload type %.60q; want %s", e.PayloadType, PayloadType)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return bad("%d signatures; want 1 to %d", len(e.Signatures), maxSignatures)
	}
	payload, by, err := signedBy(ctx, &e, known)
	if err != nil {
		return bad("%v", err)
	}
	s, err := decode(payload)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return bad("%v", err)
	}
	return s, by, nil
}

// signedBy finds the known keys with a good signature. Each key is asked by
// itself: the library's threshold knows no "any of". The signatures' own key ids
// are hints (DSSE 1.0, keyid), and other tools make them otherwise: none is read.
func signedBy(ctx context.Context, e *dsse.Envelope, known []tuf.PublicKey) (payload []byte, by []string, err error) {
	bare := *e
	bare.Signatures = slices.Clone(e.Signatures)
	for i := range bare.Signatures {
		bare.Signatures[i].KeyID = ""
	}
	for _, k := range known {
		v, err := dsse.NewEnvelopeVerifier(verifier{k})
		if err != nil {
			return nil, nil, err
		}
		if _, b, err := v.VerifyAndDecode(ctx, &bare); err == nil {
			payload, by = b, append(by, k.ID())
		}
	}
	if len(by) == 0 {
		var ids []string
		for _, s := range e.Signatures {
			ids = append(ids, fmt.Sprintf("%.64q", s.KeyID))
		}
		return nil, nil, fmt.Errorf("no signature of a known attestor; it names the keys %v", ids)
	}
	return payload, by, nil
}

func decode(payload []byte) (Statement, error) {
	var st intoto.Statement
	if err := protojson.Unmarshal(payload, &st); err != nil {
		return Statement{}, fmt.Errorf("statement: %w", err)
	}
	if err := st.Validate(); err != nil {
		return Statement{}, fmt.Errorf("statement: %w", err)
	}
	if st.PredicateType != PredicateType {
		return Statement{}, fmt.Errorf("predicate type %.80q; want %s", st.PredicateType, PredicateType)
	}
	if n := len(st.Subject); n != 1 {
		return Statement{}, fmt.Errorf("%d subjects; want one, a release's artifact", n)
	}
	b, err := protojson.Marshal(st.Predicate)
	if err != nil {
		return Statement{}, fmt.Errorf("predicate: %w", err)
	}
	var r testresult.TestResult
	if err := protojson.Unmarshal(b, &r); err != nil {
		return Statement{}, fmt.Errorf("predicate: %w", err)
	}
	s := Statement{
		Digest: st.Subject[0].Digest["sha256"], Result: Result(r.Result), URL: r.Url,
		Passed: r.PassedTests, Warned: r.WarnedTests, Failed: r.FailedTests,
	}
	if s.Product, s.Version, err = release.ParseTarget(st.Subject[0].Name); err != nil {
		return Statement{}, fmt.Errorf("subject: %w", err)
	}
	for _, c := range r.Configuration {
		s.Kinds = append(s.Kinds, c.Name)
	}
	return s, nil
}

// signer is a key as DSSE wants one.
type signer struct{ key tuf.Signer }

// Sign implements dsse.Signer.
func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) { return s.key.Sign(data) }

// KeyID implements dsse.Signer.
func (s signer) KeyID() (string, error) { return s.key.Public().ID(), nil }

// verifier is a public key as DSSE wants one.
type verifier struct{ key tuf.PublicKey }

// Verify implements dsse.Verifier.
func (v verifier) Verify(_ context.Context, data, sig []byte) error { return v.key.Verify(data, sig) }

// KeyID implements dsse.Verifier.
func (v verifier) KeyID() (string, error) { return v.key.ID(), nil }

// Public implements dsse.Verifier.
func (v verifier) Public() crypto.PublicKey { return v.key.Ed25519() }
