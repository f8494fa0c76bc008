package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/atomicfile"
)

// maxLabels is the largest labels file in bytes.
const maxLabels = 64 << 10

func labelsPath(dir string) string { return filepath.Join(dir, "labels.json") }

// WriteLabels keeps what the endpoint enrolled with in link's folder: the server
// knows it by these for ever, whatever its configuration says later, and a plan
// leaves endpoints out by them.
func WriteLabels(dir string, l fleet.Labels) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	return atomicfile.Write(labelsPath(dir), append(b, '\n'), 0o600)
}

// ReadLabels reads what WriteLabels wrote. The error is fs.ErrNotExist if nothing
// was written.
func ReadLabels(dir string) (fleet.Labels, error) {
	info, err := os.Stat(labelsPath(dir))
	if err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	if info.Size() > maxLabels {
		return nil, fmt.Errorf("read labels: %d bytes, limit %d", info.Size(), maxLabels)
	}
	b, err := os.ReadFile(labelsPath(dir))
	if err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	return parseLabels(b)
}

func parseLabels(b []byte) (fleet.Labels, error) {
	var l fleet.Labels
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	return l, nil
}

// loadLabels fills in the endpoint's labels, if they are known here.
func (l *link) loadLabels() error {
	if l.Labels != nil {
		return nil
	}
	labels, err := ReadLabels(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.Log.Warn("this endpoint's labels are not known here: it cannot see when a plan leaves it out, only the server's refusal")
		return nil
	}
	l.Labels = labels
	return err
}
