package lane

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func testRoutes() []Route {
	s := &Server{}
	for _, r := range []Route{{Method: "POST", Path: "/call", Kind: "application/proto"}, {Method: "GET", Path: "/file"}} {
		r.line = r.Method + " " + r.Path + " HTTP/1.1\r\n"
		s.routes = append(s.routes, r)
	}
	return s.routes
}

const usualHead = "POST /call HTTP/1.1\r\nHost: h:1\r\nUser-Agent: x\r\nContent-Type: application/proto\r\nConnect-Protocol-Version: 1\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\n"

func TestUnusualHeadsAreForeign(t *testing.T) {
	routes := testRoutes()
	for name, c := range map[string]struct {
		text string
		want reading
	}{
		"usual":              {usualHead, ours},
		"a file":             {"GET /file HTTP/1.1\r\nhost: h\r\nif-none-match:  \"x\" \r\nConnection: Keep-Alive\r\n\r\n", ours},
		"nothing yet":        {"", unfinished},
		"half a line":        {"POST /ca", unfinished},
		"half a head":        {usualHead[:len(usualHead)-2], unfinished},
		"another path":       {"POST /calls HTTP/1.1\r\n", foreign},
		"a query":            {"GET /file?x HTTP/1.1\r\n", foreign},
		"HTTP/1.0":           {"GET /file HTTP/1.0\r\nHost: h\r\n\r\n", foreign},
		"HTTP/2":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", foreign},
		"no host":            {"GET /file HTTP/1.1\r\n\r\n", foreign},
		"two hosts":          {"GET /file HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", foreign},
		"a body for a file":  {"GET /file HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", foreign},
		"no length":          {strings.Replace(usualHead, "Content-Length: 2\r\n", "", 1), foreign},
		"two lengths":        {strings.Replace(usualHead, "Content-Length", "Content-Length: 2\r\nContent-Length", 1), foreign},
		"a signed length":    {strings.Replace(usualHead, "Length: 2", "Length: +2", 1), foreign},
		"a long length":      {strings.Replace(usualHead, "Length: 2", "Length: 20000", 1), foreign},
		"chunks":             {strings.Replace(usualHead, "User-Agent: x", "Transfer-Encoding: chunked", 1), foreign},
		"compressed":         {strings.Replace(usualHead, "User-Agent: x", "Content-Encoding: gzip", 1), foreign},
		"expectation":        {strings.Replace(usualHead, "User-Agent: x", "Expect: 100-continue", 1), foreign},
		"JSON":               {strings.Replace(usualHead, "application/proto", "application/json", 1), foreign},
		"a folded line":      {strings.Replace(usualHead, "User-Agent: x", "User-Agent: x\r\n y", 1), foreign},
		"a bare line feed":   {strings.Replace(usualHead, "User-Agent: x\r", "User-Agent: x", 1), foreign},
		"a space in a name":  {strings.Replace(usualHead, "Content-Length:", "Content-Length :", 1), foreign},
		"a control":          {strings.Replace(usualHead, "User-Agent: x", "User-Agent: \x01", 1), foreign},
		"no colon":           {strings.Replace(usualHead, "User-Agent: x", "User-Agent", 1), foreign},
		"another connection": {"GET /file HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\r\n", foreign},
		"a host with a path": {"GET /file HTTP/1.1\r\nHost: h/x\r\n\r\n", foreign},
	} {
		t.Run(name, func(t *testing.T) {
			if _, is := read([]byte(c.text), routes); is != c.want {
				t.Errorf("reading is %d, want %d", is, c.want)
			}
		})
	}
}

// What a lane takes for its own, net/http reads the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(usualHead + "ab"))
	f.Add([]byte("GET /file HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"x\"\r\nConnection: close\r\n\r\n"))
	f.Add([]byte("GET /file HTTP/1.1\r\nHost: [::1]:80\r\nX:\r\n\r\nGET "))
	routes := testRoutes()
	f.Fuzz(func(t *testing.T, b []byte) {
		h, is := read(b, routes)
		if is != ours {
			return
		}
		in := bytes.NewReader(b)
		buffered := bufio.NewReader(in)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http refuses what a lane takes: %v", err)
		}
		route := routes[h.route]
		if r.Method != route.Method || r.RequestURI != route.Path || r.ContentLength != int64(h.length) || len(r.TransferEncoding) > 0 || r.Close != h.closes {
			t.Errorf("net/http reads %s %s, length %d, encoding %v, close %v; the lane length %d, close %v", r.Method, r.RequestURI, r.ContentLength, r.TransferEncoding, r.Close, h.length, h.closes)
		}
		if r.Header.Get("Authorization") != string(h.bearer) || r.Header.Get("If-None-Match") != string(h.tag) || r.Header.Get("Content-Type") != route.Kind {
			t.Errorf("net/http reads headers %v, the lane %q and %q", r.Header, h.bearer, h.tag)
		}
		if size := len(b) - in.Len() - buffered.Buffered(); size != h.size {
			t.Errorf("net/http's head has %d bytes, the lane's %d", size, h.size)
		}
	})
}
