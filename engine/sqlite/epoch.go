package sqlite

import (
	"context"
	"fmt"
)

// acquire makes this process the log's writer, if it isn't, and returns the view of the
// log's end, which from then on only this process moves.
func (db *Database) acquire(ctx context.Context) (*view, error) {
	select {
	case db.acquiring <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-db.acquiring }()
	db.mu.Lock()
	writer, based, current, err := db.writer, db.based, db.view, db.poison
	db.mu.Unlock()
	if err != nil || based {
		return current, err
	}
	if writer == nil {
		if writer, err = db.openWriter(ctx); err != nil {
			return nil, err
		}
	}
	return db.base(ctx, writer)
}

func (db *Database) openWriter(ctx context.Context) (Writer, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opts.CommitTimeout)
	defer cancel()
	writer, err := db.opts.Source.OpenWriter(ctx, db.opts.Takeover)
	if err != nil {
		return nil, fmt.Errorf("sqlite: log %q: open for writing: %w", db.opts.Log, err)
	}
	db.opts.Logger.Info("sqlite: writer epoch granted", "log", db.opts.Log, "epoch", writer.Epoch(), "last_lsn", writer.LastLSN())
	db.mu.Lock()
	defer db.mu.Unlock()
	db.writer = writer
	return writer, nil
}

// base makes the log's end the current view. The epoch fences every other writer, so
// the log's last entry stays its last until we append.
func (db *Database) base(ctx context.Context, writer Writer) (*view, error) {
	// Also of a new log: from here on it is known which log service gave the epoch.
	if _, err := db.end(ctx); err != nil {
		return nil, err
	}
	var head snapshot
	if last := writer.LastLSN(); last != 0 {
		var err error
		if head, err = db.sizeAt(ctx, last); err != nil {
			return nil, err
		}
		if head.at < last {
			return nil, fmt.Errorf("sqlite: log %q: asked for the size at LSN %d, got it at %d", db.opts.Log, last, head.at)
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.setView(head)
	db.based, db.writtenFloor = true, head.version
	return db.view, nil
}
