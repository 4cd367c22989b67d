package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
)

// ErrRestored: the log service was restored, or begun anew, while the Database was
// open. LSNs that were given out before may be given out again for something else, so
// nothing that the Database knows may be used.
var ErrRestored = errors.New("sqlite: the log service was restored to an earlier state meanwhile")

// confirmEvery is how old the writer's knowledge may be that it is still the writer, of
// the log that it opened, when a transaction begins or commits. Only a restore of the
// service, or a fencing that the lease's renewal has not noticed yet, needs it.
const confirmEvery = time.Second

// end asks where the log ends and makes sure that it is still the log that the
// Database was opened on, and that nobody has fenced its writer.
func (db *Database) end(ctx context.Context) (End, error) {
	asked := time.Now()
	end, err := db.opts.Source.End(ctx)
	db.mu.Lock()
	known := db.incarnation
	if err == nil && known == 0 {
		known = end.Incarnation
		db.incarnation = known
	}
	writer := db.writer
	db.mu.Unlock()
	switch {
	case known != 0 && (err == nil && end.Incarnation != known || errors.Is(err, logcore.ErrLogNotFound)):
		return End{}, db.poisoned(fmt.Errorf("%w: log %q", ErrRestored, db.opts.Log))
	case err != nil:
		return End{}, fmt.Errorf("sqlite: log %q: where it ends: %w", db.opts.Log, err)
	case writer != nil && end.Epoch > writer.Epoch():
		return End{}, db.poisoned(fmt.Errorf("sqlite: log %q: %w: epoch %d, granted was %d", db.opts.Log, logcore.ErrFenced, end.Epoch, writer.Epoch()))
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.confirmed = asked
	return end, nil
}

// sameLog makes sure that what a page server answered comes from the log that the
// Database was opened on: the log service has the incarnation that the answer names. Only
// when it is another one than the Database knows is the log service asked.
func (db *Database) sameLog(ctx context.Context, answered uint64) error {
	db.mu.Lock()
	known, poison := db.incarnation, db.poison
	db.mu.Unlock()
	if poison != nil {
		return poison
	}
	if known == answered && known != 0 {
		return nil
	}
	end, err := db.end(ctx)
	if err != nil {
		return err
	}
	if end.Incarnation != answered {
		return fmt.Errorf("sqlite: log %q: %w: the page server still has the log as it was before the log service was restored", db.opts.Log, logcore.ErrOverloaded)
	}
	return nil
}

// confirm fails, for good, when this process is not the log's writer any more. It asks
// the service when it has not for confirmEvery.
func (db *Database) confirm(ctx context.Context) error {
	db.mu.Lock()
	writer, fresh, err := db.writer, time.Since(db.confirmed) < confirmEvery, db.poison
	db.mu.Unlock()
	if err != nil {
		return err
	}
	if err := writer.Err(); err != nil {
		return db.poisoned(fmt.Errorf("sqlite: log %q: %w", db.opts.Log, err))
	}
	if fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.opts.ReadTimeout)
	defer cancel()
	_, err = db.end(ctx)
	return err
}
