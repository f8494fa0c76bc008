// Package server is the composition root: it opens the database and the keys,
// wires the record packages, the store and the control loops together, and
// answers HTTP: the API (Connect, gRPC and plain JSON), the TUF repository as
// static files, artifact uploads, the ledger's checkpoint, health and metrics.
//
// It decides nothing (rollout does), counts nothing (store does) and holds no
// key but those of the online roles, the ledger and TLS. It owns the words of
// the API's errors, in errors.go.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/internal/lane"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/server/intake"
	"github.com/headgate/headgate/store"
)

// Timeouts and sizes of the listener. Long transfers extend their own.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
)

// Server is one Headgate server. New makes it, Start opens it, Stop ends it.
type Server struct {
	cfg        Config
	cert       tls.Certificate
	keys       keys
	prometheus *promClient // nil if none is configured
	store      *store.Store
	decider    *control.Decider
	sweeper    *control.Sweeper
	discloser  *control.Discloser
	signals    *control.Signals
	follower   *control.Follower
	checks     *checks
	requests   *control.Requests
	enrolments *control.Collector[store.Enrolment, store.EnrolAnswer]
	publisher  *control.Publisher
	jobs       *control.Jobs
	courier    *control.Courier
	herald     *control.Herald
	watchman   *control.Watchman
	duty       *control.Duty
	postmen    []*control.Postman
	mailsCalls bool
	letterhead store.Letterhead
	opened     *intake.Door // nil without intake
	files      *files
	metrics    *metrics
	skews      *skews
	clocks     psirt.ClockPolicy // deadlines of cases
	usual      []lane.Route

	listener net.Listener
	mailAddr string
	mux      *router
	lane     *lane.Server       // takes the listener's connections
	http     *http.Server       // takes those that are not the lane's
	cancel   context.CancelFunc // ends the loops
	loops    sync.WaitGroup
	watches  context.Context // ends the streams
	unwatch  context.CancelFunc
	watching atomic.Int64
	served   chan error
}

// New checks the configuration and prepares the data folder: keys and, with
// TLS, a certificate are made at the first start.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if cfg.DatabaseFile != "" {
		b, err := os.ReadFile(cfg.DatabaseFile)
		if err != nil {
			return nil, fmt.Errorf("read database_file: %w", err)
		}
		cfg.Database = strings.TrimSpace(string(b))
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	s := &Server{cfg: cfg, metrics: newMetrics(), skews: newSkews(), clocks: psirt.DefaultClocks(), served: make(chan error, 1)}
	if s.keys, err = loadKeys(filepath.Join(cfg.Data, "keys"), cfg.Log); err != nil {
		return nil, err
	}
	if s.prometheus, err = newPrometheus(cfg); err != nil {
		return nil, err
	}
	if cfg.ClocksFile != "" {
		if s.clocks, err = readClocks(cfg.ClocksFile); err != nil {
			return nil, err
		}
	}
	if !cfg.InsecureHTTP {
		if s.cert, err = certificate(cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Start opens the database and the listener and begins to serve. After an error
// nothing is left running.
func (s *Server) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.abandon()
			err = fmt.Errorf("start server: %w", err)
		}
	}()
	dsn := s.cfg.Database
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(s.cfg.Data, "headgate.db")
	}
	if s.store, err = store.Open(ctx, dsn, s.cfg.Log); err != nil {
		return err
	}
	if err := s.wire(ctx); err != nil {
		return err
	}
	if err := s.checkKeys(ctx); err != nil {
		return err
	}
	if err := s.firstToken(ctx); err != nil {
		return err
	}
	if err := s.files.refresh(ctx); err != nil {
		return err
	}
	if s.listener, err = s.listen(); err != nil {
		return err
	}
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.watches, s.unwatch = context.WithCancel(context.WithoutCancel(ctx))
	s.loops.Go(func() { s.requests.Run(loops) })
	s.loops.Go(func() { s.enrolments.Run(loops) })
	if err := s.openDoor(loops); err != nil {
		return err
	}
	if !s.cfg.Stepped {
		s.runLoops(loops)
		if err := s.jobs.Start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	s.lane = lane.New(s.listener, s.usual, lane.Limits{ReadHeaderTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout}, s.cfg.Log)
	go s.lane.Serve()
	go func() { s.served <- s.http.Serve(s.lane.Rest()) }()
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "server started", slog.String("addr", s.Addr()), slog.String("database", s.store.Dialect()), slog.String("fingerprint", s.Fingerprint()))
	return nil
}

// runLoops starts what looks again and again, until ctx ends. Step does the same
// once.
func (s *Server) runLoops(ctx context.Context) {
	runs := []func(context.Context){
		s.decider.Run, s.sweeper.Run, s.discloser.Run, s.follower.Run, s.checks.run, s.files.run,
		s.herald.Run, s.courier.Run, s.watchman.Run, s.duty.Run,
	}
	if s.signals.Querier != nil {
		runs = append(runs, s.signals.Run)
	}
	for _, p := range s.postmen {
		runs = append(runs, p.Run)
	}
	for _, run := range runs {
		s.loops.Go(func() { run(ctx) })
	}
}

