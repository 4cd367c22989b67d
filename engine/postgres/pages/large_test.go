package pages_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/pagestest"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
	"github.com/logcore/logcore/pageserver"
)

// What a transaction of parts leads to is what its payloads lead to, one after the other.
func TestTransactionsAreTheirPayloads(t *testing.T) {
	entries := logOf(t, walsample.Consistency, newSeed(t))
	parts := 0
	one, all := pagestest.NewMemory(), pagestest.NewMemory()
	for i, e := range entries {
		parts += len(e.Payloads)
		take(t, one, e)
		if err := all.Transaction(e.Payloads); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.State, all.State) {
			t.Fatalf("entry %d: the states differ", i)
		}
	}
	if parts == len(entries) {
		t.Errorf("%d payloads in %d transactions: nothing was shown", parts, len(entries))
	}
	sameMemory(t, one, all)
}

func sameMemory(t *testing.T, one, all *pagestest.Memory) {
	t.Helper()
	if len(one.Spaces) != len(all.Spaces) || len(one.Objects) != len(all.Objects) {
		t.Fatalf("%d spaces and %d objects, want %d and %d", len(all.Spaces), len(all.Objects), len(one.Spaces), len(one.Objects))
	}
	for s, want := range one.Spaces {
		got := all.Spaces[s]
		if got == nil || len(got.Pages) != len(want.Pages) {
			t.Fatalf("space %v: %v", s, got)
		}
		for n := range want.Pages {
			if !bytes.Equal(got.Pages[n], want.Pages[n]) {
				t.Fatalf("space %v, page %d differs", s, n)
			}
		}
	}
	for k, want := range one.Objects {
		if !bytes.Equal(all.Objects[k], want) {
			t.Fatalf("object %s differs", k)
		}
	}
}

const (
	largeBytes     = 40 << 20 // more than a state may have of a record
	largePartBytes = 12 << 20
	largeSubxacts  = 100_000
	largeDropped   = 5000
	firstSubxact   = 2_000_000
	preparedXID    = 3_000_000
)

// largeRecords are the kinds that can be long: a commit with many subtransactions and relations that go, a prepared transaction, a message.
func largeRecords(t testing.TB, tail *pagestest.Tail) (transactions [][][]byte, prepared []byte) {
	t.Helper()
	add := func(m wal.Manager, info uint8, xid uint32, data []byte) {
		parts, err := tail.Record(m, info, xid, data, largePartBytes)
		if err != nil {
			t.Fatal(err)
		}
		transactions = append(transactions, parts)
	}
	subxacts, dropped := make([]uint32, largeSubxacts), make([]wal.Relation, largeDropped)
	for i := range subxacts {
		subxacts[i] = firstSubxact + uint32(i)
	}
	for i := range dropped {
		dropped[i] = wal.Relation{Tablespace: wal.TablespaceDefault, Database: 1, File: 1000 + uint32(i)}
	}
	info, data := pagestest.Commit(subxacts, dropped)
	add(wal.ManagerTransaction, info, firstSubxact-1, data)
	prepared = make([]byte, largeBytes)
	binary.LittleEndian.PutUint32(prepared[8:], preparedXID)
	copy(prepared[72:], "name\x00")
	binary.LittleEndian.PutUint16(prepared[54:], 5)
	for i := 80; i < len(prepared); i += 4096 {
		binary.LittleEndian.PutUint32(prepared[i:], uint32(i))
	}
	add(wal.ManagerTransaction, wal.TransactionPrepare, preparedXID, prepared)
	add(wal.ManagerLogicalMessage, 0, 0, make([]byte, largeBytes+123))
	info, data = pagestest.Commit(nil, nil)
	add(wal.ManagerTransaction, info, firstSubxact+largeSubxacts, data)
	return transactions, prepared
}

func withTail(t testing.TB) ([]pagestest.Entry, *pagestest.Tail) {
	t.Helper()
	entries := logOf(t, walsample.Consistency, 21)
	tail, err := pagestest.TailOf(entries)
	if err != nil {
		t.Fatal(err)
	}
	return entries, tail
}

