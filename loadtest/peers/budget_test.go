package main

import (
	"testing"
	"time"
)

// A run of 900 turns ends within its 15 minutes when turns cost more than was thought, and
// windows are shorter then.
func TestBudget(t *testing.T) {
	now := time.Unix(0, 0)
	b := budget{deadline: now.Add(15 * time.Minute), turns: 900, overhead: overheadGuess}
	first := b.window(now)
	last := first
	for range 12 {
		last = b.window(now)
		took := 75 * (last*5/4 + 600*time.Millisecond)
		now = now.Add(took)
		b.spent(75, last, took)
	}
	if b.turns != 0 || now.After(b.deadline.Add(time.Second)) || last >= first || last < windowMin {
		t.Errorf("%d turns left, ended %v late, windows of %v, then %v", b.turns, now.Sub(b.deadline), first, last)
	}
	if w := (&budget{deadline: now.Add(time.Hour), turns: 1}).window(now); w != windowMax {
		t.Errorf("with time to spare windows of %v", w)
	}
	if w := (&budget{deadline: now, turns: 9}).window(now); w != windowMin {
		t.Errorf("behind the deadline windows of %v", w)
	}
}
