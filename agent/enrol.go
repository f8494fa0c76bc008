package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"

	"github.com/headgate/headgate/agent/link"
	v1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/ids"
)

// enrolPatience is how long enrolment repeats itself against a server that
// cannot be reached.
const enrolPatience = 30 * time.Second

// Enrol makes home an endpoint of the tenant whose enrolment token is given, and
// writes its configuration and identity. A repeat, also after a crash at any
// moment, makes no second endpoint: the secret is on disk before it is sent, and
// an identity that exists is returned as it is.
func Enrol(ctx context.Context, home Home, c Config, enrolmentToken string) (link.Identity, error) {
	if err := c.Check(); err != nil {
		return link.Identity{}, err
	}
	if id, err := link.ReadIdentity(home.IdentityFile()); err == nil {
		if id.Server != c.Server {
			return id, fmt.Errorf("enrol: %s is enrolled as %s at %s already: use another home, or remove this one", string(home), id.Endpoint, id.Server)
		}
		return id, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return link.Identity{}, fmt.Errorf("enrol: %w", err)
	}
	if err := os.MkdirAll(string(home), 0o700); err != nil {
		return link.Identity{}, fmt.Errorf("enrol: make home: %w", err)
	}
	secret, err := home.secret()
	if err != nil {
		return link.Identity{}, err
	}
	labels := withFacts(c.Labels)
	resp, err := enrolCall(ctx, c, &v1.EnrolRequest{
		EnrolmentToken: enrolmentToken, Secret: secret, Name: nameOr(c.Name), Labels: labels,
		FailureDomain: c.FailureDomain, Products: c.Products, AgentVersion: Version(),
	})
	if err != nil {
		return link.Identity{}, fmt.Errorf("enrol at %s: %w", c.Server, err)
	}
	if _, err := ids.Parse("E", resp.EndpointId); err != nil || !strings.HasPrefix(resp.Token, "hge_") || len(resp.Root) == 0 {
		return link.Identity{}, fmt.Errorf("enrol at %s: the answer is not complete: endpoint %q, token of %d bytes, root of %d bytes", c.Server, resp.EndpointId, len(resp.Token), len(resp.Root))
	}
	id := link.Identity{Server: c.Server, Pin: c.Pin, Endpoint: resp.EndpointId, Tenant: resp.Tenant, Token: resp.Token, Root: resp.Root}
	// The identity comes last: with it, enrolment is over.
	if err := c.write(home); err != nil {
		return link.Identity{}, err
	}
	if err := os.MkdirAll(home.LinkDir(), 0o700); err != nil {
		return link.Identity{}, fmt.Errorf("enrol: %w", err)
	}
	if err := link.WriteLabels(home.LinkDir(), labels); err != nil {
		return link.Identity{}, err
	}
	if err := id.Write(home.IdentityFile()); err != nil {
		return link.Identity{}, err
	}
	if err := os.Remove(home.secretFile()); err != nil {
		return id, fmt.Errorf("enrol: %w", err)
	}
	return id, nil
}

// secret gives the secret of an enrolment under way, or makes one and keeps it.
func (h Home) secret() (string, error) {
	if b, err := os.ReadFile(h.secretFile()); err == nil {
		s := string(bytes.TrimSpace(b))
		if raw, err := base64.RawURLEncoding.DecodeString(s); err == nil && len(raw) == 32 {
			return s, nil
		}
	}
	var raw [32]byte
	rand.Read(raw[:])
	s := base64.RawURLEncoding.EncodeToString(raw[:])
	if err := atomicfile.Write(h.secretFile(), []byte(s+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("enrol: keep the secret: %w", err)
	}
	return s, nil
}

// enrolCall repeats the call while the server cannot be reached or is busy.
func enrolCall(ctx context.Context, c Config, req *v1.EnrolRequest) (*v1.EnrolResponse, error) {
	t, err := link.Transport(c.Pin, 1)
	if err != nil {
		return nil, err
	}
	defer t.CloseIdleConnections()
	api := link.API(&http.Client{Transport: t, Timeout: 20 * time.Second}, c.Server, "")
	return backoff.Retry(ctx, func() (*v1.EnrolResponse, error) {
		resp, err := api.Enrol(ctx, connect.NewRequest(req))
		if err == nil {
			return resp.Msg, nil
		}
		if d := link.RetryAfter(err); d > 0 {
			return nil, errors.Join(err, backoff.RetryAfter(int(d/time.Second)+1))
		}
		switch connect.CodeOf(err) {
		case connect.CodeUnavailable, connect.CodeResourceExhausted, connect.CodeDeadlineExceeded, connect.CodeAborted:
			if !errors.Is(err, link.ErrPin) {
				return nil, err
			}
		}
		return nil, backoff.Permanent(err)
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(enrolPatience))
}

func nameOr(name string) string {
	if name != "" {
		return name
	}
	host, err := os.Hostname()
	if err != nil {
		return "unnamed"
	}
	return host
}

// withFacts adds what the machine says of itself; configured labels win.
func withFacts(labels map[string]string) map[string]string {
	out := map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		out["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	maps.Copy(out, labels)
	return out
}

// Version is the agent's version, from the build.
func Version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "devel"
}