// abandon undoes a Start that failed.
func (s *Server) abandon() {
	if s.cancel != nil {
		s.cancel()
		s.unwatch()
		s.loops.Wait()
	}
	if s.listener != nil {
		s.listener.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
}

// wire puts the parts together.
func (s *Server) wire(ctx context.Context) error {
	c := s.cfg
	s.files = newFiles(s.store, c.Log)
	s.publisher = &control.Publisher{
		Repository: s.store, Keys: s.keys.online.sets,
		Life: tuf.Life{Timestamp: c.TimestampLife.Std(), Snapshot: max(7*c.TimestampLife.Std(), tuf.DefaultLife.Snapshot), Rollout: max(7*c.TimestampLife.Std(), tuf.DefaultLife.Rollout)},
		Now:  c.Now, Log: c.Log, Committed: func(int64) { s.files.wakeUp() },
		Cadence: rollout.Cadence{Poll: c.Poll, PollJitter: rollout.DefaultCadence().PollJitter, Beacon: c.Beacon},
	}
	var err error
	s.jobs, err = control.NewJobs(ctx, control.JobConfig{
		DB: s.store.DB(), Dialect: s.store.Dialect(), Log: c.Log,
		Renew: c.TimestampLife.Std() / 6, Checkpoint: c.CheckpointEvery.Std(),
		Acts: control.Acts{PublishPlan: s.publisher.PublishPlan, Renew: s.publisher.Renew, Checkpoint: s.checkpoint},
	})
	if err != nil {
		return err
	}
	s.signals = &control.Signals{Rollouts: s.store, Every: c.SignalsEvery.Std(), Now: c.Now, Log: c.Log, Read: func() { s.decider.Wake() }}
	if s.prometheus != nil {
		s.signals.Querier = s.prometheus
	}
	s.decider = &control.Decider{Signals: s.signals.Kept, Rollouts: s.store, Every: c.DecideEvery.Std(), Publish: s.jobs.EnqueuePublish, Now: c.Now, Log: c.Log, Observe: s.metrics.observeDecision, Forget: s.metrics.forget}
	s.sweeper = &control.Sweeper{Silences: s.store, Every: c.DecideEvery.Std(), Now: c.Now, Log: c.Log, Swept: func(n int) {
		s.metrics.outcomes.WithLabelValues("silent").Add(float64(n))
		s.decider.Wake()
	}}
	s.discloser = &control.Discloser{Cases: s.store, As: store.Engine("engine"), Measure: s.measure, Every: c.DiscloseEvery.Std(), Now: c.Now, Log: c.Log}
	s.follower = &control.Follower{Cases: s.store, Every: c.FollowEvery.Std(), Now: c.Now, Log: c.Log}
	s.checks = &checks{store: s.store, every: checksEvery, log: c.Log}
	s.requests = control.NewRequests(c.Queue, s.store, c.Now, s.decider.Grain, s.decider.Wake)
	s.requests.Observe = s.metrics.observeBatch
	s.enrolments = control.NewEnrolments(c.Queue, s.store, c.Now)
	if err := s.wireNotices(); err != nil {
		return err
	}
	s.metrics.watch(s)
	var all http.Handler
	all, s.usual = s.handler()
	s.http = &http.Server{
		Handler: all, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, Protocols: new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(c.InsecureHTTP)
	return nil
}

func (s *Server) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
	}
	if s.cfg.InsecureHTTP {
		if !onLoopback(l.Addr()) {
			l.Close()
			return nil, fmt.Errorf("listen on %s: insecure_http is for loopback addresses only: tokens would travel in clear", s.cfg.Listen)
		}
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}

// Addr is the address that the server listens on, host and port.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// URL is the server's base URL.
func (s *Server) URL() string {
	if s.cfg.InsecureHTTP {
		return "http://" + s.Addr()
	}
	return "https://" + s.Addr()
}

// Fingerprint is the SHA-256 of the certificate in hex; empty without TLS.
func (s *Server) Fingerprint() string { return fingerprint(s.cert) }

// Store is the server's database, for whoever runs the server in its own
// process (demo, benchmarks) and wants to look at it.
func (s *Server) Store() *store.Store { return s.store }

// Wait blocks until the listener fails or Stop was called; after Stop it is nil.
func (s *Server) Wait() error {
	err := <-s.served
	s.served <- err
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) { // whichever of the two heard first
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// Stop refuses new requests, answers those that wait, ends the loops and closes
// the database. It takes at most StopGrace or until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	if s.listener == nil {
		return nil // it was never started
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StopGrace.Std())
	defer cancel()
	s.unwatch()
	errLane := make(chan error, 1)
	go func() { errLane <- s.lane.Shutdown(ctx) }()
	errHTTP := s.http.Shutdown(ctx)
	if errHTTP != nil {
		s.http.Close()
	}
	errHTTP = errors.Join(errHTTP, <-errLane)
	var errJobs error
	if !s.cfg.Stepped {
		errJobs = s.jobs.Stop(ctx)
	}
	s.cancel()
	s.loops.Wait()
	if err := errors.Join(errHTTP, errJobs, s.store.Close()); err != nil {
		return fmt.Errorf("stop server: %w", err)
	}
	return nil
}
