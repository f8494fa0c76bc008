package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
)

// TestDirectAnswersAreConnects sends each call in the form that direct answers
// and in one that Connect's own handler does.
func TestDirectAnswersAreConnects(t *testing.T) {
	w := newWorld(t)
	digest := w.release("1.0.0")
	id := w.start("1.0.0", quick())
	d := w.enrol(1)[0]
	grant, beacon := headgatev1connect.AgentServiceGrantProcedure, headgatev1connect.AgentServiceBeaconProcedure
	until(t, "a window", func() bool { return w.show(id).Ceiling > 0 })
	for name, c := range map[string]struct {
		procedure, token string
		message          proto.Message
		raw              string
		want             int
	}{
		"granted":       {grant, d.token, &headgatev1.GrantRequest{Rollout: id, Digest: digest}, "", 200},
		"refused":       {grant, d.token, &headgatev1.GrantRequest{Rollout: 99, Digest: digest}, "", 200},
		"beacon":        {beacon, d.token, &headgatev1.BeaconRequest{Seq: 1}, "", 200},
		"empty beacon":  {beacon, d.token, &headgatev1.BeaconRequest{}, "", 200},
		"bad digest":    {grant, d.token, &headgatev1.GrantRequest{Rollout: id, Digest: "no"}, "", 400},
		"bad seq":       {beacon, d.token, &headgatev1.BeaconRequest{Seq: -1}, "", 400},
		"no message":    {grant, d.token, nil, "\xff\xff\xff", 400},
		"no token":      {grant, "", &headgatev1.GrantRequest{}, "", 401},
		"another token": {beacon, w.token, &headgatev1.BeaconRequest{}, "", 403},
		"wrong secret":  {beacon, d.token[:len(d.token)-4] + "AAAA", &headgatev1.BeaconRequest{Seq: 1}, "", 401},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte(c.raw)
			if c.message != nil {
				var err error
				body, err = proto.Marshal(c.message)
				check(t, err)
			}
			status, kind, ours := sendRaw(t, w.base+c.procedure, c.token, body, nil)
			status2, kind2, theirs := sendRaw(t, w.base+c.procedure, c.token, body, map[string]string{"Content-Encoding": "identity"})
			if status != c.want || status != status2 || kind != kind2 {
				t.Fatalf("direct: %d %s %q; Connect: %d %s %q; want status %d", status, kind, ours, status2, kind2, theirs, c.want)
			}
			if c.raw == "" && !bytes.Equal(ours, theirs) {
				t.Errorf("direct %q, Connect %q", ours, theirs)
			}
			if status != 200 && !json.Valid(ours) {
				t.Errorf("error %q is no JSON", ours)
			}
		})
	}
}

func TestDirectTakesLongMessagesToConnect(t *testing.T) {
	w := newWorld(t)
	d := w.enrol(1)[0]
	long, err := proto.Marshal(&headgatev1.BeaconRequest{Seq: 1, Vitals: &headgatev1.Vitals{Sandbox: []string{strings.Repeat("x", 3000)}}})
	check(t, err)
	status, _, body := sendRaw(t, w.base+headgatev1connect.AgentServiceBeaconProcedure, d.token, long, nil)
	if status != http.StatusBadRequest || !bytes.Contains(body, []byte("vitals.sandbox[0]")) {
		t.Errorf("a long beacon got %d %q", status, body)
	}
}

func sendRaw(t *testing.T, url, token string, body []byte, headers map[string]string) (status int, kind string, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	check(t, err)
	req.Header.Set("Content-Type", "application/proto")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer
}
