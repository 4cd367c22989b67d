package logsvc_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// TestRestart: everything acknowledged is there after a restart, and a client that was
// connected goes on by itself, the pipeline in its hands included.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	var futures []*client.Future
	for i := range 400 {
		futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i)}, nil))
		if i == 150 {
			n.stop()
			n = start(t, dir, n.addr, logsvc.Options{}, replication.Options{})
		}
	}
	for i, f := range futures {
		if _, err := f.Wait(ctx); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	entries := readLog(t, c, "a", client.ReadOptions{})
	if len(entries) != 400 {
		t.Fatalf("%d entries, want 400", len(entries))
	}
	for i, e := range entries {
		if string(e.Payload) != fmt.Sprint(i) || e.Sequence != uint64(i+1) {
			t.Fatalf("entry %d: %q, sequence %d", i, e.Payload, e.Sequence)
		}
	}
	if _, err := c.OpenWriter(ctx, "a", client.WriterOptions{}); !errors.Is(err, logcore.ErrWriterActive) {
		t.Errorf("a second writer after the restart: %v", err)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}
