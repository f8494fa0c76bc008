package lane

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is a lane with net/http behind it.
type world struct {
	*Server
	testing.TB
	addr    string
	entered chan struct{} // a value for each call that began
	leave   chan struct{} // closed: calls may end
}

func newWorld(t *testing.T, wrap func(net.Listener) net.Listener, limits Limits) *world {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	w := &world{TB: t, addr: l.Addr().String(), entered: make(chan struct{}, 100), leave: make(chan struct{})}
	close(w.leave)
	if wrap != nil {
		l = wrap(l)
	}
	w.Server = New(l, []Route{
		{Method: "POST", Path: "/call", Kind: "application/proto", Serve: func(_ context.Context, r Request, a *Answer) {
			w.entered <- struct{}{}
			<-w.leave
			a.Header, a.Body = append(a.Header, "Content-Type: application/proto\r\n"...), fmt.Appendf(a.Body, "lane %s %s", r.Authorization, r.Body)
		}},
		{Method: "GET", Path: "/file", Serve: func(_ context.Context, r Request, a *Answer) {
			if a.Header = append(a.Header, "Etag: \"1\"\r\n"...); string(r.Tag) == `"1"` {
				a.Status = http.StatusNotModified
			}
			a.Body = append(a.Body, "file"...)
		}},
	}, limits, slog.New(slog.DiscardHandler))
	rest := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(rw, "net/http %s %s", r.Proto, b)
	}), Protocols: new(http.Protocols)}
	rest.Protocols.SetHTTP1(true)
	rest.Protocols.SetHTTP2(true)
	rest.Protocols.SetUnencryptedHTTP2(true)
	var running sync.WaitGroup
	running.Go(w.Serve)
	running.Go(func() {
		if err := rest.Serve(w.Rest()); err == nil {
			t.Error("net/http's server ended without a word")
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		rest.Close()
		w.Shutdown(ctx)
		running.Wait()
	})
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial sends text; ask reads the next answer.
func (w *world) dial(text string) (net.Conn, *bufio.Reader) {
	w.Helper()
	c, err := net.Dial("tcp", w.addr)
	check(w, err)
	w.Cleanup(func() { c.Close() })
	check(w, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, text)
	check(w, err)
	return c, bufio.NewReader(c)
}

func (w *world) answer(r *bufio.Reader) (*http.Response, string) {
	w.Helper()
	resp, err := http.ReadResponse(r, nil)
	check(w, err)
	b, err := io.ReadAll(resp.Body)
	check(w, err)
	return resp, string(b)
}

const usualCall = "POST /call HTTP/1.1\r\nHost: h\r\nContent-Type: application/proto\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\nab"

func TestUsualRequestsAreAnsweredInTurn(t *testing.T) {
	w := newWorld(t, nil, Limits{})
	_, r := w.dial(usualCall + "GET /file HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"1\"\r\n\r\n" + "GET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	resp, body := w.answer(r)
	if body != "lane Bearer t ab" || resp.Header.Get("Content-Type") != "application/proto" || resp.Header.Get("Date") == "" {
		t.Errorf("first answer: %q %v", body, resp.Header)
	}
	if resp, body = w.answer(r); resp.StatusCode != http.StatusNotModified || body != "" || resp.Header.Get("Etag") != `"1"` {
		t.Errorf("second answer: %d %q %v", resp.StatusCode, body, resp.Header)
	}
	if resp, body = w.answer(r); resp.StatusCode != http.StatusOK || body != "file" || !resp.Close {
		t.Errorf("third answer: %d %q, close %v", resp.StatusCode, body, resp.Close)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after it: %v, want the end", err)
	}
}

// The bytes that a lane has read of a foreign request reach net/http.
func TestForeignRequestsReachNetHTTP(t *testing.T) {
	w := newWorld(t, nil, Limits{})
	for name, text := range map[string]string{
		"another path": "POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
		"chunks":       "POST /call HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"a long body":  "POST /call HTTP/1.1\r\nHost: h\r\nContent-Type: application/proto\r\nContent-Length: 9000\r\n\r\nabc" + strings.Repeat("x", 8997),
		"a long head":  "POST /call HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX: " + strings.Repeat("x", 8000) + "\r\n\r\nabc",
		"after a call": usualCall + "POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			_, r := w.dial(text)
			_, body := w.answer(r)
			if name == "after a call" {
				_, body = w.answer(r)
			}
			if !strings.HasPrefix(body, "net/http HTTP/1.1 abc") {
				t.Errorf("answer %.40q", body)
			}
		})
	}
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	resp, err := (&http.Client{Transport: &http.Transport{Protocols: p}}).Get("http://" + w.addr + "/file")
	check(t, err)
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("HTTP/2 without TLS got %s", resp.Proto)
	}
}

func TestTLSIsAnsweredInBothProtocols(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	ts.Close()
	cfg := ts.TLS.Clone()
	cfg.NextProtos = []string{"h2", "http/1.1"}
	w := newWorld(t, func(l net.Listener) net.Listener { return tls.NewListener(l, cfg) }, Limits{})
	for proto, want := range map[string]string{"HTTP/1.1": "lane", "HTTP/2.0": "net/http"} {
		tr := ts.Client().Transport.(*http.Transport).Clone()
		tr.ForceAttemptHTTP2 = proto == "HTTP/2.0"
		if !tr.ForceAttemptHTTP2 {
			tr.TLSClientConfig.NextProtos = nil
			tr.Protocols = new(http.Protocols)
			tr.Protocols.SetHTTP1(true)
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+w.addr+"/call", strings.NewReader("ab"))
		check(t, err)
		req.Header.Set("Content-Type", "application/proto")
		resp, err := (&http.Client{Transport: tr}).Do(req)
		check(t, err)
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if resp.Proto != proto || !strings.HasPrefix(string(body), want) {
			t.Errorf("%s: got %s %q, want %s", proto, resp.Proto, body, want)
		}
	}
	_, r := w.dial("GET /file HTTP/1.1\r\nHost: h\r\n\r\n") // without TLS: net/http says what is wrong
	if resp, _ := w.answer(r); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("HTTP on an HTTPS port got %s", resp.Status)
	}
}

func TestShutdownAnswersWhatWasTaken(t *testing.T) {
	w := newWorld(t, nil, Limits{})
	w.leave = make(chan struct{})
	_, idle := w.dial("")
	_, taken := w.dial(usualCall)
	<-w.entered
	done := make(chan error)
	go func() { done <- w.Shutdown(t.Context()) }()
	if _, err := idle.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection: %v, want its end", err)
	}
	close(w.leave)
	if resp, body := w.answer(taken); body != "lane Bearer t ab" || !resp.Close {
		t.Errorf("the taken request got %q, close %v", body, resp.Close)
	}
	check(t, <-done)
}

// Neither an idle client nor one that sends its request byte by byte holds a
// connection.
func TestSlowClientsLoseTheirConnection(t *testing.T) {
	w := newWorld(t, nil, Limits{ReadHeaderTimeout: time.Millisecond, IdleTimeout: time.Millisecond})
	for name, text := range map[string]string{"silent": "", "half a request": usualCall[:40], "idle": "GET /file HTTP/1.1\r\nHost: h\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			_, r := w.dial(text)
			if name == "idle" {
				w.answer(r)
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("it is still answered")
			}
		})
	}
}
