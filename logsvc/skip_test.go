package logsvc_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// A log that is quiet in a busy shard is read without the segments that hold nothing of
// it: they could as well be damaged, as they are here.
func TestQuietLogSkipsSegments(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{Log: hotlog.Options{CacheBytes: 1}})
	c, ctx := n.client(client.Options{}), testContext(t)
	quiet := openWriter(t, c, "quiet", client.WriterOptions{Create: true})
	mustAppend(t, quiet, "first")
	busy := openWriter(t, c, "busy", client.WriterOptions{Create: true})
	fillSegments(t, n, busy, 5)
	mustAppend(t, quiet, "last")

	hot := n.group.HotLog()
	between := hot.Segments()[2]
	info, err := c.Info(ctx, "quiet")
	if err != nil {
		t.Fatal(err)
	}
	for hot.NextOf(between.First, between.Last+1, info.ID) <= between.Last { // until its footer is there
		if ctx.Err() != nil {
			t.Fatal("the footer of a sealed segment does not exclude the quiet log")
		}
		time.Sleep(time.Millisecond)
	}
	damageSegment(t, filepath.Join(n.dir, "shard-0"), between.First)

	entries := readLog(t, c, "quiet", client.ReadOptions{})
	if len(entries) != 2 || string(entries[0].Payload) != "first" || string(entries[1].Payload) != "last" {
		t.Errorf("the quiet log reads as %d entries", len(entries))
	}
	for _, err = range c.Read(ctx, "busy", client.ReadOptions{}) {
		if err != nil {
			break
		}
	}
	if !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("the busy log, through the damaged segment: %v", err)
	}
}

// damageSegment changes a byte in the file of the segment.
func damageSegment(t *testing.T, dir string, first logcore.LSN) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := segment.DecodeHeader(b); err != nil || h.ID.First != first {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		at := int64(segment.FramesOffset) + 100<<10
		if _, err := f.WriteAt([]byte{^b[at]}, at); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no file holds the segment of LSN %d", first)
}
