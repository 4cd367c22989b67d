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
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
}
