package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	headgatev1connect "github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/internal/lane"
	psirtintake "github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/sbom"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/store"
)

const (
	// callTimeout is how long a person's call may take in the server. Endpoints'
	// calls have control's bounds: a timer for each would be a tenth of their cost.
	callTimeout = 25 * time.Second
	// maxMessage is the largest message of the API, decompressed; metadata is the
	// longest, and JSON carries it in base64.
	maxMessage = tuf.MaxTargets*4/3 + 64<<10
	// maxDocument is the largest message that carries a document, in base64.
	maxDocument = sbom.MaxSize*4/3 + 64<<10
	// maxImport is the largest message with a file of reports.
	maxImport = psirtintake.MaxFile*4/3 + 64<<10
	// maxAgentMessage is the largest message of an agent.
	maxAgentMessage = 64 << 10
)

// router knows what it serves: that a sealed case is on no page is tried on all of
// them.
type router struct {
	*http.ServeMux
	patterns []string
}

// Handle serves a pattern.
func (r *router) Handle(pattern string, h http.Handler) {
	r.patterns = append(r.patterns, pattern)
	r.ServeMux.Handle(pattern, h)
}

// HandleFunc serves a pattern.
func (r *router) HandleFunc(pattern string, h http.HandlerFunc) { r.Handle(pattern, h) }

// handler routes a request, and says which of them are usual enough for the lane.
// timestamp.json goes before everything else: no router, no log, no metric by
// label.
func (s *Server) handler() (all http.Handler, usual []lane.Route) {
	mux := &router{ServeMux: http.NewServeMux()}
	s.mux = mux
	usual = append(s.mountAPI(mux), lane.Route{Method: http.MethodGet, Path: timestampPath, Serve: s.files.timestampLane})
	mux.HandleFunc("GET /tuf/", s.serveTUF)
	mux.HandleFunc("PUT /v1/artifacts/{sha256}", s.putArtifact)
	mux.HandleFunc("GET /ledger/checkpoint", s.getCheckpoint)
	mux.HandleFunc("GET "+feedPath+"{secret}", s.serveFeed)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn)}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == timestampPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			s.files.serveTimestamp(w, r)
			return
		}
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, apiPrefix) && !spoken(r.Header.Get("Content-Type")) {
			refuseLanguage(w, r.Header.Get("Content-Type"))
			return
		}
		mux.ServeHTTP(w, r)
	}), usual
}

// apiPrefix begins the path of each call.
const apiPrefix = "/headgate.v1."

// spoken tells whether a call says in which language its body is, other than a form,
// which is what curl -d says. Whether Connect reads it is Connect's to judge.
func spoken(contentType string) bool {
	return contentType != "" && !strings.HasPrefix(contentType, "application/x-www-form-urlencoded")
}

// refuseLanguage says what Connect would leave unsaid.
func refuseLanguage(w http.ResponseWriter, got string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Accept-Post", "application/json, application/proto")
	w.WriteHeader(http.StatusUnsupportedMediaType)
	// Who has hung up needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{
		"code": connect.CodeInvalidArgument.String(), "message": fmt.Sprintf("header Content-Type is %q: want application/json", got),
	})
}

// mountAPI mounts all services with the same gate, limits and codecs.
func (s *Server) mountAPI(mux *router) (usual []lane.Route) {
	common := []connect.HandlerOption{
		connect.WithRequestGate(s.gate),
		connect.WithInterceptors(&observer{s}),
		connect.WithCodec(strictJSON{"json"}), connect.WithCodec(strictJSON{"json; charset=utf-8"}),
		connect.WithCompressMinBytes(1 << 10),
		connect.WithRecover(s.recovered),
	}
	people := append(common[:len(common):len(common)], connect.WithReadMaxBytes(maxMessage))
	agents := append(common[:len(common):len(common)], connect.WithReadMaxBytes(maxAgentMessage))
	agent := agentService{s}
	path, all := headgatev1connect.NewAgentServiceHandler(agent, agents...)
	mux.Handle(path, all)
	grant := newDirect(s, headgatev1connect.AgentServiceGrantProcedure, agent.grant, all)
	beacon := newDirect(s, headgatev1connect.AgentServiceBeaconProcedure, agent.beacon, all)
	mux.Handle(grant.spec.Procedure, grant)
	mux.Handle(beacon.spec.Procedure, beacon)
	mux.Handle(headgatev1connect.NewAccountServiceHandler(accountService{s}, people...))
	mux.Handle(headgatev1connect.NewAffectedServiceHandler(affectedService{s}, people...))
	mux.Handle(headgatev1connect.NewSBOMServiceHandler(sbomService{s}, append(common[:len(common):len(common)], connect.WithReadMaxBytes(maxDocument))...))
	mux.Handle(headgatev1connect.NewCaseServiceHandler(caseService{s}, people...))
	mux.Handle(headgatev1connect.NewReportServiceHandler(reportService{s}, people...))
	mux.Handle(headgatev1connect.NewIntakeServiceHandler(intakeService{s}, append(common[:len(common):len(common)], connect.WithReadMaxBytes(maxImport))...))
	mux.Handle(headgatev1connect.NewCatalogServiceHandler(catalogService{s}, people...))
	mux.Handle(headgatev1connect.NewEvidenceServiceHandler(evidenceService{s}, people...))
	mux.Handle(headgatev1connect.NewFleetServiceHandler(fleetService{s}, people...))
	mux.Handle(headgatev1connect.NewLadderServiceHandler(ladderService{s}, people...))
	mux.Handle(headgatev1connect.NewLedgerServiceHandler(ledgerService{s}, people...))
	mux.Handle(headgatev1connect.NewNoticeServiceHandler(noticeService{s}, people...))
	mux.Handle(headgatev1connect.NewPolicyServiceHandler(policyService{s}, people...))
	mux.Handle(headgatev1connect.NewRepositoryServiceHandler(repositoryService{s}, people...))
	mux.Handle(headgatev1connect.NewReviewServiceHandler(reviewService{s}, people...))
	path, rollouts := headgatev1connect.NewRolloutServiceHandler(rolloutService{s}, people...)
	mux.Handle(path, unhurried(rollouts))
	return []lane.Route{grant.route(), beacon.route()}
}

