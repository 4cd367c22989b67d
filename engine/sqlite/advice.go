package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
)

// PausedError: a transaction gave up waiting before it wrote anything, because the log service advised
// to wait until the page servers have caught up. It wraps logcore.ErrOverloaded; SQLite is told
// SQLITE_BUSY, or SQLITE_INTERRUPT when the application gave up.
type PausedError struct {
	Log     string
	Advised time.Duration
	Waited  time.Duration
	cause   error
}

// Error says how long it was to be.
func (e *PausedError) Error() string {
	return fmt.Sprintf("sqlite: log %q: the page servers are behind, a pause of %v was advised, the wait ended after %v: %v", e.Log, e.Advised, e.Waited.Round(time.Millisecond), e.cause)
}

// Unwrap makes errors.Is find both what it is and why the wait ended.
func (e *PausedError) Unwrap() []error { return []error{logcore.ErrOverloaded, e.cause} }

// heed waits, before a transaction begins to write, as long as the log service advised with the last
// acknowledgement, at most Options.PauseMax. What has passed since then counts, so that who writes
// seldom does not wait. Readers go on meanwhile. The advice is no condition: when the wait is over the
// transaction writes.
func (db *Database) heed(ctx context.Context) error {
	db.mu.Lock()
	writer, since := db.writer, db.acknowledged
	db.mu.Unlock()
	if writer == nil || since.IsZero() || db.opts.PauseMax < 0 {
		return nil
	}
	advised := writer.AdvisedPause()
	rest := min(advised, db.opts.PauseMax) - time.Since(since)
	if rest <= 0 {
		return nil
	}
	began := time.Now()
	pause(ctx, rest)
	waited := time.Since(began)
	db.metrics.pauses.Inc()
	db.metrics.paused.Add(waited.Seconds())
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return &PausedError{Log: db.opts.Log, Advised: advised, Waited: waited, cause: err}
	}
	return nil
}
