package client_test

import (
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// A writer that ends with its first failure takes nothing more, though the next append would
// have been taken: what it was to come behind is missing.
func TestEndOnFailure(t *testing.T) {
	s, ctx := fullDisk(t), testContext(t)
	c := dial(t, client.Options{Addr: s.addr, Timeout: 30 * time.Second})
	open := func() *client.Writer {
		w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true, Takeover: true, EndOnFailure: true})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := open()
	if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{make([]byte, w.EntryBytesMax()+1)}, nil); !errors.Is(err, logcore.ErrTooLarge) {
		t.Fatalf("%v, want ErrTooLarge", err)
	}
	if _, err := appendOne(ctx, w, "small"); !errors.Is(err, logcore.ErrTooLarge) || !errors.Is(w.Err(), logcore.ErrTooLarge) {
		t.Errorf("behind an append that failed: %v; the writer: %v; want ErrTooLarge", err, w.Err())
	}
	_ = w.Close(ctx) // it ended with the error above

	w = open()
	var err error
	for err == nil {
		_, err = w.AppendTx(ctx, logcore.TxID{}, [][]byte{make([]byte, 64<<10)}, nil)
	}
	if !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("%v, want ErrDiskFull", err)
	}
	if err := s.group.HotLog().TrimHead(s.group.HotLog().Segments()[2].Last); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := appendOne(ctx, w, "behind"); !errors.Is(err, logcore.ErrDiskFull) {
			t.Fatalf("behind an append that failed: %v, want ErrDiskFull", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = w.Close(ctx)
}
