package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// historyStory has every command about histories in it, and ends with some of each.
func historyStory() []logcore.Entry {
	f := &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	return []logcore.Entry{
		f.command(Command{Op: OpIncarnation, Incarnation: 7}),
		f.command(Command{Op: OpCreate, Log: 1, Name: "db"}),
		f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 1, Writer: "w"}),
		f.data(1, 1, 1, "a"),
		f.data(1, 1, 2, "b"),
		f.data(1, 1, 3, "c"),
		f.command(Command{Op: OpRetention, Log: 1, WindowMs: 60_000, WindowBytes: 1 << 30}),
		f.command(Command{Op: OpCreate, Log: 2, Name: "db/a", Parent: 1, LSN: 4}),
		f.command(Command{Op: OpCreate, Log: 3, Name: "db/b", Parent: 1, LSN: 5}),
		f.command(Command{Op: OpOpenWriter, Log: 2, Epoch: 1}),
		f.command(Command{Op: OpCloseWriter, Log: 2, Epoch: 1}),
		f.command(Command{Op: OpLease, Log: 1, LSN: 6, Lease: 0xabc, TTLMs: 5000, Writer: "replica-1"}),
		f.command(Command{Op: OpLease, Log: 3, LSN: 6, Lease: 0xdef, TTLMs: 5000}),
		f.command(Command{Op: OpHold, Log: 3, LSN: 9, Name: "audit"}),
		f.command(Command{Op: OpHorizon, Log: 1, LSN: 5}),
		f.command(Command{Op: OpLease, Log: 1, LSN: 6, Lease: 0xabc, TTLMs: 60_000, Writer: "replica-1"}),
		f.command(Command{Op: OpLease, Log: 3, LSN: 6, Lease: 0xdef}),
		f.command(Command{Op: OpDelete, Log: 2}),
	}
}

func TestHistoryGolden(t *testing.T) {
	var out bytes.Buffer
	s := NewState()
	for _, e := range historyStory() {
		fmt.Fprintf(&out, "command %x\n", e.Payload)
	}
	fold(t, s, historyStory())
	checkpoint := s.EncodeCheckpoint()
	fmt.Fprintf(&out, "checkpoint %x\n", checkpoint)
	golden(t, "v2-history.golden.txt", out.Bytes())
	again, err := DecodeCheckpoint(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	again.Time = s.Time // a checkpoint's own entry has it
	again.folded = s.folded
	// Derived and only a bound: a scan finds the exact one.
	again.histories.nextExpiry = s.histories.nextExpiry
	if !reflect.DeepEqual(s, again) {
		t.Fatalf("decoded %+v\nwant %+v", again, s)
	}
	if len(s.Leases()) != 1 || len(s.Holds()) != 1 || s.histories.epochFloor != 1 || s.Len() != 2 {
		t.Fatalf("the story ends with %d leases, %d holds, floor %d, %d logs: the fixture is void", len(s.Leases()), len(s.Holds()), s.histories.epochFloor, s.Len())
	}
	for n := range len(checkpoint) {
		if _, err := DecodeCheckpoint(checkpoint[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes it decodes", n, len(checkpoint))
		}
	}
}

// at is a catalog with a log of entries up to LSN 20, its branches at 10 and, of that, at 15.
func historyState(t *testing.T) (*State, *feeder) {
	f := &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	s := fold(t, NewState(), []logcore.Entry{
		f.command(Command{Op: OpCreate, Log: 1, Name: "db"}),
		f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 1}),
	})
	for i := range 18 {
		fold(t, s, []logcore.Entry{f.data(1, 1, uint64(i+1), "x")})
	}
	fold(t, s, []logcore.Entry{
		f.command(Command{Op: OpCreate, Log: 2, Name: "db/a", Parent: 1, LSN: 10}),
		f.command(Command{Op: OpCreate, Log: 3, Name: "db/a/b", Parent: 2, LSN: 15}),
	})
	return s, f
}

