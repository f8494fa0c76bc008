package slim

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Giving the program's own pages back changes nothing but memory: the test itself
// runs on from them.
func TestProgramRunsOnAfterItsPagesAreGivenBack(t *testing.T) {
	program := mappings("/proc/self/maps", "/proc/self/exe")
	if len(program) == 0 {
		t.Fatal("the program's own mappings were not found")
	}
	for _, m := range program {
		if err := m.advise(unix.MADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNothingIsFoundWhereProcIsNot(t *testing.T) {
	dir := t.TempDir()
	if got := mappings(filepath.Join(dir, "maps"), filepath.Join(dir, "exe")); got != nil {
		t.Errorf("%d mappings", len(got))
	}
	bad := filepath.Join(dir, "maps")
	if err := os.WriteFile(bad, []byte("nonsense\n7f00-6f00 r-xp 0 0 0 /x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := mappings(bad, "/proc/self/exe"); len(got) != 0 {
		t.Errorf("%d mappings of nonsense", len(got))
	}
}
