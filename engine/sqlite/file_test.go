package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
)

// TestFileAgainstBytes drives the file as SQLite may, and as it never does (partial
// blocks, holes, shrinking and growing in one transaction, new page sizes), beside a
// plain slice of bytes; what is committed must also come out of a replay of the log.
func TestFileAgainstBytes(t *testing.T) {
	for seed := range uint64(runs(t, "LOGCORE_SEEDS", 10) * 6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r := &fileRun{t: t, rng: rng, m: newModel(), pageSize: 512 << rng.IntN(3)}
		r.m.entryMax = []int{66_000, 16 << 20}[rng.IntN(2)]
		r.open()
		for range 120 {
			r.step()
		}
		r.reopen()
	}
}

type fileRun struct {
	t        *testing.T
	rng      *rand.Rand
	m        *model
	db       *Database
	f        *file
	now      []byte // as the transaction sees it
	base     []byte // as committed
	pageSize int
}

func (r *fileRun) open() {
	db, err := Open(r.t.Context(), Options{Log: "f", Source: r.m, CacheBytes: []int64{1, 5000, 1 << 20}[r.rng.IntN(3)], Logger: quiet})
	if err != nil {
		r.t.Fatal(err)
	}
	r.db = db
	if r.f, err = db.openFile(); err != nil {
		r.t.Fatal(err)
	}
	r.lock()
}

func (r *fileRun) lock() {
	for _, level := range []vfs.LockLevel{vfs.LOCK_SHARED, vfs.LOCK_RESERVED, vfs.LOCK_EXCLUSIVE} {
		if err := r.f.Lock(level); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *fileRun) reopen() {
	r.f.Close()
	if err := r.db.Close(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.now = bytes.Clone(r.base)
	r.open()
	r.compare()
}

func (r *fileRun) step() {
	pages := len(r.now) / r.pageSize
	switch k := r.rng.IntN(20); {
	case k < 8 || len(r.now) == 0:
		r.write(r.rng.IntN(pages+4)*r.pageSize, r.random(r.pageSize))
	case k < 10: // a part of a block, or across two
		r.write(r.rng.IntN(len(r.now)), r.random(1+r.rng.IntN(min(r.pageSize*3/2, 1000))))
	case k < 13:
		r.truncate(r.rng.IntN(pages+3) * r.pageSize)
	case k < 17:
		r.end()
	case k < 18:
		r.now = bytes.Clone(r.base)
		r.f.Unlock(vfs.LOCK_NONE)
		r.lock()
	case k < 19:
		r.pageSize = 512 << r.rng.IntN(3)
		r.truncate(len(r.now) / r.pageSize * r.pageSize)
	default:
		r.reopen()
	}
	r.compare()
}

func (r *fileRun) random(n int) []byte {
	b := make([]byte, n)
	if r.rng.IntN(4) > 0 {
		copy(b, r.now[:min(n, len(r.now))]) // mostly like what is there, so that deltas come about
	}
	for range 1 + r.rng.IntN(20) {
		b[r.rng.IntN(n)] = byte(r.rng.Uint32())
	}
	return b
}

func (r *fileRun) write(off int, b []byte) {
	if n, err := r.f.WriteAt(b, int64(off)); n != len(b) || err != nil {
		r.t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(b), off, n, err)
	}
	if grow := off + len(b) - len(r.now); grow > 0 {
		r.now = append(r.now, make([]byte, grow)...)
	}
	copy(r.now[off:], b)
}

func (r *fileRun) truncate(size int) {
	if err := r.f.Truncate(int64(size)); err != nil {
		r.t.Fatal(err)
	}
	if size <= len(r.now) {
		r.now = r.now[:size:size]
	} else {
		r.now = append(r.now, make([]byte, size-len(r.now))...)
	}
}

// end makes the file one that may be committed, and commits it.
func (r *fileRun) end() {
	if rest := len(r.now) % r.pageSize; rest != 0 {
		r.truncate(len(r.now) - rest)
	}
	if len(r.now) > 0 {
		header := bytes.Clone(r.now[:headerBytes])
		binary.BigEndian.PutUint16(header[headerPageSize:], uint16(r.pageSize))
		header[headerWriteVersion], header[headerReadVersion] = 1, 1
		r.write(0, header)
	}
	if err := r.f.CommitPhaseTwo(); err != nil {
		r.t.Fatal(err)
	}
	r.f.Unlock(vfs.LOCK_SHARED)
	r.lock()
	r.base = bytes.Clone(r.now)
	r.replay()
}

// replay compares what is committed with what the log says.
func (r *fileRun) replay() {
	if len(r.m.txs) == 0 {
		return
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	f, err := r.m.at(r.m.last)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []byte
	for no := range f.length {
		page := make([]byte, f.pageSize)
		copy(page, f.pages[no])
		all = append(all, page...)
	}
	if !bytes.Equal(all, r.base) {
		r.t.Fatalf("the log replays to %d bytes that differ from the %d committed", len(all), len(r.base))
	}
}

func (r *fileRun) compare() {
	if size, err := r.f.Size(); err != nil || size != int64(len(r.now)) {
		r.t.Fatalf("Size() = %d, %v; want %d", size, err, len(r.now))
	}
	got := make([]byte, len(r.now)+10)
	if n, err := r.f.ReadAt(got, 0); n != len(r.now) || !errors.Is(err, io.EOF) {
		r.t.Fatalf("ReadAt = %d, %v; want %d, EOF", n, err, len(r.now))
	}
	if !bytes.Equal(got[:len(r.now)], r.now) {
		r.t.Fatal("content differs")
	}
}

func TestFileRefusesToCommitWhatIsNotSQLite(t *testing.T) {
	r := &fileRun{t: t, rng: rand.New(rand.NewPCG(1, 1)), m: newModel(), pageSize: 512}
	r.open()
	r.write(0, make([]byte, 512))
	if err := r.f.CommitPhaseTwo(); err == nil || len(r.m.txs) != 0 {
		t.Fatalf("a page of zeros was committed: %v", err)
	}
	if size, err := r.f.Size(); err != nil || size != 0 {
		t.Fatalf("afterwards the file has %d bytes, %v", size, err)
	}
	empty := &fileRun{t: t, rng: r.rng, m: newModel(), pageSize: 512}
	empty.open()
	if _, err := empty.f.WriteAt(make([]byte, 100), 0); err == nil {
		t.Fatal("an empty file took a first write that is no page")
	}
}

// What is left of a transaction after a write that failed must not commit.
func TestFileDoesNotCommitAfterAFailedWrite(t *testing.T) {
	r := &fileRun{t: t, rng: rand.New(rand.NewPCG(1, 1)), m: newModel(), pageSize: 512}
	r.open()
	r.db.opts.TxBytesMax = 1024
	r.write(0, r.random(512))
	r.write(512, r.random(512))
	if _, err := r.f.WriteAt(r.random(512), 1024); err == nil {
		t.Fatal("a write beyond TxBytesMax")
	}
	if err := r.f.CommitPhaseTwo(); err == nil || len(r.m.txs) != 0 {
		t.Fatalf("committed: %v", err)
	}
	if size, err := r.f.Size(); err != nil || size != 0 {
		t.Fatalf("afterwards the file has %d bytes, %v", size, err)
	}
	r.f.Unlock(vfs.LOCK_SHARED)
	r.lock()
	r.now = nil
	r.write(0, r.random(512))
	r.end()
	r.compare()
}

func TestFileNeedsALock(t *testing.T) {
	db, err := Open(t.Context(), Options{Log: "f", Source: newModel()})
	if err != nil {
		t.Fatal(err)
	}
	f, err := db.openFile()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 512), 0); err == nil {
		t.Error("a write without a lock")
	}
	if err := f.Truncate(512); err == nil {
		t.Error("a truncation without a lock")
	}
	if f.LockState() != vfs.LOCK_NONE {
		t.Error("a lock from nowhere")
	}
}

