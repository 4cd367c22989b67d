package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timing says how long a turn lasts, how much disk it may take and what counts the
// bytes it writes.
type timing struct {
	seconds   time.Duration
	diskBytes int64
	written   counter
	profile   string // file for a CPU profile of the measured window, "" = none; the last round's stays
}

// warmUp precedes the measured window: a quarter of it, at most a quarter of a second.
func (t timing) warmUp() time.Duration { return min(t.seconds/4, 250*time.Millisecond) }

// windowLateMax bounds how much longer a window lasts that saw no append finish.
const windowLateMax = 30 * time.Second

// pollEvery is how often a turn looks at its disk use. Looking allocates, so it
// begins only once the payloads alone are a pollFraction-th of the budget: no log
// needs that many times its payload.
const (
	pollEvery    = 100 * time.Millisecond
	pollFraction = 8
)

// errDiskBudget ends a window early. It is no failure: the figures are rates.
var errDiskBudget = errors.New("disk budget used up")

// takeTurn measures one contender once, in a directory that is gone afterwards.
func takeTurn(ctx context.Context, c contender, cl cell, dir string, t timing) (f figures, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return figures{}, err
	}
	defer func() { err = errors.Join(err, discard(dir)) }()
	runtime.GC() // what the contender before left is not this one's to collect

	l, err := c.open(dir, cl)
	if err != nil {
		return figures{}, fmt.Errorf("open: %w", err)
	}
	if err := settle(ctx, t); err != nil {
		return figures{}, errors.Join(err, l.Close())
	}
	m := newMeter(cl, t.written)
	finished := make(chan error, 1)
	go func() { finished <- l.run(m) }()
	err = observe(ctx, m, dir, t, finished)
	m.stop.Store(true)
	err = errors.Join(err, <-finished, l.Close())
	if err != nil {
		return figures{}, err
	}
	return m.figures(cl)
}

// settle waits until nothing was written for quietFor: what a log prepares in the
// background when it is opened is no part of its steady state. On a machine that
// writes all the time it gives up after twice the turn's length, at most two seconds.
func settle(ctx context.Context, t timing) error {
	before, err := t.written.read()
	if err != nil {
		return err
	}
	quiet := time.Duration(0)
	for waited := time.Duration(0); quiet < quietFor && waited < min(2*t.seconds, 2*time.Second); waited += quietStep {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(quietStep):
		}
		now, err := t.written.read()
		if err != nil {
			return err
		}
		if quiet += quietStep; now != before {
			quiet, before = 0, now
		}
	}
	return nil
}

const (
	quietFor  = 50 * time.Millisecond
	quietStep = 10 * time.Millisecond
)

// observe lets the load warm up, then measures it. A load that returns early has
// failed; its error stays in finished for the caller.
func observe(ctx context.Context, m *meter, dir string, t timing, finished chan error) error {
	if err := pause(ctx, m, dir, t.warmUp(), t.diskBytes, finished); err != nil && !errors.Is(err, errDiskBudget) {
		return err
	}
	profiled, err := t.startProfile()
	if err != nil {
		return err
	}
	defer profiled()
	if err := m.begin(); err != nil {
		return err
	}
	if err := pause(ctx, m, dir, t.seconds, t.diskBytes, finished); err != nil && !errors.Is(err, errDiskBudget) {
		return err
	}
	// A window shorter than a slow log's sync lasts until that sync is there.
	for late := time.Duration(0); !m.sampled.Load() && late < windowLateMax; late += pollEvery {
		if err := pause(ctx, m, dir, pollEvery, t.diskBytes, finished); err != nil {
			return err
		}
	}
	return m.end()
}

// startProfile begins the CPU profile, if one is wanted, and returns what ends it.
func (t timing) startProfile() (end func(), err error) {
	if t.profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(t.profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// pause waits for d, for the context, for the load's early end, or until dir holds
// more than budget bytes.
func pause(ctx context.Context, m *meter, dir string, d time.Duration, budget int64, finished chan error) error {
	end := time.NewTimer(d)
	defer end.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-finished:
			finished <- err
			return errors.New("the load ended early")
		case <-end.C:
			return nil
		case <-poll.C:
			if int64(m.ops())*int64(m.payload) < budget/pollFraction {
				continue
			}
			if used, err := diskUse(dir); err != nil || used > budget {
				return errors.Join(err, errDiskBudget)
			}
		}
	}
}

// diskUse returns the bytes allocated to the files below dir. Files that vanish
// meanwhile count nothing.
func diskUse(dir string) (int64, error) {
	var used int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			used += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return used, err
}

// discard removes dir and lets the file system settle, so that the next contender
// does not pay for it.
func discard(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Syncfs(int(parent.Fd()))
}