// A record is longer than what a state may have of it: the transaction that it comes in is decoded all the same, and its payloads one by one are refused.
func TestLargeRecords(t *testing.T) {
	entries, tail := withTail(t)
	m := pagestest.NewMemory()
	for _, e := range entries {
		take(t, m, e)
	}
	transactions, prepared := largeRecords(t, tail)
	refused := 0
	for i, payloads := range transactions {
		state := m.State
		var err error
		for _, p := range payloads {
			if err == nil {
				_, state, err = pages.Decoder{}.Decode(state, p)
			}
		}
		if err != nil {
			refused++
			if !errors.Is(err, logcore.ErrTooLarge) {
				t.Errorf("transaction %d, payload by payload: %v, want ErrTooLarge", i, err)
			}
		}
		if err := m.Transaction(payloads); err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
		if len(m.State) > 1<<10 {
			t.Errorf("transaction %d leaves a state of %d bytes", i, len(m.State))
		}
	}
	if refused != 2 {
		t.Errorf("%d of %d transactions were refused payload by payload, want those two with a record of %d bytes", refused, len(transactions), largeBytes)
	}
	checkLarge(t, m, prepared)
}

func checkLarge(t *testing.T, m *pagestest.Memory, prepared []byte) {
	t.Helper()
	for _, xid := range []uint32{firstSubxact - 1, firstSubxact, firstSubxact + largeSubxacts/2, firstSubxact + largeSubxacts - 1, firstSubxact + largeSubxacts} {
		n := xid / 32768 // transactions of a page
		s := m.Spaces[pages.SLRUSpace(effect.CLOG, n/effect.SegmentPages)]
		if s == nil || len(s.Pages) <= int(n%effect.SegmentPages) {
			t.Fatalf("transaction %d has no status", xid)
		}
		if status := s.Pages[n%effect.SegmentPages][xid%32768/4] >> (xid % 4 * 2) & 3; status != 1 {
			t.Errorf("transaction %d has status %d, want 1, committed", xid, status)
		}
	}
	for file := range uint32(3) { // of the base backup
		r := wal.Relation{Tablespace: wal.TablespaceDefault, Database: 1, File: 1000 + file}
		if m.Spaces[pages.RelationSpace(r, wal.ForkMain)] != nil {
			t.Errorf("relation %d is still there", r.File)
		}
	}
	keys := pages.KeysOf(walsample.Start + 0x28)
	var file []byte
	for n := uint32(0); ; n++ {
		part := m.Objects[keys.Part(effect.PreparedPath(preparedXID), n)]
		if part == nil {
			break
		}
		file = append(file, part...)
	}
	want := binary.LittleEndian.AppendUint32(bytes.Clone(prepared), crc32.Checksum(prepared, crc32.MakeTable(crc32.Castagnoli)))
	if !bytes.Equal(file, want) {
		t.Errorf("the prepared transaction's file has %d bytes, want %d", len(file), len(want))
	}
}

// The page server takes such records too, and goes on behind them, also when it is started again.
func TestPageServerTakesLargeRecords(t *testing.T) {
	entries, tail := withTail(t)
	src, _ := source(entries)
	dir := t.TempDir()
	transactions, _ := largeRecords(t, tail)
	for i, payloads := range transactions {
		at := src.AppendTx("db", enginetest.Transaction{Parts: payloads})
		s := enginetest.Start(t, enginetest.Options(dir, src, pages.Decoder{}))
		if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: at, Wait: time.Minute}); err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
		s.Stop(t)
	}
	s := enginetest.Start(t, enginetest.Options(dir, src, pages.Decoder{}))
	compare(t, s, src, "db", src.Last())
}

// A record that does not end with its transaction is refused by its size, not kept.
func TestAnEndInsideALargeRecord(t *testing.T) {
	entries, tail := withTail(t)
	m := pagestest.NewMemory()
	for _, e := range entries {
		take(t, m, e)
	}
	parts, err := tail.Record(wal.ManagerLogicalMessage, 0, 0, make([]byte, largeBytes), largePartBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Transaction(parts[:2]); err != nil {
		t.Errorf("24 MiB of it: %v", err)
	}
	if err := m.Transaction(parts[2:3]); !errors.Is(err, logcore.ErrTooLarge) {
		t.Errorf("36 MiB of it: %v, want ErrTooLarge", err)
	}
	if err := m.Transaction(parts[2:]); err != nil {
		t.Errorf("to its end: %v", err)
	}
	if len(m.State) > 1<<10 {
		t.Errorf("behind it the state has %d bytes", len(m.State))
	}
}

var _ engine.Transactional = pages.Decoder{}
