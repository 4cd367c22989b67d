package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
)

// A target that is lost for good is replaced by an empty one under its name, which a
// running service fills; nothing else can be replaced.
func TestTargetReplace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "targets", "c1")); err != nil {
		t.Fatal(err)
	}
	p := startDev(t, dir)
	cli(t, "status", "--addr", p.addr).want(t, exit.Unhealthy, "c1", "logcore target replace")
	cli(t, "target", "replace", "--dir", dir, "a1").want(t, exit.Failure, "a1", "not empty")
	cli(t, "target", "replace", "--dir", dir, "nothing").want(t, exit.Failure, `"nothing"`)
	cli(t, "target", "replace", "a1").want(t, exit.Usage, "--dir")
	cli(t, "target", "replace", "--dir", dir, "c1").want(t, exit.OK, "c1 is replaced")
	for deadline := time.Now().Add(time.Minute); cli(t, "status", "--addr", p.addr).code != exit.OK; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			cli(t, "status", "--addr", p.addr).want(t, exit.OK)
			break
		}
	}
	// A bucket that lost nothing but its marker holds only what is ours: it may be kept.
	if err := os.Remove(filepath.Join(dir, "targets", "b1", "logcore-target")); err != nil {
		t.Fatal(err)
	}
	cli(t, "target", "replace", "--dir", dir, "b1").want(t, exit.OK, "b1 is replaced")
	if err := os.Remove(filepath.Join(dir, "targets", "b2", "logcore-target")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "targets", "b2", "holiday.jpg"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "target", "replace", "--dir", dir, "b2").want(t, exit.Failure, "holiday.jpg", "not empty")
	if err := os.Remove(filepath.Join(dir, "targets", "b2", "holiday.jpg")); err != nil {
		t.Fatal(err)
	}
	cli(t, "target", "replace", "--dir", dir, "b2").want(t, exit.OK, "b2 is replaced")
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
}
