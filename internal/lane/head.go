package lane

import "bytes"

// head is the head of a request that a lane answers itself.
type head struct {
	route  int // which of the routes
	size   int // bytes of the head, the empty line included
	length int // bytes of the body
	closes bool
	bearer []byte // value of Authorization
	tag    []byte // value of If-None-Match
}

// reading is what the bytes read so far are.
type reading int

const (
	unfinished reading = iota // perhaps a lane's, perhaps not: more bytes will tell
	ours
	foreign
)

var headEnd = []byte("\r\n\r\n")

// read reads the head of a request at the start of b. It takes only what has one
// meaning for everybody who reads HTTP/1.1 (RFC 9112): the exact request line of
// a route, lines that end in CRLF, each header that frames or guards a message
// at most once. All else is foreign, whether right or wrong: net/http has the
// word on it.
func read(b []byte, routes []Route) (h head, is reading) {
	h.route, is = match(b, routes)
	if is != ours {
		return h, is
	}
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return h, unfinished
	}
	h.size = end + len(headEnd)
	lines := b[len(routes[h.route].line) : end+2]
	var seen fields
	for len(lines) > 0 {
		i := bytes.IndexByte(lines, '\n')
		if i < 1 || lines[i-1] != '\r' {
			return h, foreign
		}
		name, value, ok := field(lines[:i-1])
		if !ok || !seen.take(&h, &routes[h.route], name, value) {
			return h, foreign
		}
		lines = lines[i+1:]
	}
	if !seen.host || seen.kind != (routes[h.route].Kind != "") || seen.length != seen.kind {
		return h, foreign
	}
	return h, ours
}

// match finds the route whose request line b starts with.
func match(b []byte, routes []Route) (int, reading) {
	is := foreign
	for i := range routes {
		line := routes[i].line
		switch {
		case len(b) >= len(line) && string(b[:len(line)]) == line:
			return i, ours
		case len(b) < len(line) && string(b) == line[:len(b)]:
			is = unfinished
		}
	}
	return 0, is
}

// field parts a line of a header. A name is a token and a value has no control
// characters (RFC 9110 5.5, 5.6.2).
func field(line []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i < 1 {
		return nil, nil, false
	}
	name, value = line[:i], bytes.Trim(line[i+1:], " \t")
	for _, c := range name {
		if !tokens[c] {
			return nil, nil, false
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, false
		}
	}
	return name, value, true
}

const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// tokens are the characters of a token, hosts those of a plain Host.
var tokens, hosts = set(alphanumeric + "!#$%&'*+-.^_`|~"), set(alphanumeric + ".-:[]")

func set(chars string) (t [256]bool) {
	for _, c := range chars {
		t[c] = true
	}
	return t
}

// fields are the headers met so far that may come once only.
type fields struct{ host, kind, length, version, bearer, tag, connection bool }

// take notes a header; false if the request is foreign because of it.
func (f *fields) take(h *head, r *Route, name, value []byte) bool {
	switch {
	case same(name, "host"):
		return once(&f.host) && plainHost(value)
	case same(name, "content-type"):
		return once(&f.kind) && string(value) == r.Kind
	case same(name, "content-length"):
		var ok bool
		h.length, ok = number(value)
		return once(&f.length) && ok
	case same(name, "authorization"):
		h.bearer = value
		return once(&f.bearer)
	case same(name, "if-none-match"):
		h.tag = value
		return once(&f.tag)
	case same(name, "connect-protocol-version"):
		return once(&f.version) && string(value) == "1"
	case same(name, "connection"):
		h.closes = same(value, "close")
		return once(&f.connection) && (h.closes || same(value, "keep-alive"))
	case same(name, "transfer-encoding"), same(name, "content-encoding"), same(name, "expect"), same(name, "upgrade"), same(name, "trailer"):
		return false
	}
	return true
}

// once notes that a header was met, and tells whether it is the first time.
func once(seen *bool) bool {
	first := !*seen
	*seen = true
	return first
}

// same compares a token with a name in lower case.
func same(token []byte, name string) bool {
	if len(token) != len(name) {
		return false
	}
	for i := range token {
		c := token[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// plainHost tells whether a Host is nothing but a name or address and a port.
func plainHost(v []byte) bool {
	for _, c := range v {
		if !hosts[c] {
			return false
		}
	}
	return len(v) > 0
}

// number reads a length of at most 4 digits.
func number(v []byte) (n int, ok bool) {
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, 1 <= len(v) && len(v) <= 4
}
