package hotlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
)

// unnumbered is an entry whose LSN the log is to choose.
func unnumbered(size int) []logcore.Entry {
	e := entry(1, size)
	e.LSN = 0
	return []logcore.Entry{e}
}

// Many goroutines append without knowing of each other: every LSN is given once, and
// what is read under it is what its caller wrote.
func TestAppendNextByMany(t *testing.T) {
	const callers, each = 16, 200
	o := testOptions(t.TempDir())
	o.SegmentBytes = 16 << 20
	l := mustOpen(t, o)
	var mu sync.Mutex
	wrote := map[logcore.LSN]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				text := fmt.Sprintf("%d/%d", c, i)
				list := []logcore.Entry{{Kind: logcore.KindData, Payload: []byte(text)}, {Kind: logcore.KindData, Payload: []byte(text + "b")}}
				if err := l.AppendNext(context.Background(), list); err != nil {
					t.Error(err)
					return
				}
				if list[1].LSN != list[0].LSN+1 || l.Durable() < list[1].LSN {
					t.Errorf("LSNs %d and %d, durable is %d", list[0].LSN, list[1].LSN, l.Durable())
				}
				mu.Lock()
				wrote[list[0].LSN], wrote[list[1].LSN] = text, text+"b"
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(wrote) != 2*callers*each {
		t.Fatalf("%d LSNs, want %d", len(wrote), 2*callers*each)
	}
	for lsn := l.First(); lsn <= l.Last(); {
		got, err := l.Entries(lsn, l.Last()+1, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			if string(e.Payload) != wrote[e.LSN] {
				t.Fatalf("LSN %d holds %q, want %q", e.LSN, e.Payload, wrote[e.LSN])
			}
			lsn++
		}
	}
}

// OnDurable is told in order, of every ticket, and of nothing that is not durable; Done
// and Wait agree with it.
func TestEnqueueTickets(t *testing.T) {
	o := testOptions(t.TempDir())
	o.SegmentBytes = 16 << 20
	var l *Log
	var told []logcore.LSN
	o.OnDurable = func(durable logcore.LSN, err error) {
		if err != nil || len(told) > 0 && durable <= told[len(told)-1] || durable > l.Durable() {
			t.Errorf("told of %d behind %v, durable is %d: %v", durable, told, l.Durable(), err)
		}
		told = append(told, durable)
	}
	l = mustOpen(t, o)
	var last Ticket
	for i := range 2000 {
		ticket, err := l.Enqueue(unnumbered(100))
		if err != nil {
			t.Fatal(err)
		}
		if ticket.LSN != logcore.LSN(i+1) {
			t.Fatalf("ticket %d for entry %d", ticket.LSN, i+1)
		}
		last = ticket
	}
	durable, err := l.Wait(context.Background(), last)
	if err != nil || durable < last.LSN {
		t.Fatalf("%d, %v", durable, err)
	}
	if done, err := l.Done(last); !done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if told[len(told)-1] != last.LSN || len(told) > 1000 {
		t.Fatalf("told %d times, the last of %d", len(told), told[len(told)-1])
	}
}

// A ticket whose entries failed stays failed when its LSN is given out again.
func TestTicketOfAFailedEntry(t *testing.T) {
	ctx := context.Background()
	d := simdisk.New(1)
	o := simOptions()
	var failures atomic.Int64 // OnDurable runs on the committer
	o.OnDurable = func(_ logcore.LSN, err error) {
		if err != nil {
			failures.Add(1)
		}
	}
	l, _, err := openOn(ctx, d, o, openMode{inline: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := l.Enqueue(unnumbered(100))
	if err != nil {
		t.Fatal(err)
	}
	barrier(l)
	var full atomic.Bool // the hook runs wherever the disk is used
	full.Store(true)
	d.Hook = func(op simdisk.Op) error {
		if full.Load() && op.Kind == "create" {
			return fmt.Errorf("injected: %w", logcore.ErrDiskFull)
		}
		return nil
	}
	seal := unnumbered(0)
	seal[0].Kind = logcore.KindSeal
	if err := l.AppendNext(ctx, seal); err != nil {
		t.Fatal(err)
	}
	barrier(l)
	var failed Ticket
	for err = nil; err == nil; {
		l.mu.Lock()
		l.pool = nil // what was ready is taken away
		l.mu.Unlock()
		if failed, err = l.Enqueue(unnumbered(100)); err != nil {
			t.Fatal(err)
		}
		_, err = l.Wait(ctx, failed)
		if err == nil {
			err = l.AppendNext(ctx, seal)
		}
	}
	if !errors.Is(err, logcore.ErrDiskFull) || failures.Load() == 0 {
		t.Fatalf("%v, %d failures told", err, failures.Load())
	}
	full.Store(false)
	for l.Durable() < failed.LSN+2 {
		if err := l.AppendNext(ctx, unnumbered(10)); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := l.Done(failed); !done || !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("the failed one: %v, %v", done, err)
	}
	if done, err := l.Done(first); !done || err != nil {
		t.Fatalf("the first one: %v, %v", done, err)
	}
	cut, err := l.Enqueue(unnumbered(10))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.TruncateTail(cut.LSN - 1); err != nil {
		t.Fatal(err)
	}
	if done, err := l.Done(cut); !done || !errors.Is(err, logcore.ErrTrimmed) {
		t.Fatalf("the truncated one: %v, %v", done, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Wait(ctx, Ticket{LSN: 1 << 40, life: l.life.Load()}); !errors.Is(err, logcore.ErrClosed) {
		t.Fatalf("wait on a closed log: %v", err)
	}
}
