// Package probe is the process that reads one thing for a check: a file's digest,
// when it was changed, or one setting in it. Keeper starts it in the sandbox, so
// that what parses a product's files is neither root nor long-lived.
//
// It opens one file beneath one folder, follows no link out of that folder, and
// prints one line. What it means is for keeper to say.
package probe

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/headgate/headgate/release"
)

// Limits of what is read.
const (
	MaxFile     = 256 << 20 // bytes of a file that is hashed
	MaxSettings = 1 << 20   // bytes of a file with settings
)

// The exit statuses.
const (
	ExitRead    = 0 // the line is what was read
	ExitFailed  = 1 // it could not be read; the line says why
	ExitMissing = 3 // there is no such file or setting
)

// errMissing: no such setting.
var errMissing = errors.New("no such setting")

// Args is the command line of the role, for a probe of a file in folder.
func Args(p release.Probe, folder, path string) []string {
	return []string{"probe", string(p.Kind), folder, path, p.Key}
}

// Main is the role "probe": KIND FOLDER PATH KEY.
func Main(args []string) int {
	if len(args) != 4 {
		fmt.Println("usage: probe KIND FOLDER PATH KEY")
		return ExitFailed
	}
	read, err := readProbe(release.CheckKind(args[0]), args[1], args[2], args[3])
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errMissing):
		fmt.Println(err)
		return ExitMissing
	case err != nil:
		fmt.Println(err)
		return ExitFailed
	}
	fmt.Println(read)
	return ExitRead
}

func readProbe(kind release.CheckKind, folder, path, key string) (string, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", err
	}
	defer root.Close()
	// Look before opening: to open a pipe would wait for whoever writes to it.
	info, err := root.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file", path)
	}
	if kind == release.CheckAge {
		return strconv.FormatInt(info.ModTime().UnixMicro(), 10), nil
	}
	f, err := root.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch kind {
	case release.CheckHash:
		return digest(f)
	case release.CheckSetting:
		b, err := io.ReadAll(io.LimitReader(f, MaxSettings+1))
		if err != nil {
			return "", err
		}
		return Setting(path, b, key)
	}
	return "", fmt.Errorf("kind %q reads no file", kind)
}

func digest(r io.Reader) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, MaxFile+1))
	if err == nil && n > MaxFile {
		err = fmt.Errorf("more than %d bytes", MaxFile)
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// Setting finds the value of key in a file's content: JSON if its name says so,
// else lines of "key = value" or "key: value". Lines that begin with # or ; are
// none; the last of several counts.
func Setting(name string, b []byte, key string) (value string, err error) {
	if len(b) > MaxSettings {
		return "", fmt.Errorf("%s: more than %d bytes", name, MaxSettings)
	}
	var found bool
	if strings.HasSuffix(name, ".json") {
		value, found, err = jsonSetting(b, key)
	} else {
		value, found, err = lineSetting(b, key)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", name, err)
	case !found:
		return "", errMissing
	case len(value) > release.MaxWant || strings.ContainsAny(value, "\n\r"):
		return "", fmt.Errorf("%s: the value is longer than %d bytes or than a line", name, release.MaxWant)
	}
	return value, nil
}

func jsonSetting(b []byte, key string) (string, bool, error) {
	for part := range strings.SplitSeq(key, ".") {
		var o map[string]json.RawMessage
		if err := json.Unmarshal(b, &o); err != nil {
			return "", false, err
		}
		inner, ok := o[part]
		if !ok {
			return "", false, nil
		}
		b = inner
	}
	var s string
	if json.Unmarshal(b, &s) == nil {
		return s, true, nil
	}
	if b = bytes.TrimSpace(b); len(b) > 0 && (b[0] == '{' || b[0] == '[') {
		return "", false, errors.New("the value is no text, number or truth")
	}
	return string(b), true, nil
}

func lineSetting(b []byte, key string) (value string, found bool, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, MaxSettings+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 0 || strings.TrimSpace(line[:i]) != key {
			continue
		}
		value, found = strings.Trim(strings.TrimSpace(line[i+1:]), `"`), true
	}
	return value, found, lines.Err()
}
