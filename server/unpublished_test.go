package server

import (
	"strings"
	"testing"

	"github.com/headgate/headgate/release"
)

// Of a fix that is uploaded, bound to an embargoed case and not published, nobody
// finds anything under /tuf/: its file is answered, by its right name, as one that
// there is not, and no list names it. Once it is published, both are there for
// everybody: docs/embargo.md says so.
func TestAFixIsNowhereBeforeItIsPublished(t *testing.T) {
	w := newWorld(t)
	_, err := w.releaseOf("1.0.0", tarOf(t, "engine.so"))
	check(t, err)
	w.embargo("Heap overflow in the zebra parser", "1.0.1")
	body := tarOf(t, "engine.so", "more.so")
	digest := w.upload(body)
	stranger := newClients(w.base, "")
	at := func(digest string) string {
		return "/tuf/targets/" + strings.TrimSuffix(release.Target(product, "1.0.1"), "artifact.tar") + digest + ".artifact.tar"
	}
	of := func(digest string) (int, string) {
		status, text := stranger.get(t, at(digest))
		return status, strings.ReplaceAll(text, digest, "DIGEST")
	}
	status, text := of(digest)
	if none, other := of(strings.Repeat("0", 64)); status != 404 || none != status || other != text {
		t.Errorf("the file: %d %q; one that there is not: %d %q", status, text, none, other)
	}
	files, _, err := w.store.RepositoryFiles(t.Context(), "")
	check(t, err)
	var all []string
	for _, f := range files {
		all = append(all, "/tuf/"+f.Path)
	}
	if len(all) < 5 {
		t.Fatalf("only %q: does the test look?", all)
	}
	for _, path := range all {
		if _, text := stranger.get(t, path); strings.Contains(text, digest) || strings.Contains(text, "1.0.1") {
			t.Errorf("%s tells of it: %s", path, text)
		}
	}
	if _, err := w.releaseOf("1.0.1", body); err != nil {
		t.Fatal(err)
	}
	if status, _ := of(digest); status != 200 {
		t.Errorf("published, and its file is answered by %d", status)
	}
}
