package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/rollout"
)

// maxReadingText is how much of a Prometheus' error is kept with a reading, bytes.
const maxReadingText = 300

// promClient asks a Prometheus by its HTTP API. Whatever is in doubt, a warning
// included, is an error: a reading that may be partial must not pass.
type promClient struct{ api promv1.API }

// newPrometheus makes a client; nil if none is configured.
func newPrometheus(c Config) (*promClient, error) {
	if c.Prometheus == "" {
		return nil, nil
	}
	var credentials string
	if c.PrometheusCredentialsFile != "" {
		b, err := os.ReadFile(c.PrometheusCredentialsFile)
		if err != nil {
			return nil, fmt.Errorf("read prometheus_credentials_file: %w", err)
		}
		credentials = strings.TrimSpace(string(b))
		if kind, _, ok := strings.Cut(credentials, " "); !ok || !strings.EqualFold(kind, "Bearer") && !strings.EqualFold(kind, "Basic") {
			return nil, errors.New("prometheus_credentials_file: want one line, \"Bearer TOKEN\" or \"Basic BASE64\"")
		}
	}
	client, err := api.NewClient(api.Config{Address: c.Prometheus, RoundTripper: withCredentials{credentials, http.DefaultTransport.(*http.Transport).Clone()}})
	if err != nil {
		return nil, fmt.Errorf("configuration: prometheus: %w", err)
	}
	return &promClient{promv1.NewAPI(client)}, nil
}

// withCredentials adds the Authorization header.
type withCredentials struct {
	credentials string
	next        http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w withCredentials) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.credentials != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", w.credentials)
	}
	return w.next.RoundTrip(r)
}

// Query implements control.Querier. A series without a sample at its end is left
// out: it is not known now.
func (p *promClient) Query(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]rollout.Series, error) {
	v, warnings, _, err := p.api.QueryRange(ctx, query, promv1.Range{Start: from, End: to, Step: step})
	if err != nil {
		return nil, errors.New(cut("ask Prometheus: "+err.Error(), maxReadingText))
	}
	if len(warnings) > 0 {
		return nil, errors.New(cut("Prometheus warns: "+strings.Join(warnings, "; "), maxReadingText))
	}
	matrix, ok := v.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("ask Prometheus: the answer is a %s, not a matrix", v.Type())
	}
	var out []rollout.Series
	for _, s := range matrix {
		if x, ok := seriesOf(s, to); ok {
			out = append(out, x)
		}
	}
	return out, nil
}

func seriesOf(s *model.SampleStream, to time.Time) (x rollout.Series, ok bool) {
	x = rollout.Series{Labels: cut(s.Metric.String(), maxReadingText), Least: math.Inf(1), Most: math.Inf(-1)}
	for _, v := range s.Values {
		f := float64(v.Value)
		if math.IsNaN(f) || math.IsInf(f, 0) { // no number to compare
			continue
		}
		x.Samples++
		x.Least, x.Most = min(x.Least, f), max(x.Most, f)
		if v.Timestamp.Time().Equal(to) {
			x.Latest, ok = f, true
		}
	}
	return x, ok
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
