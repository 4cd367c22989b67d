package hotlog

import (
	"os"
	"path/filepath"
	"testing"
)

// A segment file that ends inside of a block, as a copy of a directory by other means may
// leave it, is appended to like any other: it grows before a block would reach behind it.
func TestFileThatEndsInsideABlock(t *testing.T) {
	o := testOptions(t.TempDir())
	l := mustOpen(t, o)
	fill(t, l, 20, 1000, 5)
	s := (*l.view.Load())[0]
	name := filepath.Join(o.Dir, s.name)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, s.committed.end&^4095+1<<13+3000); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	if got := (*l.view.Load())[0].f.Size(); got%4096 == 0 {
		t.Fatalf("void: the file has %d bytes", got)
	}
	for at := l.Last(); at < 300; {
		at++
		mustAppend(t, l, entry(at, 4))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