// A writer that was granted its epoch while the page server was behind must not be
// lost, nor may it work on a base that is not the log's end.
func TestWriterWaitsForThePageServer(t *testing.T) {
	m := newModel()
	a := open(t, Options{Source: m})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	b := open(t, Options{Source: m, BusyTimeout: time.Millisecond})
	query(t, b.conn, `SELECT * FROM t`)
	m.lagging = true
	a.exec(t, `INSERT INTO t VALUES (2)`)
	a.close()
	err := b.try(`INSERT INTO t VALUES (3)`)
	if !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Fatalf("writing while the page server is behind: %v", err)
	}
	m.catchUp()
	b.exec(t, `INSERT INTO t VALUES (3)`)
	if got := query(t, b.conn, `SELECT * FROM t`); got != "1\n2\n3" {
		t.Fatalf("content %q", got)
	}
	// The same when the lag shows only once the epoch is granted.
	m.lagging = true
	b.exec(t, `INSERT INTO t VALUES (4)`)
	b.close()
	if _, err := tryOpen(Options{Source: m, WriteNow: true, Logger: quiet}); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Fatalf("WriteNow while the page server is behind: %v", err)
	}
	if m.active {
		t.Fatal("the failed Open kept the epoch's lease")
	}
	m.catchUp()
	c := open(t, Options{Source: m, WriteNow: true})
	if got := query(t, c.conn, `SELECT count(*) FROM t`); got != "4" {
		t.Fatalf("%s rows", got)
	}
}

func TestWriterGrantedBeforeThePageServerFollowed(t *testing.T) {
	m := newModel()
	b := open(t, Options{Source: m})
	a := open(t, Options{Source: m})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	b.exec(t, `BEGIN`)
	query(t, b.conn, `SELECT * FROM t`)
	m.lagging = true
	a.exec(t, `INSERT INTO t VALUES (2)`)
	a.close()
	// b's transaction has its snapshot; the epoch is granted, its base is not there yet.
	err := b.try(`INSERT INTO t VALUES (3)`)
	if !errors.Is(err, logcore.ErrLSNInFuture) || !errors.Is(err, sqlite3.BUSY) || b.conn.GetAutocommit() {
		t.Fatalf("writing while the page server is behind: %v", err)
	}
	m.catchUp()
	if err := b.try(`INSERT INTO t VALUES (3)`); !errors.Is(err, sqlite3.BUSY_SNAPSHOT) {
		t.Fatalf("writing on the old snapshot: %v", err)
	}
	b.exec(t, `ROLLBACK; INSERT INTO t VALUES (3)`)
	if got := query(t, b.conn, `SELECT * FROM t`); got != "1\n2\n3" || m.epoch != 2 {
		t.Fatalf("content %q, epoch %d", got, m.epoch)
	}
}

func TestOpenRefusesWhatIsNotSQLite(t *testing.T) {
	m := newModel()
	w, err := m.OpenWriter(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := pages.Encode([]engine.Record{{Op: engine.OpImage, PageSize: 100, Data: make([]byte, 100)}}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.AppendTx(t.Context(), logcore.NewTxID(), parts, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(Options{Source: m, ReadOnly: true}); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("a log with pages of 100 bytes: %v", err)
	}
}