func TestHistoryRules(t *testing.T) {
	for name, c := range map[string]struct {
		before []Command
		then   Command
		want   error
	}{
		"a branch's branch keeps it":       {nil, Command{Op: OpDelete, Log: 2}, logcore.ErrInvalid},
		"a leaf goes":                      {nil, Command{Op: OpDelete, Log: 3}, nil},
		"and then its parent":              {[]Command{{Op: OpDelete, Log: 3}}, Command{Op: OpDelete, Log: 2}, nil},
		"no branch":                        {[]Command{{Op: OpDelete, Log: 3}, {Op: OpDelete, Log: 2}}, Command{Op: OpDelete, Log: 1}, logcore.ErrInvalid},
		"a lease keeps it":                 {[]Command{{Op: OpLease, Log: 3, LSN: 5, Lease: 1, TTLMs: 1000}}, Command{Op: OpDelete, Log: 3}, logcore.ErrInvalid},
		"a hold keeps it":                  {[]Command{{Op: OpHold, Log: 3, LSN: 5, Name: "h"}}, Command{Op: OpReset, Log: 3, LSN: 5}, logcore.ErrInvalid},
		"a lease given back":               {[]Command{{Op: OpLease, Log: 3, LSN: 5, Lease: 1, TTLMs: 1000}, {Op: OpLease, Log: 3, LSN: 5, Lease: 1}}, Command{Op: OpDelete, Log: 3}, nil},
		"unknown log":                      {nil, Command{Op: OpDelete, Log: 9}, logcore.ErrLogNotFound},
		"reset":                            {nil, Command{Op: OpReset, Log: 3, LSN: 7}, nil},
		"reset below the parent's horizon": {[]Command{{Op: OpHorizon, Log: 1, LSN: 8}}, Command{Op: OpReset, Log: 3, LSN: 7}, logcore.ErrTrimmed},
		"reset ahead":                      {nil, Command{Op: OpReset, Log: 3, LSN: 99}, logcore.ErrLSNInFuture},
		"lease below the horizon":          {[]Command{{Op: OpHorizon, Log: 1, LSN: 8}}, Command{Op: OpLease, Log: 1, LSN: 7, Lease: 1, TTLMs: 1000}, logcore.ErrTrimmed},
		"lease at the horizon":             {[]Command{{Op: OpHorizon, Log: 1, LSN: 8}}, Command{Op: OpLease, Log: 1, LSN: 8, Lease: 1, TTLMs: 1000}, nil},
		"lease of a branch below it":       {[]Command{{Op: OpHorizon, Log: 1, LSN: 8}}, Command{Op: OpLease, Log: 3, LSN: 7, Lease: 1, TTLMs: 1000}, logcore.ErrTrimmed},
		"lease where a branch is":          {[]Command{{Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpLease, Log: 1, LSN: 10, Lease: 1, TTLMs: 1000}, nil},
		"lease of a branch at its fork":    {[]Command{{Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpLease, Log: 3, LSN: 10, Lease: 1, TTLMs: 1000}, nil},
		"lease ahead":                      {nil, Command{Op: OpLease, Log: 1, LSN: 99, Lease: 1, TTLMs: 1000}, logcore.ErrLSNInFuture},
		"lease too long":                   {nil, Command{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: LeaseTTLMax + 1}, logcore.ErrInvalid},
		"lease moved":                      {[]Command{{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 1000}}, Command{Op: OpLease, Log: 1, LSN: 10, Lease: 1, TTLMs: 1000}, logcore.ErrInvalid},
		"renewed below the horizon":        {[]Command{{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 1000}, {Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 1000}, nil},
		"another where a lease is":         {[]Command{{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 1000}, {Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpLease, Log: 3, LSN: 9, Lease: 2, TTLMs: 1000}, nil},
		"branch where a lease is":          {[]Command{{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 1000}, {Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpCreate, Log: 4, Name: "n", Parent: 1, LSN: 9}, nil},
		"branch below the horizon":         {[]Command{{Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpCreate, Log: 4, Name: "n", Parent: 1, LSN: 9}, logcore.ErrTrimmed},
		"branch of a branch below it":      {[]Command{{Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpCreate, Log: 4, Name: "n", Parent: 3, LSN: 9}, logcore.ErrTrimmed},
		"given back twice":                 {nil, Command{Op: OpLease, Log: 1, LSN: 9, Lease: 1}, logcore.ErrInvalid},
		"horizon back":                     {[]Command{{Op: OpHorizon, Log: 1, LSN: 8}}, Command{Op: OpHorizon, Log: 1, LSN: 7}, logcore.ErrInvalid},
		"horizon ahead":                    {nil, Command{Op: OpHorizon, Log: 1, LSN: 99}, logcore.ErrLSNInFuture},
		"horizon above a hold":             {[]Command{{Op: OpHold, Log: 1, LSN: 8, Name: "h"}}, Command{Op: OpHorizon, Log: 1, LSN: 9}, logcore.ErrInvalid},
		"horizon at a hold":                {[]Command{{Op: OpHold, Log: 1, LSN: 8, Name: "h"}}, Command{Op: OpHorizon, Log: 1, LSN: 8}, nil},
		"horizon above a branch's hold":    {[]Command{{Op: OpHold, Log: 3, LSN: 8, Name: "h"}}, Command{Op: OpHorizon, Log: 1, LSN: 9}, logcore.ErrInvalid},
		"between above a branch's hold":    {[]Command{{Op: OpHold, Log: 3, LSN: 8, Name: "h"}}, Command{Op: OpHorizon, Log: 2, LSN: 11}, logcore.ErrInvalid},
		"a branch's hold above the fork":   {[]Command{{Op: OpHold, Log: 3, LSN: 12, Name: "h"}}, Command{Op: OpHorizon, Log: 1, LSN: 20}, nil},
		"a lifted hold":                    {[]Command{{Op: OpHold, Log: 1, LSN: 8, Name: "h"}, {Op: OpHold, Log: 1, Name: "h"}}, Command{Op: OpHorizon, Log: 1, LSN: 9}, nil},
		"hold below the horizon":           {[]Command{{Op: OpHorizon, Log: 1, LSN: 8}}, Command{Op: OpHold, Log: 3, LSN: 7, Name: "h"}, logcore.ErrTrimmed},
		"hold on a fork below the horizon": {[]Command{{Op: OpHorizon, Log: 1, LSN: 20}}, Command{Op: OpHold, Log: 3, LSN: 10, Name: "h"}, logcore.ErrTrimmed},
		"window too long":                  {nil, Command{Op: OpRetention, Log: 1, WindowMs: RetentionMsMax + 1}, logcore.ErrInvalid},
	} {
		s, f := historyState(t)
		for _, c := range c.before {
			fold(t, s, []logcore.Entry{f.command(c)})
		}
		if err := s.Check(c.then, s.LSN+1); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestDeleteNamesWhatIsInTheWay: who asks is told what to remove first.
func TestDeleteNamesWhatIsInTheWay(t *testing.T) {
	s, f := historyState(t)
	fold(t, s, []logcore.Entry{f.command(Command{Op: OpLease, Log: 2, LSN: 12, Lease: 0xabc, TTLMs: 5000, Writer: "replica-7"}),
		f.command(Command{Op: OpHold, Log: 2, LSN: 12, Name: "audit"})})
	err := s.Check(Command{Op: OpDelete, Log: 2}, s.LSN+1)
	for _, want := range []string{"db/a/b", "replica-7", "audit"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// TestLeaseRunsOut: it goes with an entry that is later than it, not before.
func TestLeaseRunsOut(t *testing.T) {
	s, f := historyState(t)
	fold(t, s, []logcore.Entry{f.command(Command{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 2000}),
		f.command(Command{Op: OpLease, Log: 1, LSN: 12, Lease: 2, TTLMs: 4000})})
	fold(t, s, []logcore.Entry{f.command(Command{Op: OpHorizon, Log: 1, LSN: 20})})
	f.time += logcore.HLC(2100) << 16
	fold(t, s, []logcore.Entry{f.command(Command{Op: OpHorizon, Log: 1, LSN: 20})})
	if l := s.Leases(); len(l) != 1 || l[0].ID != 2 {
		t.Fatalf("left: %+v", l)
	}
	db, _ := s.ByID(1)
	if err := s.CheckReadable(db, 9); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("LSN 9: %v", err)
	}
	if err := s.CheckReadable(db, 12); err != nil {
		t.Errorf("LSN 12: %v", err)
	}
	if err := s.Check(Command{Op: OpLease, Log: 1, LSN: 9, Lease: 1, TTLMs: 2000}, s.LSN+1); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("renewed too late: %v", err)
	}
	if expires := s.Leases()[0].Expires; !expires.Wall().After(s.Time.Wall()) || expires.Wall().After(s.Time.Wall().Add(4*time.Second)) {
		t.Errorf("expires %v, it is %v", expires.Wall(), s.Time.Wall())
	}
}

// TestEpochsOutliveTheirLog: a writer of a deleted log is fenced from the one that has its
// name now.
func TestEpochsOutliveTheirLog(t *testing.T) {
	for _, again := range []func(f *feeder, s *State){
		func(f *feeder, s *State) {
			fold(t, s, []logcore.Entry{f.command(Command{Op: OpReset, Log: 3, LSN: 12})})
		},
		func(f *feeder, s *State) {
			fold(t, s, []logcore.Entry{f.command(Command{Op: OpDelete, Log: 3}), f.command(Command{Op: OpCreate, Log: 4, Name: "db/a/b", Parent: 2, LSN: 12})})
		},
	} {
		s, f := historyState(t)
		fold(t, s, []logcore.Entry{f.command(Command{Op: OpOpenWriter, Log: 3, Epoch: 1}), f.data(3, 1, 1, "old"), f.command(Command{Op: OpRetention, Log: 3, WindowMs: 5})})
		again(f, s)
		l, err := s.ByName("db/a/b")
		if err != nil || l.ID != 4 || l.BranchLSN != 12 || l.Parent != 2 || l.Entries != 0 || l.Epoch != 1 || l.WriterOpen {
			t.Fatalf("%+v, %v", l, err)
		}
		fold(t, s, []logcore.Entry{f.command(Command{Op: OpOpenWriter, Log: 4, Epoch: 2})})
		for _, epoch := range []logcore.Epoch{1, 3} {
			if _, err := s.CheckWriter(4, epoch); !errors.Is(err, logcore.ErrFenced) {
				t.Errorf("epoch %d: %v", epoch, err)
			}
		}
		if _, err := s.CheckWriter(3, 1); !errors.Is(err, logcore.ErrLogNotFound) {
			t.Errorf("the old log: %v", err)
		}
	}
}

// TestRoomForBranches: ten thousand branches at rest, beside writers, fit into a checkpoint.
func TestRoomForBranches(t *testing.T) {
	s, f := historyState(t)
	for s.Len() < 10_000 {
		name := fmt.Sprintf("%0*d", logcore.LogNameMax, s.Len())
		fold(t, s, []logcore.Entry{f.command(Command{Op: OpCreate, Log: s.NextLog(), Name: name, Parent: 1, LSN: 9})})
	}
	writers := 0
	for id := logcore.LogID(10); ; id++ {
		c := Command{Op: OpOpenWriter, Log: id, Epoch: 1, Writer: strings.Repeat("w", WriterNameMax), PayloadFormat: strings.Repeat("f", PayloadFormatMax)}
		if err := s.Check(c, s.LSN+1); errors.Is(err, logcore.ErrTooLarge) {
			break
		}
		fold(t, s, []logcore.Entry{f.command(c)})
		if writers++; writers > 10_000 {
			t.Fatal("no limit on writers")
		}
	}
	if n := len(s.EncodeCheckpoint()); writers < 2500 || n > reserveMax {
		t.Fatalf("%d writers, a checkpoint of %d bytes", writers, n)
	}
	if err := s.Check(Command{Op: OpCreate, Log: s.NextLog(), Name: "more"}, s.LSN+1); err != nil && !errors.Is(err, logcore.ErrTooLarge) {
		t.Fatal(err)
	}
	// What is given back can be used again, and the count is that of a checkpoint.
	fold(t, s, []logcore.Entry{f.command(Command{Op: OpCloseWriter, Log: 10, Epoch: 1})})
	if err := s.Check(Command{Op: OpOpenWriter, Log: 9, Epoch: 1}, s.LSN+1); err != nil {
		t.Fatal(err)
	}
	again, err := DecodeCheckpoint(s.EncodeCheckpoint())
	if err != nil || again.reserved != s.reserved {
		t.Fatalf("decoded: %d reserved, want %d (%v)", again.reserved, s.reserved, err)
	}
}

// TestHistoryNeverComesBack is what makes collection safe: who acts on an old catalog
// takes away only what the newer ones can't see either. Whatever happens, an LSN that can't be read
// once can never be read again.
func TestHistoryNeverComesBack(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var accepted [opMax + 1]int
	for range 30 {
		randomHistories(t, rng, &accepted)
	}
	for op := OpDelete; op <= OpHold; op++ {
		if accepted[op] < 10 {
			t.Errorf("%v was accepted %d times: the run is void", op, accepted[op])
		}
	}
}

func randomHistories(t *testing.T, rng *rand.Rand, accepted *[opMax + 1]int) {
	s, f := historyState(t)
	lost := map[logcore.LogID]map[logcore.LSN]bool{}
	for range 150 {
		logs := s.Logs()
		l := logs[rng.IntN(len(logs))]
		at := logcore.LSN(rng.Uint64N(uint64(s.LSN)) + 1)
		for _, c := range []Command{
			{Op: OpCreate, Log: s.NextLog(), Name: fmt.Sprint("b", s.NextLog()), Parent: l.ID, LSN: at},
			{Op: OpDelete, Log: l.ID},
			{Op: OpReset, Log: l.ID, LSN: at},
			{Op: OpRetention, Log: l.ID, WindowMs: uint64(at)},
			{Op: OpHorizon, Log: l.ID, LSN: at},
			{Op: OpLease, Log: l.ID, LSN: at, Lease: uint64(rng.IntN(20) + 1), TTLMs: 1000 + rng.Uint64N(5000)},
			{Op: OpHold, Log: l.ID, LSN: at * logcore.LSN(rng.IntN(2)), Name: string(rune('a' + rng.IntN(3)))},
		} {
			if rng.IntN(4) != 0 || s.Check(c, s.LSN+1) != nil {
				continue
			}
			f.time += logcore.HLC(rng.IntN(800)) << 16
			fold(t, s, []logcore.Entry{f.command(c)})
			accepted[c.Op]++
		}
		for _, l := range s.Logs() {
			if err := s.CheckReadable(l, l.BranchLSN); err != nil && l.Parent != 0 {
				t.Fatalf("branch %d of %d can't be read where it forks: %v", l.ID, l.Parent, err)
			}
			if lost[l.ID] == nil {
				lost[l.ID] = map[logcore.LSN]bool{}
				// Its parent's losses below the fork are its own.
				for at := range lost[l.Parent] {
					if at < l.BranchLSN {
						lost[l.ID][at] = true
					}
				}
			}
			for at := logcore.LSN(1); at <= s.LSN; at++ {
				if gone := s.CheckReadable(l, at) != nil; gone {
					lost[l.ID][at] = true
				} else if lost[l.ID][at] {
					t.Fatalf("LSN %d of log %d (branch of %d at %d, horizon %d) came back", at, l.ID, l.Parent, l.BranchLSN, l.Horizon)
				}
			}
		}
	}
	again, err := DecodeCheckpoint(s.EncodeCheckpoint())
	if err != nil || !bytes.Equal(again.EncodeCheckpoint(), s.EncodeCheckpoint()) {
		t.Fatalf("a trip through a checkpoint: %v", err)
	}
}
