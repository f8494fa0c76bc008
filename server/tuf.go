package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/headgate/headgate/internal/lane"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/store"
)

const (
	// timestampPath is the one path that the whole fleet asks all the time.
	timestampPath = "/tuf/timestamp.json"
	// followEvery is how soon another server's publishing is noticed.
	followEvery = 500 * time.Millisecond
	cachedFiles = 256
	maxCached   = 1 << 20 // bytes; larger files come from the database each time
)

// repository is what serving files needs of the store.
type repository interface {
	RepositoryVersion(ctx context.Context) (int64, error)
	RepositoryFile(ctx context.Context, path string) (store.File, error)
	RepositoryFiles(ctx context.Context, prefix string) ([]store.File, int64, error)
}

// files serves the TUF repository: timestamp.json from memory, other files,
// which never change, through a cache.
type files struct {
	repo      repository
	log       *slog.Logger
	timestamp atomic.Pointer[file]
	roots     atomic.Int64 // newest version of root.json
	version   atomic.Int64 // of the repository
	cache     *lru.Cache[string, *file]
	wake      chan struct{}

	hits, unchanged atomic.Int64 // of timestamp.json
}

// file is a file with its headers made beforehand: handlers share the slices and
// nobody changes them.
type file struct {
	body            []byte
	tag             string
	etag, length    []string
	kind, freshness []string
	lines           string // etag and freshness as they stand in an answer
}

var (
	jsonKind  = []string{"application/json"}
	ask       = []string{"no-cache"} // may be kept, must be asked about
	immutable = []string{"public, max-age=31536000, immutable"}
)

func newFile(body []byte, freshness []string) *file {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	return &file{
		body: body, tag: tag, etag: []string{tag}, length: []string{strconv.Itoa(len(body))}, kind: jsonKind, freshness: freshness,
		lines: "Etag: " + tag + "\r\nCache-Control: " + freshness[0] + "\r\n",
	}
}

func newFiles(repo repository, log *slog.Logger) *files {
	cache, err := lru.New[string, *file](cachedFiles)
	if err != nil {
		panic("server: the file cache has no room: " + err.Error())
	}
	return &files{repo: repo, log: log, cache: cache, wake: make(chan struct{}, 1)}
}

// serveTimestamp answers an update check. It allocates nothing of its own: with
// nothing new it is one comparison and a 304.
func (f *files) serveTimestamp(w http.ResponseWriter, r *http.Request) {
	t := f.timestamp.Load()
	if t == nil {
		http.Error(w, "no repository is published yet", http.StatusNotFound)
		return
	}
	f.hits.Add(1)
	if t.serve(w, r) {
		f.unchanged.Add(1)
	}
}

// timestampLane is serveTimestamp on the lane.
func (f *files) timestampLane(_ context.Context, r lane.Request, a *lane.Answer) {
	t := f.timestamp.Load()
	if t == nil {
		a.Status, a.Header, a.Body = http.StatusNotFound, append(a.Header, "Content-Type: text/plain; charset=utf-8\r\n"...), append(a.Body, "no repository is published yet\n"...)
		return
	}
	f.hits.Add(1)
	a.Header = append(a.Header, t.lines...)
	if len(r.Tag) > 0 && (string(r.Tag) == t.tag || matches([]string{string(r.Tag)}, t.tag)) {
		f.unchanged.Add(1)
		a.Status = http.StatusNotModified
		return
	}
	a.Header, a.Body = append(a.Header, "Content-Type: application/json\r\n"...), append(a.Body, t.body...)
}

