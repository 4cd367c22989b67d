package tiering

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

func TestComplaints(t *testing.T) {
	c, now := complaints{}, time.Unix(1000, 0)
	same, other := errors.New("same"), errors.New("other")
	said := 0
	for range 3600 { // an hour, every second
		if c.worth("duty", same, now) {
			said++
		}
		now = now.Add(time.Second)
	}
	if said != 6 {
		t.Errorf("said %d times in an hour, want every ten minutes", said)
	}
	now = now.Add(time.Minute)
	if !c.worth("duty", other, now) || c.worth("duty", same, now) {
		t.Error("a change is said once a minute")
	}
	if !c.worth("another", same, now) {
		t.Error("one duty silences another")
	}
	if !c.over("duty") || c.over("duty") || !c.worth("duty", same, now) {
		t.Error("after it was well, the next failure is news")
	}
}

// lockedText is a log that can be read while it is written.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// A target that is lost is said to be so once, not in every round, and so is its return.
func TestALostTargetIsSaidOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 43)
	var log lockedText
	w.change = func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
	a := w.start(nil)
	w.hot.append(2, 100)
	a.flushAll()
	w.faults[0].Down()
	w.hot.append(1, 100)
	a.flushAll()
	a.until("it is left alone", func() bool { return a.all()[0].state() == BreakerOpen })
	for probes := range 2 { // it is tried again, in vain, and left alone again
		before := w.faults[0].Count(bucket.OpAny)
		w.hot.append(1, 100)
		a.flushAll()
		a.until(fmt.Sprintf("probe %d", probes), func() bool { return w.faults[0].Count(bucket.OpAny) > before })
		a.until("it is left alone", func() bool { return a.all()[0].state() == BreakerOpen })
	}
	if n := log.count("bring targets up to date"); n > 2 {
		t.Errorf("it was said %d times that a target can't be brought up to date", n)
	}
	if n := log.count("level=WARN"); n == 0 || n > 10 {
		t.Errorf("%d warnings about one lost target:\n%s", n, log.b.String())
	}
}
