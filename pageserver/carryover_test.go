package pageserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// TestARestoredLogServiceKeepsThePages: a log service restored to a point behind all that a
// page server has, or its checkpoint, is another incarnation, and yet has all of it: nothing
// is ingested again, which the log could not give any more.
func TestARestoredLogServiceKeepsThePages(t *testing.T) {
	for _, from := range []string{"a checkpoint", "its own store", "where it is"} {
		t.Run(from, func(t *testing.T) {
			r := newColdRig(t, 150)
			s := r.start()
			if _, _, err := s.CreateBranch(t.Context(), "db", "fork", pageserver.ReadAt{Wait: wait}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.CreateBranch(t.Context(), "db", "idle", pageserver.ReadAt{Wait: wait}); err != nil {
				t.Fatal(err)
			}
			r.append("fork", 30)
			r.compare(s, "fork", 5)
			r.checkpoint(s)
			entries := r.source.Entries("db")
			held := entries[len(entries)-1].LSN
			if from != "where it is" {
				s.Stop(t)
			}
			if from == "a checkpoint" {
				r.append("db", 10) // behind the checkpoint
				r.elsewhere()
			}
			trim := func() {
				r.source.Restore(2, r.source.Last())
				r.source.Trim("db", held-1)
			}
			if from == "where it is" {
				r.whileDown(s, trim)
			} else {
				trim()
				s = r.start()
			}
			r.append("db", 30)
			r.append("fork", 10)
			for _, log := range []string{"db", "fork", "idle"} {
				r.compare(s, log, 15)
			}
			if carried, resets := r.metric("carried_logs_total"), r.metric("incarnation_resets_total"); carried < 3 || resets != 0 {
				t.Errorf("%v logs kept, %v thrown away", carried, resets)
			}
		})
	}
}

// TestAnOlderCheckpointFits: of the checkpoints of a store the newest that ends before the
// point to which the log service was restored is begun from.
func TestAnOlderCheckpointFits(t *testing.T) {
	r := newColdRig(t, 150)
	s := r.start()
	first := r.checkpoint(s).Number
	held := r.source.Last()
	r.append("db", 20)
	restored := r.source.Last()
	r.append("db", 20)
	r.checkpoint(s)
	s.Stop(t)
	r.elsewhere()
	r.source.Restore(2, restored)
	r.source.Trim("db", held-1)
	s = r.start()
	r.compare(s, "db", 40)
	if st := s.CheckpointStatus(); st.BeganFrom != first || r.metric("incarnation_resets_total") != 0 {
		t.Errorf("it began from checkpoint %d, want %d", st.BeganFrom, first)
	}
}

// believing is a source that says of every entry that it has it: what a page server would be
// without the comparison.
type believing struct {
	*enginetest.Source
	lost []pageserver.Entry
}

func (b believing) Entry(ctx context.Context, log pageserver.LogInfo, lsn logcore.LSN) (pageserver.Entry, bool, error) {
	for _, e := range b.lost {
		if e.LSN == lsn {
			return e, true, nil
		}
	}
	return b.Source.Entry(ctx, log, lsn)
}

// TestLostTailIsNotServed: a checkpoint that is ahead of the log service that was restored
// holds pages of transactions that are lost, and others have their LSNs. None of it is
// served at any LSN. Were the last entry not compared, the run would find it.
func TestLostTailIsNotServed(t *testing.T) {
	for _, planted := range []bool{false, true} {
		r := checkpointed(t, 150)
		lost := r.source.Entries("db")
		r.source.Restore(2, r.source.Last()-30)
		r.append("db", 80)
		if planted {
			r.opts.Source = believing{r.source, lost}
		}
		s := r.start()
		var found error
		for i := 0; i < 60 && found == nil; i++ {
			at := r.source.Last()
			if i > 0 {
				at = 1 + logcore.LSN(r.rng.Uint64N(uint64(at)))
			}
			_, found = enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at, r.spaces)
		}
		if s.CheckpointStatus().BeganFrom == 0 {
			t.Fatal("it did not begin from the checkpoint: the run is void")
		}
		if (found != nil) != planted {
			t.Errorf("mistake planted: %v, found: %v", planted, found)
		}
		s.Stop(t)
	}
}

// slowDecoder stops at a payload that holds a mark until it is let go.
type slowDecoder struct {
	pages.Decoder
	reached, goOn chan struct{}
}

const slowMark = 0xa7

func (d slowDecoder) Decode(state, payload []byte) ([]engine.Record, []byte, error) {
	records, next, err := d.Decoder.Decode(state, payload)
	if len(records) == 1 && records[0].Page == slowMark {
		select {
		case d.reached <- struct{}{}:
			<-d.goOn
		default: // only the first time
		}
	}
	return records, next, err
}

// TestPartOfALostTransaction: a checkpoint made while a large transaction is in the store in
// part, which the restored log service has lost. Nothing of it is ever seen.
func TestPartOfALostTransaction(t *testing.T) {
	for _, log := range []string{"db", "fork"} {
		t.Run(log, func(t *testing.T) { partOfALostTransaction(t, log) })
	}
}

// partOfALostTransaction loses a transaction of db, or of a branch that nobody follows afterwards.
func partOfALostTransaction(t *testing.T, log string) {
	r := newColdRig(t, 60)
	slow := slowDecoder{reached: make(chan struct{}, 1), goOn: make(chan struct{})}
	slow.reached <- struct{}{} // full until the transaction is there
	r.opts.Decoder = slow
	s := r.start()
	r.compare(s, "db", 2)
	logs := 1
	if log != "db" {
		if _, _, err := s.CreateBranch(t.Context(), "db", log, pageserver.ReadAt{Wait: wait}); err != nil {
			t.Fatal(err)
		}
		logs = 2
	}
	<-slow.reached
	var tx enginetest.Transaction
	image := make([]byte, 1024)
	for part := range 4 {
		var records []engine.Record
		for n := range uint32(900) {
			image[0], image[1] = byte(n), 0xee
			records = append(records, engine.Record{Op: engine.OpImage, Space: engine.SpaceOf(7), Page: n % 40, PageSize: 1024, Data: append([]byte(nil), image...)})
			records = append(records, engine.Record{Op: engine.OpImage, Space: engine.SpaceOf(99), Page: uint32(part)*900 + n, PageSize: 1024, Data: append([]byte(nil), image...)})
		}
		payloads, err := pages.Encode(records, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		tx.Parts = append(tx.Parts, payloads...)
	}
	mark, err := pages.Encode([]engine.Record{{Op: engine.OpImage, Space: engine.SpaceOf(99), Page: slowMark, PageSize: 1024, Data: image}}, 1<<24)
	if err != nil {
		t.Fatal(err)
	}
	tx.Parts = append(tx.Parts, mark...)
	restored := r.source.AppendTx(log, tx) - 1 // its parts are there, its commit is lost
	for deadline := time.Now().Add(wait); len(slow.reached) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the transaction was not begun")
		}
	}
	<-slow.reached
	if _, err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	slow.reached <- struct{}{}
	close(slow.goOn)
	s.Stop(t)
	r.elsewhere()
	r.opts.Decoder = pages.Decoder{}
	r.source.Restore(2, restored)
	if log != "db" {
		r.source.CloseWriter(log)
	}
	r.append("db", 60)
	s = r.start()
	r.spaces = append(r.spaces, engine.SpaceOf(99))
	r.compare(s, log, 60)
	if s.CheckpointStatus().BeganFrom == 0 || r.metric("carried_logs_total") != float64(logs) {
		t.Error("the checkpoint was not kept: the run is void")
	}
}
