package replbench

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

// hotOne is the hot log by itself, one append in flight: what a commit costs before there
// is a network.
func hotOne(ctx context.Context, dir string, seconds time.Duration) (t turn, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, _, err := hotlog.Open(ctx, hotlog.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return t, err
	}
	clock := uint64(logcore.HLCAt(time.Now()))
	one := make([]logcore.Entry, 1)
	payload := make([]byte, payloadBytes+40) // with the envelope that the service adds
	t, err = oneAtATime(seconds, func() error {
		clock++
		one[0] = logcore.Entry{Term: 1, Kind: logcore.KindData, Time: logcore.HLC(clock), Tx: logcore.TxID{1}, Payload: payload}
		return l.AppendNext(ctx, one)
	})
	return t, errors.Join(err, l.Close())
}

// hotThree is three hot logs on the one disk, an append to all three at a time, done when the first and one of the others
// have it: what a quorum of three costs where its members share a device, before there is a network. The third may lag.
func hotThree(ctx context.Context, dir string, seconds time.Duration) (t turn, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	const lagMax = 1 << 10
	type answer struct {
		member int
		err    error
	}
	answers := make(chan answer, 4*lagMax)
	var members [3]chan logcore.HLC
	var running sync.WaitGroup
	defer running.Wait()
	for i := range members {
		l, _, err := hotlog.Open(ctx, hotlog.Options{Dir: filepath.Join(dir, strconv.Itoa(i)), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return t, err
		}
		in := make(chan logcore.HLC, lagMax)
		members[i] = in
		defer close(in)
		running.Go(func() {
			one, payload := make([]logcore.Entry, 1), make([]byte, payloadBytes+40)
			for at := range in {
				one[0] = logcore.Entry{Term: 1, Kind: logcore.KindData, Time: at, Tx: logcore.TxID{1}, Payload: payload}
				answers <- answer{i, l.AppendNext(ctx, one)}
			}
			_ = l.Close() // what was answered is durable, and the directory goes
		})
	}
	clock, asked := uint64(logcore.HLCAt(time.Now())), 0
	var have [3]int
	return oneAtATime(seconds, func() error {
		clock++
		asked++
		for _, in := range members {
			in <- logcore.HLC(clock)
		}
		for have[0] < asked || max(have[1], have[2]) < asked {
			a := <-answers
			if a.err != nil {
				return a.err
			}
			have[a.member]++
		}
		return nil
	})
}
