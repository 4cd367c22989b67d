package roles

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// contentSpan is a span with entries of every kind and of many lengths.
func contentSpan(t *testing.T) tiering.Span {
	t.Helper()
	s := segment.Span{ID: segment.ID{Shard: 0, First: 5}, First: 10, Prev: 77}
	sum := s.Prev
	add := func(kind logcore.Kind, tx byte, payload []byte) {
		e := logcore.Entry{LSN: s.First + logcore.LSN(len(bodies)), Term: 3, Kind: kind, Time: logcore.HLC(1<<40 + len(bodies)), Tx: logcore.TxID{tx}, Payload: payload}
		bodies = append(bodies, e)
		s.Frames, sum = segment.AppendFrame(s.Frames, s.ID, sum, e)
		s.Last, s.LastTime = e.LSN, e.Time
	}
	bodies = nil
	record := func(log logcore.LogID, n int) []byte {
		return catalog.Record{Log: log, Epoch: 1, Sequence: uint64(len(bodies) + 1), Position: bytes.Repeat([]byte("p"), n%9), Body: bytes.Repeat([]byte{byte(n)}, n)}.Append(nil)
	}
	add(logcore.KindRaft, 0, nil)
	for i := range 20 {
		add(logcore.KindData, byte(i), record(1, 100+i))
	}
	add(logcore.KindPart, 50, record(2, 500))
	add(logcore.KindPart, 51, record(2, 500))
	add(logcore.KindAbort, 50, record(2, 0))
	add(logcore.KindCommit, 51, record(2, 30))
	add(logcore.KindPart, 52, record(2, 500)) // closed elsewhere
	add(logcore.KindSeal, 0, nil)
	s.FirstTime, s.Sum, s.Sealed = 1<<40, sum, true
	return recovery.ToArchive(s)
}

var bodies []logcore.Entry // of the last contentSpan

func contentOf() content {
	state := catalog.NewState()
	lsn := logcore.LSN(0)
	apply := func(c catalog.Command) {
		lsn++
		if err := state.Apply(logcore.Entry{LSN: lsn, Time: logcore.HLC(lsn), Kind: logcore.KindCatalog, Payload: c.Encode()}); err != nil {
			panic(err)
		}
	}
	for i := range logcore.LogID(2) {
		apply(catalog.Command{Op: catalog.OpCreate, Log: i + 1, Name: fmt.Sprint("log", i+1)})
	}
	return content{view: func(f func(*catalog.State)) { f(state) }}
}

// Every subset of entries can be erased: what is left is a whole span with the checksums
// that it had, shorter, and erasing again finds nothing.
func TestEraseKeepsTheChain(t *testing.T) {
	span := contentSpan(t)
	c := contentOf()
	entries, err := c.Entries(t.Context(), span)
	if err != nil || len(entries) != 25 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, every := range []logcore.LSN{1, 2, 3, 7} {
		gone := func(l logcore.LSN) bool { return l%every == 0 }
		out, err := c.Erase(t.Context(), span, func(l logcore.LSN) bool {
			for _, e := range entries {
				if e.LSN == l {
					return gone(l)
				}
			}
			return false
		})
		if err != nil || out.Prev != span.Prev || out.Sum != span.Sum || out.Last != span.Last || len(out.Frames) >= len(span.Frames) {
			t.Fatalf("%v", err)
		}
		i, saved := 0, int64(0)
		for e, err := range recovery.ToHotLog(out).Entries() { // verifies every checksum and the chain
			if err != nil {
				t.Fatal(err)
			}
			was := bodies[i]
			i++
			if !was.Kind.OfLog() || !gone(e.LSN) {
				if e.Kind != was.Kind || !bytes.Equal(e.Payload, was.Payload) {
					t.Fatalf("entry %d was changed", e.LSN)
				}
				continue
			}
			rec, err := catalog.DecodeRecord(e.Payload)
			before, _ := catalog.DecodeRecord(was.Payload)
			if err != nil || e.Kind != logcore.KindAbort || !rec.Erased || rec.BodyBytes() != uint64(len(before.Body)) || rec.Sequence != before.Sequence || e.Tx != was.Tx || e.Time != was.Time {
				t.Fatalf("entry %d: %+v, %v", e.LSN, rec, err)
			}
			saved += segment.FrameBytes(len(was.Payload)) - segment.FrameBytes(len(e.Payload))
		}
		if int64(len(span.Frames)-len(out.Frames)) != saved {
			t.Errorf("saved %d, the frames say %d", saved, len(span.Frames)-len(out.Frames))
		}
		left, err := c.Entries(t.Context(), out)
		if err != nil || every == 1 && len(left) != 0 || every > 1 && len(left) == 0 {
			t.Fatalf("%d left, %v", len(left), err)
		}
	}
}

