package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
)

// Space is the page file that the database is in its log.
var Space = engine.SpaceOf(0)

// Commit is one committed transaction.
type Commit struct {
	Tx   logcore.TxID
	LSN  logcore.LSN
	Time logcore.HLC
}

// commit appends what the transaction of f wrote. f holds the EXCLUSIVE lock, so
// nobody else in the process reads or writes.
func (db *Database) commit(f *file) error {
	db.mu.Lock()
	writer, err := db.writer, db.poison
	db.mu.Unlock()
	if err != nil {
		return err
	}
	ch, err := f.changes()
	if err != nil || len(ch.records) == 0 {
		return err
	}
	if err := db.confirm(db.ctx); err != nil {
		return err
	}
	parts, err := pages.Encode(ch.records, writer.EntryBytesMax())
	if err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(db.ctx, db.opts.CommitTimeout)
	defer cancel()
	tx := logcore.NewTxID()
	// Commit point: once this returns, the transaction is durable.
	lsn, at, err := writer.AppendTx(ctx, tx, parts, ch.position())
	if err != nil {
		err = fmt.Errorf("sqlite: log %q: commit: %w", db.opts.Log, err)
		if writer.Err() != nil {
			err = db.poisoned(err)
		}
		db.metrics.failures.Inc()
		return err
	}
	db.metrics.commits.Observe(time.Since(began).Seconds())
	f.view = db.committed(ch, Commit{Tx: tx, LSN: lsn, Time: at})
	return nil
}

// committed makes a durable transaction the state that this process works on.
func (db *Database) committed(ch *changes, c Commit) *view {
	db.mu.Lock()
	defer db.mu.Unlock()
	pages := db.view.cache
	if ch.repaged {
		pages = newCache(c.LSN, db.opts.CacheBytes)
	}
	pages.advance(c.LSN, ch.cut, ch.blocks)
	for no := range ch.blocks {
		db.written[no] = c.LSN
	}
	if len(db.written) > writtenMax {
		db.written, db.writtenFloor = make(map[uint32]logcore.LSN), c.LSN
	}
	db.view = &view{snapshot: snapshot{at: c.LSN, version: c.LSN, pages: ch.pages, pageSize: ch.pageSize}, cache: pages}
	db.lastCommit, db.acknowledged = c, time.Now()
	return db.view
}

// changes is what a transaction does to the file.
type changes struct {
	records  []engine.Record
	blocks   map[uint32][]byte // new content by page number
	pages    uint32            // new length
	pageSize uint32
	cut      uint32 // content of the base is gone from here on
	repaged  bool   // the page size changed: nothing of the base is left
	counter  uint32 // SQLite's file change counter, 0 when page 0 did not change
}

// position is what SQLite calls the transaction: its file change counter, decimal;
// nothing when the transaction did not change it.
func (ch *changes) position() []byte {
	if ch.counter == 0 {
		return nil
	}
	return strconv.AppendUint(nil, uint64(ch.counter), 10)
}

// changes turns the overlay into page records: a cut first, then what was written,
// as deltas against the base where it is known, then the growth that was not written.
func (f *file) changes() (*changes, error) {
	o := f.overlay
	if err := f.dropWALMode(); err != nil {
		return nil, err
	}
	page0, err := f.page0()
	if err != nil {
		return nil, err
	}
	pageSize := filePageSize(page0)
	if o.size > 0 && pageSize == 0 {
		return nil, errors.New("sqlite: refusing to commit a file whose first page is not SQLite's")
	}
	if o.size > 0 && pageSize != o.unit {
		if o, err = f.repage(pageSize); err != nil {
			return nil, err
		}
	}
	ch := &changes{blocks: o.blocks, pageSize: uint32(o.unit), cut: o.floor, repaged: o.unit != f.overlay.unit}
	if o.unit > 0 {
		ch.pages = uint32((o.size + o.unit - 1) / o.unit)
	}
	if data, ok := o.blocks[0]; ok {
		ch.counter = binary.BigEndian.Uint32(data[headerChangeCounter:])
	}
	ch.record(f.view, o)
	return ch, nil
}

func (ch *changes) record(base *view, o *overlay) {
	length := base.pages
	add := func(r engine.Record) { ch.records = append(ch.records, r) }
	switch {
	case ch.repaged && base.pageSize != 0:
		add(engine.Record{Space: Space, Op: engine.OpDrop, PageSize: base.pageSize})
		length = 0
	case o.floor < base.pages:
		add(engine.Record{Space: Space, Op: engine.OpTruncate, Page: o.floor, PageSize: ch.pageSize})
		length = o.floor
	}
	for _, no := range o.numbers() {
		var before []byte
		if no < o.floor {
			before = base.cache.get(base.version, no)
		}
		if r, changed := pages.Change(Space, no, before, o.blocks[no]); changed {
			add(r)
			length = max(length, no+1)
		}
	}
	if length != ch.pages {
		add(engine.Record{Space: Space, Op: engine.OpTruncate, Page: ch.pages, PageSize: ch.pageSize})
	}
}

func (f *file) page0() ([]byte, error) {
	if f.overlay.size == 0 {
		return nil, nil
	}
	return f.block(f.view, 0)
}

// dropWALMode takes the write-ahead-log mark out of the header of a file that came in
// whole from elsewhere: here the log is the write-ahead log, and SQLite would not open
// a file with the mark.
func (f *file) dropWALMode() error {
	data, ok := f.overlay.blocks[0]
	if !ok || len(data) < headerBytes || data[headerWriteVersion] < 2 && data[headerReadVersion] < 2 {
		return nil
	}
	if data[headerWriteVersion] > 2 || data[headerReadVersion] > 2 {
		return errors.New("sqlite: the file's format is newer than this build of SQLite")
	}
	return f.overlay.write([]byte{1, 1}, headerWriteVersion, nil)
}

// repage returns the whole file in blocks of another size: VACUUM after a change of
// page_size writes the new file in blocks of the old size.
func (f *file) repage(pageSize int64) (*overlay, error) {
	if f.overlay.size%pageSize != 0 {
		return nil, fmt.Errorf("sqlite: file of %d bytes with pages of %d", f.overlay.size, pageSize)
	}
	o := newOverlay(snapshot{pageSize: uint32(pageSize)}, f.overlay.bytesMax)
	for off := int64(0); off < f.overlay.size; off += pageSize {
		page := make([]byte, pageSize)
		if n, err := f.readAt(page, off); err != nil {
			return nil, fmt.Errorf("sqlite: read %d bytes at %d: got %d: %w", pageSize, off, n, err)
		}
		if err := o.write(page, off, nil); err != nil {
			return nil, err
		}
	}
	return o, nil
}
