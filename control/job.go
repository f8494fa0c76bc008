package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

// The jobs' pace. Why River and these figures: docs/decisions/0003.
const (
	jobPoll     = 200 * time.Millisecond
	jobCooldown = 50 * time.Millisecond
	jobTimeout  = 30 * time.Second
	// A job whose server was killed runs again after this.
	jobRescue = time.Minute
	// publishAnyway is the safety net under the jobs that decisions enqueue.
	publishAnyway = 10 * time.Second
	jobKept       = time.Hour
)

// Acts are the effects that jobs carry out. Each is idempotent and looks at the
// whole state (level-triggered), so that a lost or doubled job does no harm.
type Acts struct {
	// PublishPlan signs and stores a new plan if rollouts changed since the last.
	PublishPlan func(context.Context) error
	// Renew signs snapshot and timestamp anew if they near their expiry.
	Renew func(context.Context) error
	// Checkpoint signs the ledger's head if it grew.
	Checkpoint func(context.Context) error
}

type publishPlan struct{}

func (publishPlan) Kind() string { return "publish_plan" }

type renewTimestamp struct{}

func (renewTimestamp) Kind() string { return "renew_timestamp" }

type signCheckpoint struct{}

func (signCheckpoint) Kind() string { return "sign_checkpoint" }

// act is a worker that carries out one kind of job.
type act[T river.JobArgs] struct {
	river.WorkerDefaults[T]
	do func(context.Context) error
}

// Work implements river.Worker.
func (a *act[T]) Work(ctx context.Context, _ *river.Job[T]) error { return a.do(ctx) }

// NextRetry implements river.Worker: soon at first, never later than a minute.
// A halt must reach the plan as soon as the trouble is over.
func (a *act[T]) NextRetry(j *river.Job[T]) time.Time {
	return time.Now().Add(min(time.Second<<min(j.Attempt, 6), time.Minute))
}

// Jobs is the outbox: jobs in the database, enqueued in the transaction of the
// decision that wants them, carried out by whichever server takes them.
type Jobs struct {
	client *river.Client[*sql.Tx]
	driver riverdriver.Driver[*sql.Tx]
}

// JobConfig says on what and how often jobs run.
type JobConfig struct {
	DB      *sql.DB
	Dialect string // "sqlite" or "postgres"
	Acts    Acts
	// Renew and Checkpoint are how often these are looked at.
	Renew, Checkpoint time.Duration
	Log               *slog.Logger
}

// NewJobs brings River's tables up to date and makes a client that is not
// started yet.
func NewJobs(ctx context.Context, c JobConfig) (*Jobs, error) {
	j := &Jobs{driver: riverdatabasesql.New(c.DB)}
	if c.Dialect == "sqlite" {
		j.driver = riversqlite.New(c.DB)
	}
	m, err := rivermigrate.New(j.driver, &rivermigrate.Config{Logger: quiet(c.Log)})
	if err != nil {
		return nil, fmt.Errorf("migrate job tables: %w", err)
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("migrate job tables: %w", err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &act[publishPlan]{do: c.Acts.PublishPlan})
	river.AddWorker(workers, &act[renewTimestamp]{do: c.Acts.Renew})
	river.AddWorker(workers, &act[signCheckpoint]{do: c.Acts.Checkpoint})
	j.client, err = river.NewClient(j.driver, &river.Config{
		Workers:           workers,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}},
		FetchPollInterval: jobPoll, FetchCooldown: jobCooldown, PollOnly: true,
		JobTimeout: jobTimeout, RescueStuckJobsAfter: jobRescue,
		CompletedJobRetentionPeriod: jobKept,
		PeriodicJobs: []*river.PeriodicJob{
			periodic(publishPlan{}, publishAnyway),
			periodic(renewTimestamp{}, c.Renew),
			periodic(signCheckpoint{}, c.Checkpoint),
		},
		ErrorHandler: &jobErrors{log: c.Log},
		Logger:       quiet(c.Log),
	})
	if err != nil {
		return nil, fmt.Errorf("make job client: %w", err)
	}
	return j, nil
}

func periodic(args river.JobArgs, d time.Duration) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(d), func() (river.JobArgs, *river.InsertOpts) { return args, nil },
		&river.PeriodicJobOpts{RunOnStart: true})
}

// EnqueuePublish enqueues the publishing of the plan in tx: it happens if tx
// commits, and only then. It is a store.InTx.
func (j *Jobs) EnqueuePublish(tx *sql.Tx) error {
	// No unique job here: one that runs already may have read the rollouts before
	// this transaction.
	if _, err := j.client.InsertTx(context.Background(), tx, publishPlan{}, nil); err != nil {
		return fmt.Errorf("enqueue publish_plan: %w", err)
	}
	return nil
}

// Start begins to work; what was left undone is looked at first.
func (j *Jobs) Start(ctx context.Context) error {
	if err := j.client.Start(ctx); err != nil {
		return fmt.Errorf("start jobs: %w", err)
	}
	if _, err := j.client.Insert(ctx, publishPlan{}, nil); err != nil {
		return errors.Join(fmt.Errorf("enqueue publish_plan: %w", err), j.client.StopAndCancel(ctx))
	}
	return nil
}

// Stop lets running jobs finish until ctx ends, then cancels them.
func (j *Jobs) Stop(ctx context.Context) error {
	err := j.client.Stop(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = j.client.StopAndCancel(context.WithoutCancel(ctx))
	}
	if err != nil {
		return fmt.Errorf("stop jobs: %w", err)
	}
	return nil
}

// jobErrors logs failed jobs; River retries them.
type jobErrors struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler.
func (h *jobErrors) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	h.log.LogAttrs(ctx, slog.LevelError, "job failed", slog.String("job", job.Kind), slog.Int("attempt", job.Attempt), slog.Any("err", err))
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (h *jobErrors) HandlePanic(ctx context.Context, job *rivertype.JobRow, v any, trace string) *river.ErrorHandlerResult {
	h.log.LogAttrs(ctx, slog.LevelError, "job panicked", slog.String("job", job.Kind), slog.Any("err", v), slog.String("trace", trace))
	return nil
}

// quiet keeps River's warnings and drops its chatter.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(warnings{log.Handler()}) }

// warnings is a handler that passes warnings and errors only.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
