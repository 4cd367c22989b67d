package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/logcore/logcore/internal/sampledb"
)

// writer starts the writing process.
func (d *demo) writer(args ...string) (*child, error) {
	args = append([]string{"demo-writer", "--addr", d.addr, "--characters", strconv.Itoa(d.flags.characters)}, args...)
	return startChild(d.exe, "writer", d.logs(), nil, args...)
}

// acknowledged takes the writer's next acknowledgement; ok is false at its end.
func (d *demo) acknowledged(ctx context.Context, w *child) (ack sampledb.Ack, ok bool, err error) {
	select {
	case line, open := <-w.lines:
		if !open {
			return ack, false, nil
		}
		if err := json.Unmarshal([]byte(line), &ack); err != nil {
			return ack, false, fmt.Errorf("the writer said %q: %w", line, err)
		}
	case <-ctx.Done():
		return ack, false, ctx.Err()
	}
	if ack.N != int64(len(d.acks))+1 {
		return ack, false, fmt.Errorf("transaction %d was acknowledged after %d", ack.N, len(d.acks))
	}
	d.acks = append(d.acks, ack)
	return ack, true, nil
}

// load loads the sample and lets that writer end by itself.
func (d *demo) load(ctx context.Context) error {
	w, err := d.writer("--load", "--transactions", "1")
	if err != nil {
		return err
	}
	defer w.end()
	m := d.app.newMeter()
	defer m.done()
	for {
		ack, ok, err := d.acknowledged(ctx, w)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		d.result.Rows += int64(ack.Changes)
		m.update("load: %d rows", d.result.Rows)
	}
	if <-w.exited; w.err != nil {
		return fmt.Errorf("the writer failed: %w\n%s", w.err, w.tail())
	}
	d.result.LoadTx = len(d.acks)
	d.say("loaded        %d rows in %d transactions, %.1f s", d.result.Rows, len(d.acks), time.Since(d.began).Seconds())
	return nil
}

// work commits the transactions and kills every process while more are under way.
func (d *demo) work(ctx context.Context) error {
	first := len(d.acks)
	if err := d.workUntilKilled(ctx, "1", d.flags.transactions, 0); err != nil {
		return err
	}
	d.result.latencies(d.acks[first : first+d.flags.transactions])
	d.say("transactions  %d at %.0f/s, commit p50 %.2f ms, p99 %.2f ms", d.flags.transactions, d.result.PerSecond, d.result.CommitP50Ms, d.result.CommitP99Ms)
	d.say("killed        every process in mid-commit, %d transactions acknowledged", len(d.acks))
	return nil
}

// workUntilKilled runs a writer without an end, waits for count acknowledgements, until
// atLeast has passed, and a random moment more, and kills the service and the writer. What was acknowledged up to
// then is in d.acks: the pipe outlives them.
func (d *demo) workUntilKilled(ctx context.Context, seed string, count int, atLeast time.Duration) error {
	w, err := d.writer("--seed", seed)
	if err != nil {
		return err
	}
	defer w.end()
	m := d.app.newMeter()
	defer m.done()
	for i := 0; i < count || time.Since(d.began) < atLeast; i++ {
		_, ok, err := d.acknowledged(ctx, w)
		if err != nil {
			return err
		}
		if !ok {
			<-w.exited
			return fmt.Errorf("the writer ended after %d of %d transactions: %v\n%s", i, count, w.err, w.tail())
		}
		m.update("transactions: %d of %d", i+1, count)
	}
	moment := time.NewTimer(time.Duration(20+rand.IntN(130)) * time.Millisecond)
	defer moment.Stop()
	for killed := false; ; {
		select {
		case <-moment.C:
			d.crashed = time.Now()
			if err := errors.Join(d.service.kill(), w.kill()); err != nil {
				return err
			}
			killed = true
		default:
		}
		if killed {
			break
		}
		// Few acknowledgements fit into the pipe: take them as they come.
		select {
		case line, open := <-w.lines:
			if !open {
				<-w.exited
				return fmt.Errorf("the writer ended by itself: %v\n%s", w.err, w.tail())
			}
			var ack sampledb.Ack
			if err := json.Unmarshal([]byte(line), &ack); err != nil {
				return fmt.Errorf("the writer said %q: %w", line, err)
			}
			d.acks = append(d.acks, ack)
		case <-time.After(time.Millisecond):
		}
	}
	for {
		_, ok, err := d.acknowledged(ctx, w)
		if err != nil || !ok {
			return err
		}
	}
}

// workOn makes commits that the archive can't all have when everything is killed again.
func (d *demo) workOn(ctx context.Context) error {
	// Long enough that some of it is archived by then, and some is not.
	if err := d.workUntilKilled(ctx, "2", d.flags.transactions/4, archiveMaxAge+archiveMaxAge/2); err != nil {
		return err
	}
	d.say("killed again  every process in mid-commit, %d transactions acknowledged", len(d.acks))
	return nil
}
