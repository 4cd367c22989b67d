package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/logcore/logcore"
)

// moved returns shard 0 and shard 1 with a log that has gone from the one to the other, and their feeders.
func moved(t *testing.T) (zero, one *State, f0, f1 *feeder) {
	t.Helper()
	f0, f1 = &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}, &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	zero = fold(t, NewState(), []logcore.Entry{
		f0.command(Command{Op: OpIncarnation, Incarnation: 7}),
		f0.command(Command{Op: OpShards, Shards: 2}),
		f0.command(Command{Op: OpCreate, Log: 1, Name: "db"}),
		f0.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 1}),
		f0.data(1, 1, 1, "one"),
		f0.command(Command{Op: OpCreate, Log: 2, Name: "db/b", Parent: 1, LSN: 5}),
		f0.command(Command{Op: OpMove, Name: "db", Gen: 1, Shard: 1}),
		f0.command(Command{Op: OpLeave, Log: 1, Gen: 1, Shard: 1}),
	})
	root, _ := zero.Named("db")
	family, err := zero.Departed(root, 0)
	if err != nil {
		t.Fatal(err)
	}
	one = fold(t, NewState(), []logcore.Entry{
		f1.command(Command{Op: OpIncarnation, Incarnation: 7}),
		f1.command(Command{Op: OpOwn, Shard: 1}),
		f1.command(Command{Op: OpPlace, Log: 1, Gen: 1, Placed: string(family.EncodeCheckpoint())}),
	})
	fold(t, zero, []logcore.Entry{f0.command(Command{Op: OpSettle, Name: "db", Gen: 1, LSN: one.LSN})})
	return zero, one, f0, f1
}

// TestMovedGolden: the bytes of what moves stay what they are.
func TestMovedGolden(t *testing.T) {
	zero, one, _, f1 := moved(t)
	fold(t, one, []logcore.Entry{f1.data(1, 1, 2, "two")})
	var out bytes.Buffer
	fmt.Fprintf(&out, "shard 0 %x\nshard 1 %x\n", zero.EncodeCheckpoint(), one.EncodeCheckpoint())
	golden(t, "v2-shards.golden.txt", out.Bytes())
	for _, s := range []*State{zero, one} {
		again, err := DecodeCheckpoint(s.EncodeCheckpoint())
		if err != nil || !bytes.Equal(again.EncodeCheckpoint(), s.EncodeCheckpoint()) || again.reserved != s.reserved {
			t.Errorf("a trip through a checkpoint: %v", err)
		}
	}
}

// TestTheFenceOfAMove (I4): behind the leave entry nothing of the family is taken, and the fold of a log in which there is
// something stops: a leader that forgot the fence is found out.
func TestTheFenceOfAMove(t *testing.T) {
	zero, one, f0, f1 := moved(t)
	for name, c := range map[string]Command{"open": {Op: OpOpenWriter, Log: 1, Epoch: 2}, "truncate": {Op: OpTruncate, Log: 1, LSN: 6}, "branch": {Op: OpCreate, Log: 3, Name: "x", Parent: 1, LSN: 5},
		"horizon": {Op: OpHorizon, Log: 1, LSN: 5}, "delete": {Op: OpDelete, Log: 2}, "leave again": {Op: OpLeave, Log: 1, Gen: 1, Shard: 1}} {
		if err := zero.Check(c, zero.LSN+1); !errors.Is(err, logcore.ErrMoved) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := zero.CheckWriter(1, 1); !errors.Is(err, logcore.ErrMoved) {
		t.Errorf("an append: %v", err)
	}
	if err := zero.Apply(f0.data(1, 1, 2, "behind the fence")); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("an entry behind the fence is folded: %v", err)
	}
	root, _ := zero.Named("db")
	family, err := zero.Departed(root, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Check(Command{Op: OpPlace, Log: 1, Gen: 1, Placed: string(family.EncodeCheckpoint())}, one.LSN+1); !errors.Is(err, logcore.ErrLogExists) {
		t.Errorf("placed twice: %v", err)
	}
	fold(t, one, []logcore.Entry{f1.data(1, 1, 2, "two")})
	l, _ := one.ByID(1)
	if first, ok := l.Placed(1); !ok || first.LSN != 5 || l.LastLSN <= 8 {
		t.Errorf("the first append is known at LSN %d, the second is at %d", first.LSN, l.LastLSN)
	}
	if err := one.Check(Command{Op: OpCreate, Log: one.NextLog(), Name: "db/c", Parent: 1, LSN: 5}, one.LSN+1); err != nil || one.NextLog()>>logIDShardBits != 1 {
		t.Errorf("a branch off what is elsewhere: %v, id %d", err, one.NextLog())
	}
}

// TestExtentsHaveAnOrder: a chain of extents that is out of order is refused, wherever it comes from.
func TestExtentsHaveAnOrder(t *testing.T) {
	_, one, _, _ := moved(t)
	for name, spoil := range map[string]func(*Log){
		"ends before it begins":  func(l *Log) { l.Extents[0].First = l.Extents[0].Last + 1 },
		"behind what follows":    func(l *Log) { l.Extents[0].Last = l.PlacedLSN + 1 },
		"twice":                  func(l *Log) { l.Extents = append(l.Extents, l.Extents[0]) },
		"open in the middle":     func(l *Log) { l.Extents[0].Last = Open },
		"below the shard's base": func(l *Log) { l.Extents[0].Base = l.Extents[0].First },
		"placed below the base":  func(l *Log) { l.Base = l.PlacedLSN },
	} {
		s := one.Clone()
		l, err := s.ByID(1)
		if err != nil {
			t.Fatal(err)
		}
		spoil(l)
		if _, err := DecodeCheckpoint(s.EncodeCheckpoint()); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	chain, err := one.Chain(2, 1)
	if err != nil || len(chain) < 2 {
		t.Fatalf("the branch's chain: %+v, %v", chain, err)
	}
	for i := 1; i < len(chain); i++ {
		if chain[i].First <= chain[i-1].Last {
			t.Errorf("extent %+v after %+v", chain[i], chain[i-1])
		}
	}
}
