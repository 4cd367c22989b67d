package sim

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// alone is a disk without a member, and what was submitted to it.
func alone(seed uint64, batches int) (*disk, []logcore.Entry) {
	w := &world{s: newScheduler(seed), plan: plan{diskMin: time.Millisecond, diskMax: 5 * time.Millisecond, members: 1}}
	w.trace = newTrace(false, func() time.Duration { return w.s.now })
	w.nodes = []*node{{w: w, id: 1}}
	d := newDisk(w, 1)
	w.nodes[0].disk = d
	var all []logcore.Entry
	for range batches {
		var batch []logcore.Entry
		for range 1 + w.s.intn(4) {
			lsn := logcore.LSN(len(all) + 1)
			e := logcore.Entry{LSN: lsn, Term: 1, Kind: logcore.KindData, Time: logcore.HLC(lsn), Tx: logcore.TxID{byte(lsn)}, Payload: bytes.Repeat([]byte{byte(lsn)}, w.s.intn(700))}
			if w.s.chance(0.1) {
				e.Kind, e.Payload = logcore.KindSeal, nil
			}
			batch, all = append(batch, e), append(all, e)
		}
		if err := d.Submit(batch, func(error) {}); err != nil {
			panic(err)
		}
		if w.s.chance(0.5) {
			w.s.run(w.s.now+w.s.between(0, 10*time.Millisecond), func() bool { return false })
		}
	}
	return d, all
}

// F2, F3: whatever part of a write reaches the device, what was stored is there after
// the crash, what follows is a prefix of what was submitted, and the log goes on.
func TestDiskCrash(t *testing.T) {
	torn, kept := 0, 0
	for seed := range uint64(2000) {
		d, all := alone(seed, 12)
		stored := d.stored
		d.powerOff()
		if err := d.recover(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if d.last < stored || d.last > logcore.LSN(len(all)) {
			t.Fatalf("seed %d: stored up to %d, submitted up to %d, recovered up to %d", seed, stored, len(all), d.last)
		}
		if d.last > stored {
			kept++
		}
		if d.last < logcore.LSN(len(all)) {
			torn++
		}
		for lsn := logcore.LSN(1); lsn <= d.last; lsn++ {
			e, _, err := d.entry(lsn)
			if want := all[lsn-1]; err != nil || e.Tx != want.Tx || e.Kind != want.Kind || !bytes.Equal(e.Payload, want.Payload) {
				t.Fatalf("seed %d: LSN %d is %+v (%v), was %+v", seed, lsn, e, err, want)
			}
		}
		if err := d.Submit([]logcore.Entry{{LSN: d.last + 1, Term: 2, Kind: logcore.KindData}}, func(error) {}); err != nil {
			t.Fatalf("seed %d: the log does not go on: %v", seed, err)
		}
	}
	if torn < 100 || kept < 100 {
		t.Fatalf("void: %d tails were lost, %d kept", torn, kept)
	}
}

// F6, F8: a bit that flips in what the marks prove is never taken for a torn tail.
func TestDiskRot(t *testing.T) {
	hit := 0
	for seed := range uint64(2000) {
		d, _ := alone(seed, 12)
		lsn := d.rot()
		if lsn == 0 {
			continue
		}
		hit++
		if _, _, err := d.entry(lsn); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("seed %d: LSN %d reads with %v", seed, lsn, err)
		}
		d.powerOff()
		if err := d.recover(); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("seed %d: LSN %d has rotted, recovery says %v", seed, lsn, err)
		}
	}
	if hit < 1000 {
		t.Fatalf("void: %d bits", hit)
	}
}

// An older copy of a disk is what was stored then, whatever happens to the disk later.
func TestDiskCopy(t *testing.T) {
	for seed := range uint64(300) {
		d, all := alone(seed, 10)
		segs, stored := d.copied(), d.stored
		if err := d.TruncateTail(d.stored / 2); err != nil {
			t.Fatal(err)
		}
		d.putBack(segs)
		if err := d.recover(); err != nil || d.last != stored {
			t.Fatalf("seed %d: copied up to %d, put back up to %d: %v", seed, stored, d.last, err)
		}
		for lsn := logcore.LSN(1); lsn <= d.last; lsn++ {
			if e, _, err := d.entry(lsn); err != nil || !bytes.Equal(e.Payload, all[lsn-1].Payload) {
				t.Fatalf("seed %d: LSN %d: %v", seed, lsn, err)
			}
		}
	}
}

func TestSchedulerKeepsOrder(t *testing.T) {
	s := newScheduler(1)
	var got []int
	for i := range 1000 {
		at := time.Duration(s.intn(50))
		s.after(at, func() { got = append(got, int(at)*1000+i) })
	}
	s.run(time.Second, func() bool { return false })
	for i := 1; i < len(got); i++ {
		if got[i] < got[i-1] {
			t.Fatalf("%d before %d", got[i-1], got[i])
		}
	}
	if len(got) != 1000 || s.now != time.Second {
		t.Fatalf("%d events, until %v", len(got), s.now)
	}
}