// serve answers with the file, or 304 if the client has it, and says which.
func (t *file) serve(w http.ResponseWriter, r *http.Request) (unchanged bool) {
	h := w.Header()
	h["Etag"] = t.etag
	h["Cache-Control"] = t.freshness
	if m := r.Header["If-None-Match"]; len(m) > 0 && matches(m, t.tag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h["Content-Type"] = t.kind
	h["Content-Length"] = t.length
	if r.Method != http.MethodHead {
		w.Write(t.body)
	}
	return false
}

// matches is If-None-Match (RFC 9110 13.1.2), by weak comparison.
func matches(headers []string, tag string) bool {
	if headers[0] == tag {
		return true
	}
	for _, h := range headers {
		for one := range strings.SplitSeq(h, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

// refresh loads timestamp.json if the repository changed.
func (f *files) refresh(ctx context.Context) error {
	v, err := f.repo.RepositoryVersion(ctx)
	if err != nil {
		return fmt.Errorf("follow repository: %w", err)
	}
	if v == f.version.Load() {
		return nil
	}
	t, err := f.repo.RepositoryFile(ctx, "timestamp.json")
	if errors.Is(err, store.ErrNotFound) {
		return nil // nothing is published yet
	}
	if err != nil {
		return fmt.Errorf("follow repository: %w", err)
	}
	for n := f.roots.Load() + 1; ; n++ {
		if _, err := f.repo.RepositoryFile(ctx, tuf.MetaFile(tuf.Root, n)); errors.Is(err, store.ErrNotFound) {
			f.roots.Store(n - 1)
			break
		} else if err != nil {
			return fmt.Errorf("follow repository: %w", err)
		}
	}
	// The version was read first: what came between is loaded once more.
	f.timestamp.Store(newFile(t.Body, ask))
	f.version.Store(v)
	return nil
}

func (f *files) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run follows the repository, whoever publishes.
func (f *files) run(ctx context.Context) {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	failing := false
	for {
		err := f.refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			f.log.LogAttrs(ctx, slog.LevelError, "cannot follow the repository", slog.Any("err", err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-f.wake:
		}
	}
}

// open finds a file that never changes.
func (f *files) open(ctx context.Context, path string) (*file, error) {
	if n, ok := strings.CutSuffix(path, ".root.json"); ok {
		// Each refresh of each agent asks for the next root: that costs no query.
		if v, err := strconv.ParseInt(n, 10, 64); err != nil || v > f.roots.Load() {
			return nil, store.ErrNotFound
		}
	}
	if got, ok := f.cache.Get(path); ok {
		return got, nil
	}
	stored, err := f.repo.RepositoryFile(ctx, path)
	if err != nil {
		return nil, err
	}
	got := newFile(stored.Body, immutable)
	if len(got.body) <= maxCached {
		f.cache.Add(path, got)
	}
	return got, nil
}

// serveTUF serves the repository's files and the artifacts of releases.
func (s *Server) serveTUF(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/tuf/")
	if rest, ok := strings.CutPrefix(path, "targets/"); ok && strings.HasSuffix(rest, ".artifact.tar") {
		s.serveArtifact(w, r, rest)
		return
	}
	f, err := s.files.open(r.Context(), path)
	if err != nil {
		s.refuse(w, r, "read /tuf/"+path, err)
		return
	}
	f.serve(w, r)
}

// slowest is the slowest transfer that is waited for, bytes a second.
const slowest = 16 << 10

// serveArtifact streams an artifact from the database. Only artifacts of listed
// releases are served, each at its release's path.
func (s *Server) serveArtifact(w http.ResponseWriter, r *http.Request, path string) {
	doing := "read /tuf/targets/" + path
	dir, name, _ := cutLast(path, "/")
	digest := strings.TrimSuffix(name, ".artifact.tar")
	product, version, err := release.ParseTarget(dir + "/artifact.tar")
	if err == nil {
		err = release.CheckDigest(digest)
	}
	if err != nil {
		s.refuse(w, r, doing, fmt.Errorf("%w: %w", store.ErrNotFound, err))
		return
	}
	rel, err := s.store.Release(r.Context(), product, version)
	if err == nil && (rel.Digest != digest || !rel.Listed) {
		err = store.ErrNotFound
	}
	if err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	a, err := s.store.OpenArtifact(r.Context(), digest)
	if err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	s.extend(w, a.Length())
	h := w.Header()
	h["Etag"] = []string{`"` + digest + `"`}
	h["Cache-Control"] = immutable
	h["Content-Type"] = []string{"application/x-tar"}
	http.ServeContent(w, r, "", time.Time{}, a)
}

// extend gives a long transfer its time.
func (s *Server) extend(w http.ResponseWriter, length int64) {
	rc := http.NewResponseController(w)
	until := time.Now().Add(writeTimeout + time.Duration(length/slowest)*time.Second)
	// Only a ResponseWriter that is no network connection refuses.
	_ = rc.SetReadDeadline(until)
	_ = rc.SetWriteDeadline(until)
}

// cutLast parts s at the last sep.
func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}
