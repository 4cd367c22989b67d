package hotlog

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
)

// goroutine names the goroutine that runs it.
func goroutine() string {
	buf := make([]byte, 64)
	return string(bytes.Fields(buf[:runtime.Stack(buf, false)])[1])
}

// A trim that fails poisons the log while appends are pending: their completions come
// from the committer all the same, in order, and each once.
func TestTrimFailureCompletesOnTheCommitter(t *testing.T) {
	w := newWorld(4)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	fill(t, w.log, 100, 40, 10)
	committer, trimmed := make(chan string, 1), make(chan error, 1)
	w.log.commands <- func() { committer <- goroutine() }
	held, release := make(chan struct{}), make(chan struct{})
	var from []string
	var order []logcore.LSN
	done := make(chan error, 3)
	err := w.log.Submit([]logcore.Entry{entry(101, 10)}, func(error) { close(held); <-release })
	if err != nil {
		t.Fatal(err)
	}
	<-held // the committer stands still with nothing under way
	for lsn := logcore.LSN(102); lsn <= 104; lsn++ {
		err := w.log.Submit([]logcore.Entry{entry(lsn, 10)}, func(err error) {
			from, order = append(from, goroutine()), append(order, lsn)
			done <- err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.disk.Hook = func(op simdisk.Op) error {
		if op.Kind == "sync" {
			return errInjected
		}
		return nil
	}
	go func() { trimmed <- w.log.TrimHead(40) }()
	if err := <-trimmed; !errors.Is(err, logcore.ErrPoisoned) || !errors.Is(err, errInjected) {
		t.Fatalf("trim: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("completed beside the committer: %v", err)
	default:
	}
	close(release)
	for range 3 {
		if err := <-done; !errors.Is(err, logcore.ErrPoisoned) {
			t.Fatalf("completed with %v", err)
		}
	}
	want := <-committer
	for i := range from {
		if from[i] != want || order[i] != logcore.LSN(102+i) {
			t.Errorf("completion %d: of LSN %d on goroutine %s, want the committer's, %s", i, order[i], from[i], want)
		}
	}
	if w.log.Last() != 101 {
		t.Errorf("the log ends at %d", w.log.Last())
	}
	w.disk.Hook = nil
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
}
