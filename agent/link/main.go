package link

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/internal/slim"
)

// Main is "headgate link", started by keeper with its socket as descriptor
// ipc.LinkFD. It returns the exit status.
func Main(args []string) int {
	fs := flag.NewFlagSet("headgate link", flag.ContinueOnError)
	identity := fs.String("identity", "", "identity `file`, made by enrolment")
	dir := fs.String("dir", "", "link's own `folder`")
	poll := fs.Duration("poll", time.Minute, "how often to ask for a plan until the first plan says")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: spellSpans})).With("role", "link")
	if *identity == "" || *dir == "" || fs.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "headgate link: want --identity FILE --dir FOLDER and no arguments; keeper starts it")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	slim.Keep()
	if err := inherit(ctx, *identity, *dir, *poll, log); err != nil {
		log.Error("link ended", "err", err)
		return 1
	}
	return 0
}

// spellSpans writes durations as words: keeper passes the log on as it reads it.
func spellSpans(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

func inherit(ctx context.Context, identity, dir string, poll time.Duration, log *slog.Logger) error {
	id, err := ReadIdentity(identity)
	if err != nil {
		return err
	}
	conn, err := ipc.Inherit(ipc.LinkFD)
	if err != nil {
		return fmt.Errorf("join keeper: %w", err)
	}
	keeper := ipc.NewClient(conn)
	err = Run(ctx, Config{Identity: id, Dir: dir, Keeper: keeper, Poll: poll, Log: log.With("endpoint", id.Endpoint)})
	return errors.Join(err, keeper.Close())
}
