package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// moveOp is an operation on a log as its caller saw it.
type moveOp struct {
	text string      // of an append; empty of a read
	lsn  logcore.LSN // of an append, answered
	seen string      // of a read: how many entries there were, and the last one
}

// moveState is the specification of a log, wherever it is: so many entries, the last of them at that LSN.
type moveState struct {
	entries int
	last    string
	lsn     logcore.LSN
}

// moveModel: an append goes behind everything, with a higher LSN; a read from the beginning to the end sees how much is there.
var moveModel = porcupine.Model{
	Init: func() any { return moveState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, op := state.(moveState), input.(moveOp)
		if op.text == "" {
			return op.seen == fmt.Sprintf("%d %s", s.entries, s.last), s
		}
		return op.lsn > s.lsn, moveState{s.entries + 1, op.text, op.lsn}
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// moveHistory is what was done to one log.
type moveHistory struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *moveHistory) add(client int, op moveOp, call, ret int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: op, Call: call, Return: ret})
}

// check holds the history against what the log holds in the end: every append that was acknowledged is there, at its LSN, once and in
// the order of LSNs; those without an answer count when they are there; and all of it has one order.
func (h *moveHistory) check(final []client.LogEntry) error {
	at := map[string]logcore.LSN{}
	for i, e := range final {
		text := string(e.Payload)
		if at[text] != 0 {
			return fmt.Errorf("%q is there twice, at LSN %d and %d", text, at[text], e.LSN)
		}
		if at[text] = e.LSN; i > 0 && e.LSN <= final[i-1].LSN {
			return fmt.Errorf("LSN %d follows %d", e.LSN, final[i-1].LSN)
		}
	}
	var ops []porcupine.Operation
	for _, o := range h.ops {
		op := o.Input.(moveOp)
		switch {
		case op.text == "":
		case o.Return == math.MaxInt64 && at[op.text] == 0:
			continue // not answered, and it never happened
		case o.Return == math.MaxInt64:
			op.lsn = at[op.text]
		case at[op.text] != op.lsn:
			return fmt.Errorf("acknowledged at LSN %d and lost: %q is at %d", op.lsn, op.text, at[op.text])
		}
		o.Input = op
		ops = append(ops, o)
	}
	if result := porcupine.CheckOperationsTimeout(moveModel, ops, time.Minute); result != porcupine.Ok {
		return fmt.Errorf("the history of %d operations has no legal order: %v", len(ops), result)
	}
	return nil
}

