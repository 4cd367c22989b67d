package replication

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

func open(ctx context.Context, opts Options, hot *hotlog.Log, report hotlog.RecoveryReport) (*Group, error) {
	file, state, err := loadState(opts, hot)
	if err != nil {
		return nil, err
	}
	g := &Group{opts: opts, log: opts.Log.Logger.With("shard", opts.Log.Shard), hot: hot, report: report, file: file,
		stopped: make(chan struct{}), wake: make(chan struct{}, 1)}
	g.member, err = NewMember(ctx, MemberOptions{State: state, Disk: hot, Store: file, Net: opts.Net, Clock: opts.Clock,
		QueueRequestsMax: opts.QueueRequestsMax, QueueBytesMax: opts.QueueBytesMax, InflightBytesMax: opts.InflightBytesMax,
		SegmentBytes: opts.Log.SegmentBytes, QuietTicks: int(opts.QuietAfter / tickEvery), Wake: g.poke, Sent: yield, OnSnapshot: opts.OnSnapshot, Place: opts.Log.Dir,
		Logger: opts.Log.Logger, Corruptions: opts.Log.Corruptions})
	if err != nil {
		return nil, errors.Join(err, file.close())
	}
	g.view = &g.member.view
	if g.metrics, err = newMetrics(opts.Log.Registerer, g); err != nil {
		g.metrics.unregister()
		return nil, errors.Join(err, file.close())
	}
	go g.loop()
	return g, nil
}

// yield lets those go first who carry messages away: the goroutine of each link, and behind it the one that writes to the
// connection, which gives way itself once before it does. The commit that comes next may keep this goroutine's
// processor for as long as the device takes.
func yield() {
	runtime.Gosched()
	runtime.Gosched()
}

// waitReady returns when a group of one leads. When it can't, because the disk is full, and
// everything committed can be read, it returns too: only the archiver and the trimmer can
// make room, and they want an open group.
func (g *Group) waitReady(ctx context.Context) error {
	for {
		changed := g.Changed()
		if g.Leading() {
			return nil
		}
		if err := g.Err(); err != nil {
			return err
		}
		if !slices.Equal(g.Members().All(), []uint64{g.member.ID()}) {
			return nil // whether and when there is a leader is up to the others too
		}
		g.mu.Lock()
		stalled, readable := g.stalled, g.readable
		g.mu.Unlock()
		if stalled != nil && readable {
			g.log.Warn("replication: opened for readers only until there is room on the disk", "err", stalled)
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if stalled != nil {
				return fmt.Errorf("not leading yet: %w: %w", stalled, ctx.Err())
			}
			return fmt.Errorf("not leading yet: %w", ctx.Err())
		}
	}
}

// findStart returns the first entry to be applied when an existing log is folded: the newest
// committed checkpoint. Segments begin with one, so it reads the beginnings of segments from the
// newest back.
func findStart(ctx context.Context, disk Disk, committed logcore.LSN) (logcore.LSN, error) {
	segments := disk.Segments()
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		lsn, err := firstCheckpoint(ctx, disk, max(s.First, disk.First()), min(s.Last, committed))
		if err != nil || lsn != 0 {
			return lsn, err
		}
	}
	if disk.First() > 1 {
		return 0, &logcore.CorruptionError{Place: "hot log", Object: "catalog", Offset: -1, LSN: disk.First(), Reason: "no checkpoint of the catalog in any segment, and the entries from LSN 1 on are gone"}
	}
	return 1, nil
}

// firstCheckpoint returns the LSN of the first checkpoint in [lo, hi], 0 when there is none.
func firstCheckpoint(ctx context.Context, disk Disk, lo, hi logcore.LSN) (logcore.LSN, error) {
	for lo <= hi && lo != 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		entries, err := disk.Entries(lo, hi+1, startBytesRead)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if e.Kind == logcore.KindCheckpoint {
				return e.LSN, nil
			}
		}
		lo += logcore.LSN(len(entries))
	}
	return 0, nil
}
