package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/release/attest"
	"github.com/headgate/headgate/release/tuf"
)

func (a *app) evidenceCommand() *cobra.Command {
	attestor := group("attestor", "Those whose signed test results count", a.attestorAdd(), a.attestorList(), a.attestorRemove())
	return group("evidence", "Signed test results, which a policy may ask for before a rollout starts",
		a.evidenceSign(), a.evidenceAttach(), a.evidenceList(), attestor)
}

// evidenceOptions are the flags of evidence sign.
type evidenceOptions struct {
	bundle, result, url string
	kinds, keys         []string
	passed, failed      []string
}

func (a *app) evidenceSign() *cobra.Command {
	var o evidenceOptions
	c := &cobra.Command{
		Use: "sign FILE", Short: "Sign what tests of a release came to", Args: cobra.ExactArgs(1),
		Long: `Sign, offline, what tests of a release came to, as an in-toto attestation
(test-result predicate) in a DSSE envelope:

  headgate evidence sign compat.json --bundle B --kind compatibility \
    --result passed --test debian-12 --test rhel-9 --key lab.key

Any tool that makes such attestations will do; the subject is the release's
target path with the artifact's SHA-256, and the predicate's configuration names
the kinds of evidence.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.bundle == "" || len(o.kinds) == 0 || len(o.keys) == 0 || o.result == "" {
				return usagef("want --bundle FOLDER, --kind KIND, --result passed|warned|failed and --key FILE")
			}
			keys, err := loadKeys(o.keys)
			if err != nil {
				return err
			}
			b, err := readBundle(o.bundle)
			if err != nil {
				return err
			}
			st := attest.Statement{
				Product: b.release.Product, Version: b.release.Version, Digest: b.release.Digest,
				Kinds: o.kinds, Result: attest.Result(strings.ToUpper(o.result)), URL: o.url, Passed: o.passed, Failed: o.failed,
			}
			var signers []tuf.Signer
			for _, k := range keys {
				signers = append(signers, k)
			}
			envelope, err := attest.Sign(cmd.Context(), st, signers...)
			if err != nil {
				return err
			}
			if err := atomicfile.Write(args[0], append(envelope, '\n'), 0o644); err != nil {
				return err
			}
			return a.result(map[string]any{"file": args[0], "product": st.Product, "version": st.Version, "kinds": st.Kinds, "result": st.Result}, func(t *table) {
				t.row(fmt.Sprintf("Signed: %s %s, %s: %s, in %s", st.Product, st.Version, strings.Join(st.Kinds, ", "), st.Result, args[0]))
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.bundle, "bundle", "", "the signed release's `folder`")
	f.StringArrayVar(&o.kinds, "kind", nil, "what was tried: compatibility, data-integrity, regression...; repeat it")
	f.StringVar(&o.result, "result", "", "passed, warned or failed")
	f.StringVar(&o.url, "url", "", "where the whole result stands")
	f.StringArrayVar(&o.passed, "test", nil, "a test that passed; repeat it")
	f.StringArrayVar(&o.failed, "failed-test", nil, "a test that failed; repeat it")
	f.StringArrayVar(&o.keys, "key", nil, "the attestor's key `file`; repeat it")
	return c
}

func (a *app) evidenceAttach() *cobra.Command {
	return &cobra.Command{
		Use: "attach FILE", Short: "Attach signed test results to their release", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			envelope, err := readFile(args[0], attest.MaxEnvelope)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.evidence.AttachEvidence, &headgatev1.AttachEvidenceRequest{Envelope: envelope})
			if err != nil {
				return err
			}
			return a.showEvidence(res, res.Evidence)
		},
	}
}

func (a *app) evidenceList() *cobra.Command {
	return &cobra.Command{
		Use: "list PRODUCT VERSION", Short: "List the evidence for a release that counts", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.evidence.ListEvidence, &headgatev1.ListEvidenceRequest{Product: args[0], Version: args[1]})
			if err != nil {
				return err
			}
			return a.showEvidence(res, res.Evidence)
		},
	}
}

func (a *app) showEvidence(msg any, all []*headgatev1.Evidence) error {
	return a.result(msg, func(t *table) {
		t.row("KIND", "RESULT", "ATTESTOR", "ATTACHED", "ENVELOPE")
		for _, e := range all {
			t.row(e.Kind, e.Result, e.Attestor, when(e.AttachedUs), e.EnvelopeSha256[:12])
		}
	})
}

func (a *app) attestorAdd() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use: "add NAME", Short: "Trust a key to attest test results", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usagef("want --key FILE.pub")
			}
			public, err := loadPublic(key)
			if err != nil {
				return err
			}
			b, err := json.Marshal(public)
			if err != nil {
				return err
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("Test results signed by key %s will count as evidence, under the name %s.", public.ID(), args[0]); err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.evidence.AddAttestor, &headgatev1.AddAttestorRequest{Name: args[0], PublicKey: b})
			if err != nil {
				return err
			}
			return a.showAttestors(res, res.Attestor)
		},
	}
	c.Flags().StringVar(&key, "key", "", "its public key `file`")
	return c
}

func (a *app) attestorList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the attestors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.evidence.ListAttestors, &headgatev1.ListAttestorsRequest{})
			if err != nil {
				return err
			}
			return a.showAttestors(res, res.Attestors...)
		},
	}
}

func (a *app) attestorRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Trust an attestor no more", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			if err := a.confirm("Nothing that %s signed will count as evidence any more; rollouts that have started go on.", args[0]); err != nil {
				return err
			}
			if _, err := call(cmd.Context(), c.evidence.RemoveAttestor, &headgatev1.RemoveAttestorRequest{Name: args[0]}); err != nil {
				return err
			}
			return a.result(map[string]string{"removed": args[0]}, func(t *table) { t.row("Removed: " + args[0]) })
		},
	}
}

func (a *app) showAttestors(msg any, all ...*headgatev1.Attestor) error {
	return a.result(msg, func(t *table) {
		t.row("ATTESTOR", "KEY ID", "ADDED", "REMOVED")
		for _, x := range all {
			t.row(x.Name, x.KeyId, when(x.AddedUs), when(x.RemovedUs))
		}
	})
}