// A transaction goes as a whole: its parts by what closes it, and not when that is elsewhere.
func TestContentOfTransactions(t *testing.T) {
	entries, err := contentOf().Entries(t.Context(), contentSpan(t))
	if err != nil {
		t.Fatal(err)
	}
	n := len(entries)
	parts := entries[n-5:]
	if !parts[0].Aborted || parts[1].Aborted || !parts[2].Aborted || parts[3].Aborted {
		t.Errorf("aborted: %+v", parts)
	}
	if parts[0].Closed != parts[2].Closed || parts[1].Closed != parts[3].Closed || parts[4].Closed != 0 || parts[0].Bytes <= 300 {
		t.Errorf("closed: %+v", parts)
	}
}

// What a branch of a branch needs stays, however far the logs above it were truncated; a
// hold on a branch, and how long it is kept, count for the history that it inherits.
func TestContentOfBranches(t *testing.T) {
	state := catalog.NewState()
	lsn := logcore.LSN(0)
	apply := func(c catalog.Command) {
		t.Helper()
		lsn++
		if err := state.Apply(logcore.Entry{LSN: lsn, Time: logcore.HLC(lsn), Kind: logcore.KindCatalog, Payload: c.Encode()}); err != nil {
			t.Fatal(err)
		}
	}
	apply(catalog.Command{Op: catalog.OpCreate, Log: 1, Name: "log1"})
	for lsn < 40 {
		lsn++
		if err := state.Apply(logcore.Entry{LSN: lsn, Time: logcore.HLC(lsn), Kind: logcore.KindRaft}); err != nil {
			t.Fatal(err)
		}
	}
	apply(catalog.Command{Op: catalog.OpCreate, Log: 2, Name: "b", Parent: 1, LSN: 25})
	apply(catalog.Command{Op: catalog.OpCreate, Log: 3, Name: "c", Parent: 2, LSN: 20})
	apply(catalog.Command{Op: catalog.OpTruncate, Log: 1, LSN: 30})
	apply(catalog.Command{Op: catalog.OpTruncate, Log: 2, LSN: 26})
	c := content{view: func(f func(*catalog.State)) { f(state) }}
	check := func(deleted func(l logcore.LSN) bool) {
		t.Helper()
		entries, err := c.Entries(t.Context(), contentSpan(t))
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, e := range entries {
			if e.Log != 1 {
				continue
			}
			seen++
			if e.Deleted != deleted(e.LSN) {
				t.Errorf("entry %d: deleted is %v, heirs %v", e.LSN, e.Deleted, e.Heirs)
			}
			if want := e.LSN <= 20 && !e.Deleted; want != (len(e.Heirs) > 0) {
				t.Errorf("entry %d: heirs %v", e.LSN, e.Heirs)
			}
		}
		if seen != 20 {
			t.Fatalf("%d entries of log 1", seen)
		}
	}
	check(func(l logcore.LSN) bool { return l > 20 && l < 30 }) // 11 to 20 are c's
	apply(catalog.Command{Op: catalog.OpTruncate, Log: 3, LSN: 15})
	check(func(l logcore.LSN) bool { return l < 15 || l > 20 && l < 30 })
}
