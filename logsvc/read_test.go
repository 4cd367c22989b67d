package logsvc_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// TestFollow: a reader that follows while others append sees every entry of its log
// once, in order, and hears how far the shard is while its own log is quiet.
func TestFollow(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	noise := openWriter(t, c, "noise", client.WriterOptions{Create: true})
	const entries = 500
	var wg sync.WaitGroup
	var want []client.Appended
	wg.Go(func() {
		var futures []*client.Future
		for i := range entries {
			futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i)}, nil))
			noise.Submit(ctx, logcore.TxID{}, [][]byte{make([]byte, 2000)}, nil)
		}
		for _, f := range futures {
			a, err := f.Wait(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			want = append(want, a)
		}
	})
	var got []client.LogEntry
	var target logcore.LSN
	for b, err := range c.Read(ctx, "a", client.ReadOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Entries...)
		if len(got) == entries && target == 0 {
			wg.Wait()
			a, err := noise.AppendTx(ctx, logcore.TxID{}, [][]byte{nil}, nil)
			if err != nil {
				t.Fatal(err)
			}
			target = a.LSN
		}
		if target != 0 && b.Through >= target {
			// A heartbeat brought it: the entry is none of this log. Nothing is claimed
			// that isn't committed.
			if info, err := c.Info(ctx, "a"); err != nil || b.Through > info.Committed {
				t.Fatalf("through %d, committed %d, %v", b.Through, info.Committed, err)
			}
			break
		}
	}
	for i, e := range got {
		if string(e.Payload) != fmt.Sprint(i) || e.LSN != want[i].LSN {
			t.Fatalf("entry %d is %q at %d, want LSN %d", i, e.Payload, e.LSN, want[i].LSN)
		}
	}
	// With an end, a follow waits for it and stops.
	end := want[entries-1].LSN + 3
	done := make(chan int)
	go func() {
		n := 0
		for b, err := range c.Read(ctx, "a", client.ReadOptions{From: want[entries-2].LSN, To: end, Follow: true}) {
			if err != nil {
				t.Error(err)
			}
			n += len(b.Entries)
		}
		done <- n
	}()
	for range 4 {
		mustAppend(t, noise, "x")
	}
	if n := <-done; n != 2 {
		t.Errorf("%d entries up to LSN %d, want 2", n, end)
	}
}

func TestBranchAndTruncate(t *testing.T) {
	_, c := simple(t)
	ctx := testContext(t)
	w := openWriter(t, c, "main", client.WriterOptions{Create: true})
	var at []logcore.LSN
	for i := range 6 {
		at = append(at, mustAppend(t, w, fmt.Sprint("m", i)).LSN)
	}
	if _, err := c.CreateLog(ctx, "branch", "main", at[2]); err != nil {
		t.Fatal(err)
	}
	b := openWriter(t, c, "branch", client.WriterOptions{})
	mustAppend(t, b, "b0")
	mustAppend(t, w, "m6")
	info, err := c.Info(ctx, "branch")
	if err != nil || info.Parent != "main" || info.BranchLSN != at[2] || info.Entries != 1 {
		t.Fatalf("info %+v, %v", info, err)
	}
	if _, err := c.CreateLog(ctx, "twig", "branch", info.LastLSN); err != nil {
		t.Fatal(err)
	}
	tw := openWriter(t, c, "twig", client.WriterOptions{})
	mustAppend(t, tw, "t0")
	mustAppend(t, b, "b1")
	for log, want := range map[string]string{"main": "m0 m1 m2 m3 m4 m5 m6", "branch": "m0 m1 m2 b0 b1", "twig": "m0 m1 m2 b0 t0"} {
		if got := bodies(readLog(t, c, log, client.ReadOptions{})); got != want {
			t.Errorf("%s reads %q, want %q", log, got, want)
		}
	}
	if got := bodies(readLog(t, c, "branch", client.ReadOptions{From: info.BranchLSN + 1})); got != "b0 b1" {
		t.Errorf("the branch's own: %q", got)
	}
	first, err := c.Truncate(ctx, "main", at[4])
	if err != nil || first != at[4] {
		t.Fatalf("truncate: %d, %v", first, err)
	}
	if first, err = c.Truncate(ctx, "main", at[1]); err != nil || first != at[4] {
		t.Errorf("truncate lower: %d, %v", first, err)
	}
	if got := bodies(readLog(t, c, "main", client.ReadOptions{})); got != "m4 m5 m6" {
		t.Errorf("truncated: %q", got)
	}
	_, err = readLogErr(t, c, "main", client.ReadOptions{From: at[3]})
	wantErr(t, "read of what was given up", err, logcore.ErrTrimmed)
	if got := bodies(readLog(t, c, "branch", client.ReadOptions{})); got != "m0 m1 m2 b0 b1" {
		t.Errorf("the branch after its parent was truncated: %q", got)
	}
	_, err = c.CreateLog(ctx, "late", "main", at[1])
	wantErr(t, "branch at what was given up", err, logcore.ErrTrimmed)
}

// TestReadEnds: a read that does not follow ends at what was committed when it began,
// however fast others append.
func TestReadEnds(t *testing.T) {
	_, c := simple(t)
	ctx, cancel := context.WithCancel(testContext(t))
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	for range 200 {
		w.Submit(ctx, logcore.TxID{}, [][]byte{make([]byte, 100<<10)}, nil)
	}
	first := mustAppend(t, w, "x")
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			w.AppendTx(ctx, logcore.TxID{}, [][]byte{make([]byte, 100<<10)}, nil)
		}
	})
	before, err := c.Info(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	var through, slowest logcore.LSN
	for b, err := range c.Read(ctx, "a", client.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if slowest == 0 { // the log grows under the reader
			for a := w.LastLSN(); w.LastLSN() < a+20; {
				time.Sleep(time.Millisecond)
			}
			slowest = w.LastLSN()
		}
		through = b.Through
	}
	if through < before.Committed || through < first.LSN || through >= slowest {
		t.Errorf("read through %d; %d was committed before, %d while it was under way", through, before.Committed, slowest)
	}
	cancel()
	wg.Wait()
}
