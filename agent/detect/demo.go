package detect

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
)

//go:embed demo
var demo embed.FS

// DemoVersions are the demo's three releases: 1.0.0 is good, 2.0.0 declares a
// 21st input that the engine does not supply (its own corpus passes, the first
// live "ipc" event crashes), 3.0.0 is 2.0.0 repaired.
var DemoVersions = []string{"1.0.0", "2.0.0", "3.0.0"}

// DemoContent writes the product folder of a demo version into dir, manifest
// included. dir must be empty or not exist.
func DemoContent(version, dir string) error {
	content, err := fs.Sub(demo, "demo/"+version)
	if err != nil {
		return fmt.Errorf("demo content %s: %w", version, err)
	}
	if _, err := fs.Stat(content, RulesFile); err != nil {
		return fmt.Errorf("demo content %q: there are %q: %w", version, DemoVersions, ErrInvalid)
	}
	manifest, err := fs.ReadFile(demo, "demo/headgate.json")
	if err != nil {
		return fmt.Errorf("demo content %s: %w", version, err)
	}
	if err := os.CopyFS(dir, content); err != nil {
		return fmt.Errorf("write demo content %s: %w", version, err)
	}
	if err := os.WriteFile(dir+"/headgate.json", manifest, 0o644); err != nil {
		return fmt.Errorf("write demo content %s: %w", version, err)
	}
	return nil
}
