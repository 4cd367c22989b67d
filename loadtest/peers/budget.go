package main

import (
	"fmt"
	"io"
	"time"
)

// budget spreads the time that a run may take over its turns. What a turn costs beside its
// window and its warm-up (open, settle, drain, close, remove) is learned on the way, so
// that the run ends in time on a slow disk too.
type budget struct {
	deadline time.Time
	turns    int           // left
	overhead time.Duration // of a turn
}

const (
	overheadGuess = 400 * time.Millisecond
	windowMin     = 100 * time.Millisecond
	windowMax     = time.Second
)

// window returns how long the windows of the next cell last.
func (b *budget) window(now time.Time) time.Duration {
	if b.turns == 0 {
		return windowMin
	}
	each := b.deadline.Sub(now)/time.Duration(b.turns) - b.overhead
	return min(max(each*4/5, windowMin), windowMax) // the warm-up is a quarter of it
}

// spent takes in a cell: turns with that window took so long.
func (b *budget) spent(turns int, window, took time.Duration) {
	b.turns -= turns
	if turns > 0 {
		b.overhead = max(took/time.Duration(turns)-window*5/4, 0)
	}
}

// announce says what is to come.
func announce(w io.Writer, cells, turns int, window, overhead time.Duration) {
	total := time.Duration(turns) * (window*5/4 + overhead)
	fmt.Fprintf(w, "duration     about %v: %d cells, %d turns, windows of %v\n", total.Round(time.Second), cells, turns, window.Round(time.Millisecond))
}
