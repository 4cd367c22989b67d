package tiering

import (
	"testing"
	"time"
)

func TestArchiveAndReadBack(t *testing.T) {
	w := newWorld(t, 1)
	a := w.start(nil)
	for round := range 5 {
		w.hot.append(10+round, 5000)
		a.flushAll()
		if round%2 == 1 {
			w.hot.seal()
		}
	}
	a.until("two segments trimmed", func() bool { return a.Status().TrimmedUpTo >= 40 })
	if got, want := a.Covered(), w.hot.Committed(); got != want {
		t.Fatalf("covered %d, committed %d", got, want)
	}
	w.mustCheck(a.Covered())
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
}

// Without any Flush the tail is covered on its own, and tails are folded into sealed
// objects.
func TestTailIsArchivedInTimeAndFolded(t *testing.T) {
	w := newWorld(t, 2)
	a := w.start(nil)
	for range 3 {
		w.hot.append(3, 100)
		a.until("the tail is covered", func() bool { return a.Covered() == w.hot.Committed() })
	}
	if n := a.Status().Objects; n != 3 {
		t.Fatalf("%d tails, want 3", n)
	}
	w.hot.seal()
	a.settled()
	if n := a.Status().Objects; n != 1 {
		t.Fatalf("%d objects after folding, want 1", n)
	}
	w.mustCheck(w.hot.Committed())
	if st := a.Status(); st.RPO == 0 || st.Lag != 0 || st.RPO > 10*time.Second {
		t.Fatalf("status %+v", st)
	}
}
