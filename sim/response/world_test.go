package response

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/cli"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/server"
	"github.com/headgate/headgate/server/intake"
)

// epoch is the first instant of every story.
var epoch = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

// The ticks of a world: while endpoints are at work, and while nothing happens but
// that they are heard from.
const (
	tick  = 30 * time.Second
	quiet = 30 * time.Minute
)

// world is a server, its clock, and everybody around it.
type world struct {
	ctx  context.Context
	dir  string
	s    *server.Server
	errs *bytes.Buffer // what the server's log complains of

	mu  sync.Mutex // guards now
	now time.Time

	fleet  []*endpoint
	tokens map[string]string // of enrolment, by tenant
	agent  headgatev1connect.AgentServiceClient
	repo   *tuf.Client // what the endpoints know of the repository
	plan   release.Plan
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func newWorld(t *testing.T) (*world, error) {
	w := &world{ctx: t.Context(), dir: t.TempDir(), errs: &bytes.Buffer{}, now: epoch, tokens: map[string]string{}}
	t.Chdir(w.dir)
	var err error
	w.s, err = server.New(server.Config{
		Data: filepath.Join(w.dir, "server"), Listen: "127.0.0.1:0", InsecureHTTP: true, Stepped: true, Now: w.clock,
		// Who is quiet for a day is stale.
		Poll: span.Duration(time.Hour), Beacon: span.Duration(6 * time.Hour),
		Intake: &intake.Config{Name: "Acme"},
		Log:    slog.New(slog.NewTextHandler(w.errs, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, err
	}
	if err := w.s.Start(t.Context()); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := w.s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("HEADGATE_SERVER", w.s.URL())
	t.Setenv("HEADGATE_TOKEN_FILE", filepath.Join(w.dir, "server", "operator.token"))
	w.agent = headgatev1connect.NewAgentServiceClient(http.DefaultClient, w.s.URL())
	return w, nil
}

// command runs one command line, as a person who has said yes.
func (w *world) command(args ...string) (string, error) {
	var out, talk bytes.Buffer
	if cli.Main(w.ctx, cli.Programs{}, append([]string{"--yes"}, args...), strings.NewReader(""), &out, &talk) != 0 {
		return "", errors.New(strings.TrimSpace(talk.String()))
	}
	return out.String(), nil
}

// run lets the world go on for d, or until ok, and tells which.
func (w *world) run(d, step time.Duration, ok func() (bool, error)) (bool, error) {
	for end := w.clock().Add(d); ; {
		if yes, err := ok(); err != nil || yes {
			return yes, err
		}
		if !w.clock().Before(end) {
			return false, nil
		}
		w.mu.Lock()
		w.now = w.now.Add(step)
		w.mu.Unlock()
		if err := w.turn(); err != nil {
			return false, err
		}
	}
}

// turn is one instant: the endpoints in their order, then the server.
func (w *world) turn() error {
	for _, e := range w.fleet {
		if err := e.turn(w); err != nil {
			return fmt.Errorf("%s of %s: %w", e.id, e.tenant, err)
		}
	}
	return w.look()
}

// look has the server look once, and the endpoints hear of a new plan.
func (w *world) look() error {
	if err := w.s.Step(w.ctx); err != nil {
		return fmt.Errorf("the server: %w", err)
	}
	if w.errs.Len() > 0 {
		return fmt.Errorf("the server's log: %s", w.errs)
	}
	return w.hear()
}

// hear reads the plan that is in force, as an endpoint does.
func (w *world) hear() error {
	if w.repo == nil {
		root, err := w.s.Store().RepositoryFile(w.ctx, "1.root.json")
		if err != nil {
			return nil //nolint:nilerr // there is no trust yet
		}
		if w.repo, err = tuf.Open(filepath.Join(w.dir, "tuf"), root.Body, tuf.NewHTTP(w.s.URL()+"/tuf/", http.DefaultClient)); err != nil {
			return err
		}
	}
	if _, err := w.repo.Refresh(w.ctx, w.clock()); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	p, err := w.repo.Plan()
	if errors.Is(err, tuf.ErrNotFound) {
		return nil
	}
	w.plan = p
	return err
}