// The checker finds what it is there to find: histories of a log that moved from one shard to another, where the old one goes on
// although the move was committed.
func TestMoveHistoryFindsBugs(t *testing.T) {
	entry := func(lsn logcore.LSN, text string) client.LogEntry {
		return client.LogEntry{LSN: lsn, Payload: []byte(text)}
	}
	final := []client.LogEntry{entry(1, "a"), entry(2, "b"), entry(9, "c")}
	write := func(text string, lsn logcore.LSN, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: moveOp{text: text, lsn: lsn}, Call: call, Return: ret}
	}
	read := func(seen string, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: moveOp{seen: seen}, Call: call, Return: ret}
	}
	whole := []porcupine.Operation{write("a", 1, 1, 2), write("b", 2, 3, 4), write("c", 9, 5, 6), read("3 c", 7, 8)}
	for name, c := range map[string]struct {
		ops   []porcupine.Operation
		final []client.LogEntry
		want  string
	}{
		"whole":                  {whole, final, ""},
		"not answered and there": {[]porcupine.Operation{whole[0], whole[1], write("c", 0, 5, math.MaxInt64), read("2 b", 7, 8)}, final, ""},
		"the old extent took an append behind the move": {append(slices.Clone(whole), write("d", 3, 9, 10)), final, "acknowledged at LSN 3 and lost"},
		"and readers see it, in its place":              {append(slices.Clone(whole), write("d", 3, 9, 10)), []client.LogEntry{final[0], final[1], entry(3, "d"), final[2]}, "no legal order"},
		"a reader stops where the log left":             {append(slices.Clone(whole), read("2 b", 9, 10)), final, "no legal order"},
		"a reader skips the old extent":                 {append(slices.Clone(whole), read("1 c", 9, 10)), final, "no legal order"},
		"tried again in the new shard, and written":     {whole, append(slices.Clone(final), entry(10, "b")), "twice"},
		"LSNs begin anew":                               {whole, []client.LogEntry{final[0], final[1], entry(2, "c")}, "follows"},
	} {
		h := moveHistory{ops: c.ops}
		if err := h.check(c.final); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestMovesAreLinearizable (I2, I4, F1): logs go from shard to shard while several clients append to them, taking them from each
// other, and others read them from end to end; the processes that lead are killed meanwhile. Every history has one legal order.
func TestMovesAreLinearizable(t *testing.T) {
	servers := formShards(t, 3)
	addrs := addrsOf(servers)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dial := func() *client.Client {
		c, err := client.Dial(ctx, client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	const logs = 2
	histories := make([]moveHistory, logs)
	began := time.Now()
	now := func() int64 { return int64(time.Since(began)) }
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var running sync.WaitGroup
	for i := range logs {
		name := fmt.Sprint("log", i)
		if _, err := dial().CreateLog(ctx, name, "", 0); err != nil {
			t.Fatal(err)
		}
		h := &histories[i]
		for writer := range 2 {
			c := dial()
			running.Go(func() {
				for n := 0; !stopped(); {
					w, err := c.OpenWriter(ctx, name, client.WriterOptions{Takeover: true})
					if err != nil {
						time.Sleep(20 * time.Millisecond)
						continue
					}
					for turn := 0; turn < 20 && !stopped(); turn++ {
						op := moveOp{text: fmt.Sprintf("w%d.%d", writer, n)}
						n++
						call := now()
						a, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte(op.text)}, nil)
						ret := now()
						if op.lsn = a.LSN; err != nil {
							ret = math.MaxInt64
						}
						h.add(writer, op, call, ret)
						if err != nil {
							break // fenced by the other one, or not known
						}
						time.Sleep(rand.N(5 * time.Millisecond))
					}
					time.Sleep(rand.N(100 * time.Millisecond))
				}
			})
		}
		c := dial()
		running.Go(func() {
			for !stopped() {
				call := now()
				entries, err := readWhole(ctx, c, name)
				if err == nil {
					last := ""
					if len(entries) > 0 {
						last = string(entries[len(entries)-1].Payload)
					}
					h.add(9, moveOp{seen: fmt.Sprintf("%d %s", len(entries), last)}, call, now())
				}
				time.Sleep(rand.N(50 * time.Millisecond))
			}
		})
	}
	moves := 0
	mover := dial()
	running.Go(func() {
		for ; !stopped(); moves++ {
			mover.MoveLog(ctx, fmt.Sprint("log", moves%logs), logcore.ShardID(rand.N(3))) // one that ends early goes on by itself
			time.Sleep(rand.N(60 * time.Millisecond))
		}
	})
	for round := range 4 {
		time.Sleep(time.Second)
		victim := servers[round%3]
		victim.kill()
		time.Sleep(time.Second)
		victim.start()
	}
	time.Sleep(time.Second)
	close(stop)
	running.Wait()
	for i := range histories {
		name := fmt.Sprint("log", i)
		final, err := readWhole(ctx, dial(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := histories[i].check(final); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := mover.Info(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d operations, %d entries over %d extents", name, len(histories[i].ops), len(final), len(info.Extents)+1)
		if len(final) < 20 || len(info.Extents) < 2 {
			t.Errorf("void: %s has %d entries over %d extents", name, len(final), len(info.Extents)+1)
		}
	}
}

func readWhole(ctx context.Context, c *client.Client, log string) (entries []client.LogEntry, err error) {
	for b, err := range c.Read(ctx, log, client.ReadOptions{}) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, b.Entries...)
	}
	return entries, nil
}
