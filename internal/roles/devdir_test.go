package roles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/config"
)

// A directory that has an archive and no longer says where gets no new key and targets:
// the archive would be left behind.
func TestDirectoryThatForgotItsArchive(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	r, c := dev(t, d)
	appendOne(t, c, "l", "x")
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.Path, config.DevFile)
	said, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for name, targets := range map[string][]string{"none": nil, "its own": d.Targets} {
		_, err := PrepareDevDir(testContext(t), d.Path, targets)
		if err == nil || !strings.Contains(err.Error(), config.DevFile) || !strings.Contains(err.Error(), "logcore restore") {
			t.Errorf("targets %s: got %v, want an error that says what to do", name, err)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("targets %s: the directory names an archive again: %v", name, err)
		}
	}
	if err := os.WriteFile(file, said, 0o600); err != nil {
		t.Fatal(err)
	}
	dev(t, prepare(t, d.Path))
}
