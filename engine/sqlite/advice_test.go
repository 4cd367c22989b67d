package sqlite

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore"
)

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func (m *model) advise(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advised = d
}

// TestAdviceIsHeeded: a writer that is told to wait does, at most for PauseMax; then it writes.
func TestAdviceIsHeeded(t *testing.T) {
	m := newModel()
	m.advise(time.Hour) // not for who has not written yet
	h := open(t, Options{Source: m, Logger: quiet, PauseMax: 20 * time.Millisecond})
	h.exec(t, "CREATE TABLE t(x)")
	if n := counted(t, h.db.metrics.pauses); n != 0 {
		t.Errorf("%v pauses before anything was acknowledged", n)
	}
	for range 5 { // in a row: one that is late by itself need not wait
		h.exec(t, "INSERT INTO t VALUES (1)")
	}
	if n, s := counted(t, h.db.metrics.pauses), counted(t, h.db.metrics.paused); n == 0 || s == 0 {
		t.Errorf("%v pauses of %v s", n, s)
	}
	if got := query(t, h.conn, "SELECT count(*) FROM t"); got != "5" {
		t.Errorf("%s rows", got)
	}
	m.advise(0)
	before := counted(t, h.db.metrics.pauses)
	h.exec(t, "INSERT INTO t VALUES (1)")
	if n := counted(t, h.db.metrics.pauses); n != before {
		t.Errorf("%v pauses without advice", n-before)
	}
}

// TestAdviceIsNeverHeeded: where it is switched off.
func TestAdviceIsNeverHeeded(t *testing.T) {
	m := newModel()
	m.advise(time.Hour)
	h := open(t, Options{Source: m, Logger: quiet, PauseMax: -1})
	h.exec(t, "CREATE TABLE t(x); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
	if n := counted(t, h.db.metrics.pauses); n != 0 {
		t.Errorf("%v pauses", n)
	}
}

// TestPauseIsInterrupted: who gives up waiting is told why, nothing was written, and readers are not
// held up meanwhile.
func TestPauseIsInterrupted(t *testing.T) {
	m := newModel()
	h := open(t, Options{Source: m, Logger: quiet, PauseMax: time.Hour, ReadTimeout: time.Hour})
	h.exec(t, "CREATE TABLE t(x)")
	m.advise(time.Hour)
	appends := m.appends
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	old := h.conn.SetInterrupt(ctx)
	failed := make(chan error, 1)
	go func() { failed <- h.try("INSERT INTO t VALUES (1)") }()
	reader, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) { // until it holds the lock, and waits
		h.db.mu.Lock()
		waits := h.db.reserved != nil
		h.db.mu.Unlock()
		if waits {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("it does not begin")
		}
	}
	if got := query(t, reader, "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("a reader meanwhile: %s", got)
	}
	cancel()
	err = <-failed
	var paused *PausedError
	if !errors.As(err, &paused) || paused.Advised != time.Hour || !errors.Is(err, logcore.ErrOverloaded) || !errors.Is(err, sqlite3.INTERRUPT) {
		t.Errorf("interrupted: %v", err)
	}
	if m.appends != appends {
		t.Error("something was written")
	}
	h.conn.SetInterrupt(old)
	m.advise(0)
	h.exec(t, "INSERT INTO t VALUES (2)")
	if got := query(t, h.conn, "SELECT x FROM t"); got != "2" {
		t.Errorf("afterwards: %s", got)
	}
}
