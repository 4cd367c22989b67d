package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// config is the command line.
type config struct {
	dir        string
	rounds     int
	seconds    float64
	minutes    float64
	cells      string
	peers      string
	diskMiB    int64
	segmentMiB int64
	profiles   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command, args := run, os.Args[1:]
	if len(args) > 0 && args[0] == "read" {
		command, args = runReads, args[1:]
	}
	err := command(ctx, args, os.Stdout, os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted: cells that were complete are above, the directory is clean")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.dir, "dir", "", "directory on the disk to measure (required); a temporary directory is made in it")
	f.IntVar(&c.rounds, "rounds", 5, "rounds per cell, at least 1; figures are medians over them")
	f.Float64Var(&c.seconds, "seconds", 0, "measured time of one turn, 0.01 to 600; 0: what fits into --minutes, 0.1 to 1")
	f.Float64Var(&c.minutes, "minutes", 15, "how long the whole run may take, where --seconds is 0")
	f.StringVar(&c.cells, "cells", "", "cells to run, comma-separated globs of PAYLOADxINFLIGHT, such as 128x64,1024x*; empty: all")
	f.StringVar(&c.peers, "peers", "", "logs to run, comma-separated globs; the device's limits always run; empty: all")
	f.Int64Var(&c.diskMiB, "disk-mib", 1536, "disk use at which a turn ends early, 64 or more")
	f.Int64Var(&c.segmentMiB, "segment-mib", 0, "segment size of the hot log; 0: its default")
	f.StringVar(&c.profiles, "profiles", "", "directory for a CPU profile of each turn's measured window; empty: none")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	return c, errors.Join(c.validate(), unexpected(f.Args()))
}

func unexpected(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unexpected argument %q", args[0])
}

func (c config) validate() error {
	var errs []error
	if c.dir == "" {
		errs = append(errs, errors.New("--dir is required: a directory on the disk to measure"))
	}
	if c.rounds < 1 {
		errs = append(errs, fmt.Errorf("--rounds %d: want at least 1", c.rounds))
	}
	if c.seconds != 0 && !(c.seconds >= 0.01 && c.seconds <= 600) {
		errs = append(errs, fmt.Errorf("--seconds %v: want 0.01 to 600, or 0", c.seconds))
	}
	if !(c.minutes > 0) {
		errs = append(errs, fmt.Errorf("--minutes %v: want more than 0", c.minutes))
	}
	if c.diskMiB < 64 {
		errs = append(errs, fmt.Errorf("--disk-mib %d: want 64 or more", c.diskMiB))
	}
	if c.segmentMiB < 0 {
		errs = append(errs, fmt.Errorf("--segment-mib %d: want 0 or more", c.segmentMiB))
	}
	return errors.Join(errs...)
}

// run measures what args ask for. Lines go to stdout as each cell is complete,
// everything else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	cells, err := selectCells(c.cells)
	if err != nil {
		return err
	}
	peers, err := selectBy(allPeers(ctx, c.segmentMiB<<20), c.peers, "peer", func(p peer) string { return p.name })
	if err != nil {
		return err
	}
	if err := checkFileSystem(c.dir, c.diskMiB<<20); err != nil {
		return err
	}
	if err := machineFacts(stderr, c.dir); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "bench-hotlog-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return measure(ctx, c, cells, peers, dir, stdout, stderr)
}

// measure verifies the peers, then runs cell after cell. An error of a contender does
// not stop the others, but the run ends with it.
func measure(ctx context.Context, c config, cells []cell, peers []peer, dir string, stdout, stderr io.Writer) error {
	peers, failed, err := verified(ctx, peers, dir, stderr)
	if err != nil {
		return err
	}
	dev, err := newDevice(dir)
	if err != nil {
		return err
	}
	written, err := newCounter(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "write amp    from %s\n", written.file)
	turnDir := filepath.Join(dir, "turn")
	t := timing{seconds: time.Duration(c.seconds * float64(time.Second)), diskBytes: c.diskMiB << 20, written: written}
	start := time.Now()
	left := budget{deadline: start.Add(time.Duration(c.minutes * float64(time.Minute))), overhead: overheadGuess}
	for _, cl := range cells {
		left.turns += len(contenders(cl, dev, peers)) * c.rounds
	}
	window := func(now time.Time) time.Duration {
		if c.seconds != 0 {
			return t.seconds
		}
		return left.window(now)
	}
	announce(stderr, len(cells), left.turns, window(start), left.overhead)
	for _, cl := range cells {
		began := time.Now()
		t.seconds = window(began)
		all, err := runCell(ctx, contenders(cl, dev, peers), c.rounds, func(ct contender) (figures, error) {
			t := t
			if c.profiles != "" {
				t.profile = filepath.Join(c.profiles, fmt.Sprintf("%v-%s-%s.pprof", cl, ct.peer, ct.api))
			}
			return takeTurn(ctx, ct, cl, turnDir, t)
		})
		if err != nil {
			return err
		}
		left.spent(len(all)*c.rounds, t.seconds, time.Since(began))
		ls := lines(cl, all)
		if err := errors.Join(writeJSON(stdout, ls), writeTable(stderr, cl, ls)); err != nil {
			return err
		}
		for _, s := range all {
			if s.err != nil {
				err := fmt.Errorf("%s (%s) in cell %v: %w", s.peer, s.api, cl, s.err)
				fmt.Fprintln(stderr, "failed:", err)
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

// verified returns the peers that gave back what they acknowledged, and an error for
// each that did not: it is excluded.
func verified(ctx context.Context, peers []peer, dir string, stderr io.Writer) (kept []peer, failed []error, err error) {
	for _, p := range peers {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err := verify(p, filepath.Join(dir, "verify")); err != nil {
			failed = append(failed, fmt.Errorf("%s is excluded, it did not give back what it acknowledged: %w", p.name, err))
			fmt.Fprintln(stderr, "excluded:", failed[len(failed)-1])
			continue
		}
		kept = append(kept, p)
	}
	fmt.Fprintf(stderr, "verified     %d of %d logs gave back %d entries after a reopen\n", len(kept), len(peers), verifyEntries)
	return slices.Clip(kept), failed, nil
}
