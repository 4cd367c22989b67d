package replbench

import (
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	payloadBytes = 128
	inflightMax  = 256
	manyLogs     = 1000
)

// Options of a run.
type Options struct {
	// Dir is on the disk to be measured; a directory is made in it and removed at the end.
	Dir string
	// Bin holds the binaries logsvc and logcore.
	Bin string
	// Echo is the command that serves the echo: a program and its arguments.
	Echo []string
	// Rounds of each cell, 5 or more for a claim; Turn is the measured time of a turn. Kills of the leader; 0: that
	// cell is left out.
	Rounds int
	Turn   time.Duration
	Kills  int
	// Cells to run; none: all. See Cells.
	Cells []string
	// Figures gets JSON lines, Log what people read.
	Figures, Log io.Writer
}

// Cells are the names of the cells, in the order they are run.
var Cells = []string{"one-member", "one-inflight", "many-logs", "three-inflight-1", "three-inflight-256", "leader-kill"}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("bench: "+format, args...)) }
	if o.Dir == "" || o.Bin == "" || len(o.Echo) == 0 {
		bad("Dir, Bin and Echo are required")
	}
	if o.Rounds < 1 || o.Turn <= 0 || o.Kills < 0 {
		bad("%d rounds of %v and %d kills: want at least one round of some time", o.Rounds, o.Turn, o.Kills)
	}
	for _, c := range o.Cells {
		if !known(c) {
			bad("no cell %q: want some of %v", c, Cells)
		}
	}
	return errors.Join(errs...)
}

func known(cell string) bool {
	for _, c := range Cells {
		if c == cell {
			return true
		}
	}
	return false
}

func (o Options) runs(cell string) bool {
	for _, c := range o.Cells {
		if c == cell {
			return true
		}
	}
	return len(o.Cells) == 0
}

// expected is how long the run takes, about.
func (o Options) expected() time.Duration {
	turns := map[string]int{"one-member": 2, "one-inflight": 3, "many-logs": 2, "three-inflight-1": 4, "three-inflight-256": 3}
	var d time.Duration
	for _, c := range Cells {
		switch {
		case !o.runs(c):
		case c == "leader-kill":
			d += time.Duration(o.Kills) * killEvery
		default:
			d += time.Duration(o.Rounds*turns[c]) * (o.Turn*5/4 + 500*time.Millisecond)
		}
	}
	return d + 10*time.Second
}
