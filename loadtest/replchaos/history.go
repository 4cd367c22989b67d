package replchaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// history is what a few clients did on one log, one operation after the other each: one
// appends, the others ask where the log ends.
type history struct {
	log   string
	begun time.Time

	mu  sync.Mutex
	ops []op
}

// op is one operation. An append knows its number, and its LSN if it was acknowledged; a
// look what the log's last LSN was.
type op struct {
	client     int
	append     bool
	number     int
	lsn        logcore.LSN
	known      bool // false: an append of unknown outcome
	call, back time.Time
}

func (h *history) add(o op) {
	h.mu.Lock()
	h.ops = append(h.ops, o)
	h.mu.Unlock()
}

// write appends, one at a time, until ctx ends.
func (h *history) write(ctx context.Context, c *client.Client) {
	var w *client.Writer
	for number := 0; ctx.Err() == nil; {
		if w == nil || w.Err() != nil {
			if w != nil {
				closing, cancel := context.WithTimeout(ctx, time.Millisecond)
				_ = w.Close(closing) // it failed
				cancel()
			}
			next, err := c.OpenWriter(ctx, h.log, client.WriterOptions{Create: true, Takeover: true})
			if err != nil {
				sleep(ctx, 20*time.Millisecond)
				continue
			}
			w = next
		}
		number++
		o := op{client: 0, append: true, number: number, call: time.Now()}
		placed, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, number)}, nil)
		o.back = time.Now()
		if err == nil {
			o.lsn, o.known = placed.LSN, true
		} else if ctx.Err() == nil && w.Err() == nil {
			continue // refused: nothing was written
		}
		h.add(o)
		sleep(ctx, 2*time.Millisecond)
	}
	if w != nil {
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.Close(closing)
	}
}

// look asks for the log's end until ctx ends.
func (h *history) look(ctx context.Context, c *client.Client, id int) {
	for ctx.Err() == nil {
		o := op{client: id, known: true, call: time.Now()}
		info, err := c.Info(ctx, h.log)
		o.back = time.Now()
		if err == nil {
			o.lsn = info.LastLSN
			h.add(o)
		}
		sleep(ctx, 3*time.Millisecond)
	}
}

// check holds the history against what the log holds in the end, and asks porcupine
// whether it is linearizable.
func (h *history) check(ctx context.Context, c *client.Client) (ops int, err error) {
	places := map[int]logcore.LSN{}
	for batch, err := range c.Read(ctx, h.log, client.ReadOptions{}) {
		if err != nil {
			return 0, err
		}
		for _, e := range batch.Entries {
			var number int
			if _, err := fmt.Sscan(string(e.Payload), &number); err != nil {
				return 0, fmt.Errorf("log %s, LSN %d: %q", h.log, e.LSN, e.Payload)
			}
			if at, twice := places[number]; twice {
				return 0, fmt.Errorf("log %s: append %d is at LSN %d and at %d", h.log, number, at, e.LSN)
			}
			places[number] = e.LSN
		}
	}
	var list []porcupine.Operation
	for _, o := range h.ops {
		p := porcupine.Operation{ClientId: o.client, Input: o.append, Output: o.lsn, Call: o.call.Sub(h.begun).Nanoseconds(), Return: o.back.Sub(h.begun).Nanoseconds()}
		if o.append {
			at, written := places[o.number]
			switch {
			case o.known && at != o.lsn:
				return 0, fmt.Errorf("log %s: append %d was acknowledged at LSN %d, it is at %d", h.log, o.number, o.lsn, at)
			case !o.known && !written:
				continue // it never was
			case !o.known:
				// It may have taken effect at any time later; its client had moved on.
				p.ClientId, p.Output, p.Return = 1000+o.number, at, math.MaxInt64
			}
		}
		list = append(list, p)
	}
	switch result := porcupine.CheckOperationsTimeout(logModel, list, 2*time.Minute); result {
	case porcupine.Ok:
		return len(list), nil
	case porcupine.Illegal:
		return len(list), fmt.Errorf("log %s: the history of %d operations is not linearizable", h.log, len(list))
	default:
		return len(list), errors.New("log " + h.log + ": porcupine could not decide")
	}
}

// logModel is a log as its readers see it: appends move its end up, looks see the end.
var logModel = porcupine.Model{
	Init: func() any { return logcore.LSN(0) },
	Step: func(state, input, output any) (bool, any) {
		end, lsn := state.(logcore.LSN), output.(logcore.LSN)
		if input.(bool) {
			return lsn > end, lsn
		}
		return lsn == end, end
	},
}

// block is the time that an operation took after the later of its call and the last disturbance before it
// came back.
type block struct {
	op     op
	lasted time.Duration
	after  string // the disturbance; empty when there was none before
}

// blocked returns the operations that were blocked for longer than blockedTold, and the one that was for longest.
func (h *history) blocked(disturbances []disturbance) (list []block) {
	var longest block
	for _, o := range h.ops {
		b := block{op: o}
		from := o.call
		i, _ := slices.BinarySearchFunc(disturbances, o.back, func(d disturbance, t time.Time) int { return d.at.Compare(t) })
		if i > 0 {
			b.after = disturbances[i-1].what
			if at := disturbances[i-1].at; at.After(from) {
				from = at
			}
		}
		if b.lasted = o.back.Sub(from); b.lasted > blockedTold {
			list = append(list, b)
		}
		if b.lasted > longest.lasted {
			longest = b
		}
	}
	return append(list, longest)
}
