package attest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/headgate/headgate/release/tuf"
)

func key(t testing.TB) *tuf.Key {
	t.Helper()
	k, err := tuf.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func statement() Statement {
	return Statement{
		Product: "acme/rules", Version: "3.0.0", Digest: strings.Repeat("ab", 32), Kinds: []string{"compatibility", "data-integrity"},
		Result: Passed, URL: "https://ci.example/1", Passed: []string{"debian-12", "rhel-9"},
	}
}

func TestAttestationSaysWhatWasSigned(t *testing.T) {
	alice, bob := key(t), key(t)
	b, err := Sign(t.Context(), statement(), alice, bob)
	if err != nil {
		t.Fatal(err)
	}
	got, by, err := Verify(t.Context(), b, []tuf.PublicKey{key(t).Public(), bob.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, statement()) || !reflect.DeepEqual(by, []string{bob.ID()}) {
		t.Errorf("got %+v by %v", got, by)
	}
}

// Other tools name keys otherwise, or not at all.
func TestKeyIDsAreHintsOnly(t *testing.T) {
	alice := key(t)
	b, err := Sign(t.Context(), statement(), alice)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "SHA256:foreign"} {
		renamed := strings.Replace(string(b), alice.ID(), id, 1)
		if _, _, err := Verify(t.Context(), []byte(renamed), []tuf.PublicKey{alice.Public()}); err != nil {
			t.Errorf("keyid %q: %v", id, err)
		}
	}
}

func TestUnsoundAttestationsAreRefused(t *testing.T) {
	alice := key(t)
	good, err := Sign(t.Context(), statement(), alice)
	if err != nil {
		t.Fatal(err)
	}
	// signed signs any payload, as a careless or foreign attestor may.
	signed := func(payload string) []byte {
		es, err := dsse.NewEnvelopeSigner(signer{alice})
		if err != nil {
			t.Fatal(err)
		}
		e, err := es.SignPayload(context.Background(), PayloadType, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var e dsse.Envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) []byte {
		if !strings.Contains(string(payload), old) {
			t.Fatalf("the payload has no %q: %s", old, payload)
		}
		return signed(strings.Replace(string(payload), old, new, 1))
	}
	tampered := strings.Replace(string(good), e.Payload, base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(payload), "3.0.0", "4.0.0", 1))), 1)
	for name, c := range map[string]struct {
		envelope []byte
		want     string
	}{
		"tampered":       {[]byte(tampered), "no signature of a known attestor"},
		"no envelope":    {payload, "not a DSSE envelope"},
		"two values":     {append(good[:len(good):len(good)], good...), "data after"},
		"too large":      {make([]byte, MaxEnvelope+1), "limit"},
		"no kind":        {with("compatibility", ""), "kind of evidence"},
		"predicate":      {with("test-result", "vsa"), "predicate type"},
		"statement type": {with("/Statement/v1", "/Statement/v9"), "statement type"},
		"subject":        {with("artifact.tar", "other.tar"), "subject: target"},
		"digest":         {with(strings.Repeat("ab", 32), "abc"), "digest"},
		"result":         {with("PASSED", "GREAT"), "result"},
		"contradiction":  {with(`"passedTests"`, `"failedTests"`), "failed tests are named"},
		"no json":        {signed("{"), "statement"},
	} {
		if _, _, err := Verify(t.Context(), c.envelope, []tuf.PublicKey{alice.Public()}); !errors.Is(err, ErrInvalid) && !strings.Contains(err.Error(), "invalid") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, _, err := Verify(t.Context(), good, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("nobody is known: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	alice := key(f)
	b, err := Sign(context.Background(), statement(), alice)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, by, err := Verify(context.Background(), b, []tuf.PublicKey{alice.Public()})
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("unmarked error: %v", err)
		}
		if err == nil && (s.Check() != nil || len(by) != 1) {
			t.Fatalf("accepted %+v by %v", s, by)
		}
	})
}