// unhurried lets a watch last as long as the rollout: the listener's deadlines
// are for calls that end.
func unhurried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == headgatev1connect.RolloutServiceWatchRolloutProcedure {
			rc := http.NewResponseController(w)
			// Only a ResponseWriter that is no network connection refuses.
			_ = rc.SetReadDeadline(time.Time{})
			_ = rc.SetWriteDeadline(time.Time{})
		}
		next.ServeHTTP(w, r)
	})
}

// recovered answers a call whose handler broke a rule of ours; the others go on.
func (s *Server) recovered(ctx context.Context, spec connect.Spec, _ http.Header, v any) error {
	s.cfg.Log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("procedure", spec.Procedure), slog.Any("err", v), slog.String("stack", string(debug.Stack())))
	return connect.NewError(connect.CodeInternal, errors.New("the server broke one of its own rules; its log has the details"))
}

// observe gives a call its deadline, maps its error and counts it.
func (s *Server) observe(ctx context.Context, procedure string, call func(context.Context) error) error {
	began := time.Now()
	if access[procedure] != endpoint {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	err, code := call(ctx), "ok"
	if err != nil {
		err = s.fail(ctx, procedure, err)
		code = connect.CodeOf(err).String()
	}
	s.metrics.requests.WithLabelValues(counted(procedure), code).Inc()
	s.metrics.seconds.WithLabelValues(counted(procedure)).Observe(time.Since(began).Seconds())
	return err
}

// observer has Connect's handlers observed.
type observer struct{ s *Server }

// WrapUnary implements connect.Interceptor.
func (o *observer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		err = o.s.observe(ctx, req.Spec().Procedure, func(ctx context.Context) (err error) {
			res, err = next(ctx, req)
			return err
		})
		return res, err
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (o *observer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (o *observer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		procedure := conn.Spec().Procedure
		err, code := next(ctx, conn), "ok"
		if err != nil {
			err = o.s.fail(ctx, procedure, err)
			code = connect.CodeOf(err).String()
		}
		o.s.metrics.requests.WithLabelValues(counted(procedure), code).Inc()
		return err
	}
}

// putArtifact takes an artifact in a stream. What has another digest, is too
// long or ends early leaves nothing behind; a repeat is cheap.
func (s *Server) putArtifact(w http.ResponseWriter, r *http.Request) {
	const doing = "upload artifact"
	if _, err := s.admit(r.Context(), operator|vendor, r.Header.Get("Authorization")); err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	digest := r.PathValue("sha256")
	if err := release.CheckDigest(digest); err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	if r.ContentLength > s.cfg.MaxArtifact {
		s.refuse(w, r, doing, fmt.Errorf("artifact of %d bytes, limit %d: %w", r.ContentLength, s.cfg.MaxArtifact, release.ErrInvalid))
		return
	}
	s.extend(w, s.cfg.MaxArtifact)
	n, err := s.store.PutArtifact(r.Context(), digest, r.Body, s.cfg.MaxArtifact, s.cfg.Now())
	if err != nil {
		s.refuse(w, r, doing, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // the client has gone
		"digest": digest, "length": n})
}

// getCheckpoint serves the newest signed checkpoint to everybody: that is what
// checkpoints are for.
func (s *Server) getCheckpoint(w http.ResponseWriter, r *http.Request) {
	c, err := s.store.LatestCheckpoint(r.Context())
	if err != nil {
		s.refuse(w, r, "read checkpoint", err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(c.Note)
}

// ready tells whether this server can do its work: the database answers and takes
// what it is given, and a root is published.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	switch err := s.store.Ready(ctx); {
	case errors.Is(err, store.ErrFull):
		http.Error(w, "database: its disk is full", http.StatusServiceUnavailable)
		return
	case err != nil:
		s.cfg.Log.LogAttrs(ctx, slog.LevelError, "not ready", slog.Any("err", err))
		http.Error(w, "database: does not answer, or does not write; the log has the cause", http.StatusServiceUnavailable)
		return
	}
	if s.files.timestamp.Load() == nil {
		http.Error(w, "repository: no root.json is published yet", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// statuses are the HTTP statuses of API codes on plain paths.
var statuses = map[connect.Code]int{
	connect.CodeInvalidArgument: http.StatusBadRequest, connect.CodeUnauthenticated: http.StatusUnauthorized,
	connect.CodePermissionDenied: http.StatusForbidden, connect.CodeNotFound: http.StatusNotFound,
	connect.CodeAlreadyExists: http.StatusConflict, connect.CodeAborted: http.StatusConflict,
	connect.CodeFailedPrecondition: http.StatusPreconditionFailed, connect.CodeUnavailable: http.StatusServiceUnavailable,
	connect.CodeCanceled: 499, connect.CodeDeadlineExceeded: http.StatusGatewayTimeout,
}
