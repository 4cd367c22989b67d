package replbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/loadtest/proc"
)

// killEvery is how long one kill of the leader takes, about, with the restart.
const killEvery = 4 * time.Second

// threeMembers measures a service of three members.
func (b *bench) threeMembers(ctx context.Context) error {
	if !b.runs("three-inflight-1") && !b.runs("three-inflight-256") && !b.runs("leader-kill") {
		return nil
	}
	dir := b.path("cluster")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	c, err := formCluster(ctx, b.Bin, dir)
	if err != nil {
		return err
	}
	defer c.close()
	for _, cell := range []struct {
		name string
		run  func(context.Context, *cluster) error
	}{{"three-inflight-1", b.threeOne}, {"three-inflight-256", b.threeMany}, {"leader-kill", b.leaderKill}} {
		if !b.runs(cell.name) {
			continue
		}
		if err := cell.run(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// threeOne: one replicated append after the other, beside the hot log's own commit.
func (b *bench) threeOne(ctx context.Context, c *cluster) error {
	const cell = "three-inflight-1"
	echo, err := proc.Start(ctx, b.path("echo-three.log"), b.Echo[0], b.Echo[1:]...)
	if err != nil {
		return err
	}
	defer echo.Kill()
	turns, err := b.rounds(ctx, cell,
		contender{"logcore", func(ctx context.Context) (turn, error) { return b.load(ctx, c.addrs(), "one", 1, 1) }, c.served()},
		contender{"hotlog", func(ctx context.Context) (turn, error) { return hotOne(ctx, b.path("hot"), b.Turn) }, nil},
		contender{"hotlog-three", func(ctx context.Context) (turn, error) { return hotThree(ctx, b.path("hot3"), b.Turn) }, nil},
		contender{"grpc-unary", func(ctx context.Context) (turn, error) { return echoUnary(ctx, echo.Addr, b.Turn) }, []served{{proc: echo}}})
	if err != nil {
		return err
	}
	f, three, hop := newFigure(cell, "logcore", turns["logcore"]), newFigure(cell, "hotlog-three", turns["hotlog-three"]), newFigure(cell, "grpc-unary", turns["grpc-unary"])
	f.Ratio = round(median(ratios(turns["logcore"], p50, of(turns["hotlog"], p50))))
	f.want("≤ 2.5 of hotlog", f.Ratio <= 2.5)
	three.Ratio = round(median(ratios(turns["hotlog-three"], p50, of(turns["hotlog"], p50))))
	three.Note = "ratio: of its p50 to that of hotlog: what three members cost that share the device, without a network"
	var floor []float64
	for i, device := range turns["hotlog-three"] {
		floor = append(floor, device.p50+2*turns["grpc-unary"][i].p50)
	}
	f.Note = fmt.Sprintf("ratio: of the p50s; of hotlog-three and two calls, to the leader and on to a member: %.2f", median(ratios(turns["logcore"], p50, floor)))
	b.figures = append(b.figures, f, newFigure(cell, "hotlog", turns["hotlog"]), three, hop)
	return nil
}

// threeMany: 256 replicated appends under way, beside a bare Raft group of three.
func (b *bench) threeMany(ctx context.Context, c *cluster) error {
	const cell = "three-inflight-256"
	turns, err := b.rounds(ctx, cell,
		contender{"logcore", func(ctx context.Context) (turn, error) { return b.load(ctx, c.addrs(), "many", 1, inflightMax) }, c.served()},
		contender{"raft", func(ctx context.Context) (turn, error) {
			return bareRaft(ctx, b.path("raft"), inflightMax, false, b.Turn)
		}, nil},
		contender{"raft-batched", func(ctx context.Context) (turn, error) {
			return bareRaft(ctx, b.path("raft"), inflightMax, true, b.Turn)
		}, nil})
	if err != nil {
		return err
	}
	f, limit, batched := newFigure(cell, "logcore", turns["logcore"]), newFigure(cell, "raft", turns["raft"]), newFigure(cell, "raft-batched", turns["raft-batched"])
	f.Ratio = round(median(ratios(turns["logcore"], perSecond, of(turns["raft"], perSecond))))
	f.want("≥ 0.8 of raft", f.Ratio >= 0.8)
	batched.Note = "the same with proposals that have gathered made as one; no goal"
	b.figures = append(b.figures, f, limit, batched)
	return nil
}

// acks is a load that notes when appends were acknowledged last.
type acks struct {
	last  atomic.Int64 // Unix nanoseconds
	count atomic.Int64
	err   error
	done  chan struct{}
}

// appendUntil appends to one log with a number in flight until ctx ends. A writer that has
// to be given up is followed by another.
func appendUntil(ctx context.Context, addrs string, inflight int) (*acks, error) {
	c, err := client.Dial(ctx, client.Options{Addr: addrs, RetryFor: 30 * time.Second, InflightEntriesMax: inflight})
	if err != nil {
		return nil, err
	}
	a := &acks{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer c.Close()
		for ctx.Err() == nil {
			w, err := c.OpenWriter(ctx, "kills", client.WriterOptions{Create: true, Takeover: true})
			if err != nil {
				a.err = err
				continue
			}
			a.write(ctx, w, inflight)
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = w.Close(closing) // what it could not finish nobody counted
			cancel()
		}
	}()
	return a, nil
}

// write appends until ctx or the writer ends.
func (a *acks) write(ctx context.Context, w *client.Writer, inflight int) {
	payload := [][]byte{make([]byte, payloadBytes)}
	ring := make([]*client.Future, inflight)
	for i := 0; ctx.Err() == nil && w.Err() == nil; i++ {
		slot := &ring[i%inflight]
		if *slot != nil {
			if _, err := (*slot).Wait(ctx); err == nil {
				a.count.Add(1)
				a.last.Store(time.Now().UnixNano())
			}
		}
		*slot = w.Submit(ctx, logcore.TxID{}, payload, nil)
	}
}

// leaderKill: the leader is killed under load, again and again: how long until new appends
// are acknowledged?
func (b *bench) leaderKill(ctx context.Context, c *cluster) error {
	if b.Kills == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	load, err := appendUntil(ctx, c.addrs(), 64)
	if err != nil {
		return err
	}
	var gaps []float64
	for kill := range b.Kills {
		gap, err := b.killOnce(ctx, c, load)
		if err != nil {
			return fmt.Errorf("kill %d: %w", kill+1, err)
		}
		gaps = append(gaps, float64(gap.Microseconds()))
	}
	cancel()
	<-load.done
	slices.Sort(gaps)
	f := figure{Bench: "replication", Cell: "leader-kill", Contender: "logcore", Rounds: len(gaps), P50: median(gaps), P99: gaps[min(len(gaps)*99/100, len(gaps)-1)],
		Note: fmt.Sprintf("time until an append that was begun after the kill is acknowledged; longest %.0f ms", gaps[len(gaps)-1]/1e3)}
	f.want("p99 ≤ 2 s", f.P99 <= 2e6)
	b.figures = append(b.figures, f)
	return nil
}

// killOnce kills the leader and waits until more appends are acknowledged than could have
// been under way, then brings the member back.
func (b *bench) killOnce(ctx context.Context, c *cluster, load *acks) (time.Duration, error) {
	if err := c.level(ctx); err != nil {
		return 0, err
	}
	before := load.count.Load()
	if err := load.reaches(ctx, before+200); err != nil {
		return 0, err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	c.kill(leader)
	killed := time.Now()
	if err := load.reaches(ctx, load.count.Load()+2*64); err != nil {
		return 0, err
	}
	gap := time.Since(killed)
	return gap, c.start(ctx, leader)
}

// reaches waits until so many appends were acknowledged.
func (a *acks) reaches(ctx context.Context, count int64) error {
	for begun := time.Now(); a.count.Load() < count; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(begun) > 60*time.Second {
			return errors.Join(errors.New("nothing was acknowledged for a minute"), a.err)
		}
	}
	return nil
}
