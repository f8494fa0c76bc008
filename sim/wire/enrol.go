package wire

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/cenkalti/backoff/v5"

	"github.com/headgate/headgate/agent/link"
	v1 "github.com/headgate/headgate/api/headgate/v1"
)

// DefaultLabels is a small mixed fleet: three systems, two processors, four
// kernels, five regions, unevenly spread.
func DefaultLabels(_ int, rnd *rand.Rand) map[string]string {
	pick := func(weights []int, values ...string) string {
		sum := 0
		for _, w := range weights {
			sum += w
		}
		n := rnd.IntN(sum)
		for i, w := range weights {
			if n -= w; n < 0 {
				return values[i]
			}
		}
		panic("wire: weights do not add up")
	}
	return map[string]string{
		"os":     pick([]int{70, 25, 5}, "debian", "rhel", "alpine"),
		"arch":   pick([]int{85, 15}, "amd64", "arm64"),
		"kernel": pick([]int{50, 30, 15, 5}, "6.12", "6.1", "5.14", "4.18"),
		"region": pick([]int{40, 25, 20, 10, 5}, "eu-central", "us-east", "ap-south", "sa-east", "af-south"),
	}
}

// secretOf derives an endpoint's secret from the seed: known to whoever knows
// the seed, which is right for a simulation and for nothing else.
func secretOf(seed uint64, i int) string {
	var key, msg [8]byte
	binary.BigEndian.PutUint64(key[:], seed)
	binary.BigEndian.PutUint64(msg[:], uint64(i))
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte("headgate simulated endpoint"))
	m.Write(msg[:])
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// enrol enrols all endpoints and returns the repository's first root.
func (f *Fleet) enrol(ctx context.Context) ([]byte, error) {
	var mu sync.Mutex // guards root
	var root []byte
	err := f.all(ctx, func(ctx context.Context, e *endpoint) error {
		resp, err := backoff.Retry(ctx, func() (*v1.EnrolResponse, error) { return f.enrolOne(ctx, e) },
			backoff.WithMaxElapsedTime(time.Minute))
		if err != nil {
			return fmt.Errorf("enrol simulated endpoint %d: %w", e.i, err)
		}
		e.id, e.token = resp.EndpointId, resp.Token
		f.counters.enrolled.Add(1)
		mu.Lock()
		defer mu.Unlock()
		root = resp.Root
		return nil
	})
	return root, err
}

func (f *Fleet) enrolOne(ctx context.Context, e *endpoint) (*v1.EnrolResponse, error) {
	if e.labels == nil { // a repeat says the same
		e.labels = f.Labels(e.i, e.rnd)
	}
	resp, err := f.api.Enrol(ctx, connect.NewRequest(&v1.EnrolRequest{
		EnrolmentToken: f.EnrolmentToken, Secret: secretOf(f.Seed, e.i), Name: fmt.Sprintf("sim-%06d", e.i),
		Labels: e.labels, FailureDomain: f.Domain(e.i), Products: f.Products, AgentVersion: "sim",
	}))
	if err == nil {
		return resp.Msg, nil
	}
	if d := link.RetryAfter(err); d > 0 {
		return nil, backoff.RetryAfter(int(d.Seconds()) + 1)
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeNotFound:
		return nil, backoff.Permanent(err)
	}
	return nil, err
}

// goodbye lets the endpoints that are heard from leave in good order, for a few
// seconds.
func (f *Fleet) goodbye() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = f.all(ctx, func(ctx context.Context, e *endpoint) error {
		if !e.gone && !e.offline {
			_ = e.beacon(ctx, time.Now(), true) // who does not get through falls silent
		}
		return nil
	})
}
