package segment

import (
	"math/rand/v2"
	"testing"

	"github.com/logcore/logcore"
)

// What the ranges exclude has no entry, and what they name has one: compared with a
// plain search for every log and LSN.
func TestMayHold(t *testing.T) {
	im := build(t, 50, sizes(40, 20), true, 0)
	s := im.summary
	for id := logcore.LogID(99); id < 105; id++ {
		for lsn := logcore.LSN(45); lsn < 100; lsn++ {
			first, last := logcore.LSN(0), logcore.LSN(0)
			for _, e := range im.entries {
				if testLogOf(e) == id {
					if last = e.LSN; first == 0 {
						first = e.LSN
					}
				}
			}
			from, ok := s.MayHold([]logcore.LogID{7, id}, lsn)
			if want := last >= lsn; ok != want || ok && from != max(first, lsn) {
				t.Fatalf("log %d from LSN %d: %d, %v; it has %d to %d", id, lsn, from, ok, first, last)
			}
		}
	}
	if from, ok := s.MayHold([]logcore.LogID{101, 102, 100}, 1); !ok || from != min(s.Logs[0].First, s.Logs[1].First, s.Logs[2].First) {
		t.Errorf("three logs: from %d, %v", from, ok)
	}
	s.LogsKept = false
	if from, ok := s.MayHold([]logcore.LogID{7}, 60); !ok || from != 60 {
		t.Errorf("without ranges: from %d, %v", from, ok)
	}
}

// Reading from the point that SeekTime gives never misses the first entry of a time,
// also when entries without a time stand at the points.
func TestSeekTimeMissesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	s := NewSummary(Header{ID: ID{First: 1}})
	var times []logcore.HLC
	for n := range 3000 {
		e := logcore.Entry{LSN: logcore.LSN(n + 1), Payload: make([]byte, rng.IntN(3000))}
		if rng.IntN(3) > 0 {
			e.Time = logcore.HLC(n/3 + 1)
		}
		s.Add(&e, 0)
		times = append(times, e.Time)
	}
	if len(s.Points) < 40 {
		t.Fatalf("void: %d points", len(s.Points))
	}
	for at := range logcore.HLC(1002) {
		p := SeekTime(s.Points, at)
		for i, time := range times {
			if time >= at {
				if p.LSN > logcore.LSN(i+1) {
					t.Fatalf("time %d stands at LSN %d, reading would begin at %d", at, i+1, p.LSN)
				}
				break
			}
		}
	}
}

// A footer lists many logs up to the bound, and says that it does not beyond.
func TestLogRangesAreBounded(t *testing.T) {
	for _, c := range []struct {
		logs, payload int
		kept          bool
	}{{16, 0, true}, {17, 0, false}, {40, 4096, true}, {40, 3000, false}} {
		h := Header{ID: ID{First: 1}}
		b := NewBuilder(h, func(e logcore.Entry) logcore.LogID { return logcore.LogID(e.Term) }, DigestNone)
		for i := range c.logs {
			b.Add(&logcore.Entry{LSN: logcore.LSN(i + 1), Term: uint64(c.logs - i), Payload: make([]byte, c.payload)}, 1, nil)
		}
		s := b.Summary()
		if s.LogsKept != c.kept || s.LogsKept && len(s.Logs) != c.logs {
			t.Errorf("%+v: kept %v, %d", c, s.LogsKept, len(s.Logs))
		}
		again, err := DecodeFooter(s.AppendFooter(nil))
		if err != nil || again.LogsKept != c.kept || len(again.Logs) != len(s.Logs) {
			t.Errorf("%+v: decoded %v, %d, %v", c, again.LogsKept, len(again.Logs), err)
		}
		if room := FooterRoom(s.End); int64(s.FooterBytes()) > room {
			t.Errorf("%+v: footer of %d bytes, room for %d", c, s.FooterBytes(), room)
		}
	}
}
