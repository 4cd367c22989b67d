package replication

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; read the diff")

func exampleState() MemberState {
	autoLeave := true
	return MemberState{seq: 5, Shard: 7, Member: 2, Incarnation: 0x1122334455667788, AnnounceIncarnation: true, Stale: true, Term: 9, Vote: 3, Commit: 1 << 40,
		MembersLSN: 1<<40 - 1,
		Members:    &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, VotersOutgoing: []uint64{1, 2}, LearnersNext: []uint64{5}, AutoLeave: &autoLeave}}
}

func sameState(a, b MemberState) bool {
	members := a.Members.Equivalent(b.Members) == nil
	a.Members, b.Members = nil, nil
	return members && a == b
}

// TestGoldenState holds the encoder byte for byte against format version 3, and the
// decoder against the fixtures of every version it reads.
func TestGoldenState(t *testing.T) {
	const path = "testdata/raft.state.v3.golden"
	got := hex.EncodeToString(exampleState().encode()) + "\n"
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got %swant %s", got, want)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeSlot(raw, path, 0)
	if err != nil || !sameState(s, exampleState()) {
		t.Errorf("decoded %+v, %v", s, err)
	}
	if want, err = os.ReadFile("testdata/raft.state.v2.golden"); err != nil {
		t.Fatal(err)
	}
	if raw, err = hex.DecodeString(strings.TrimSpace(string(want))); err != nil {
		t.Fatal(err)
	}
	older := exampleState()
	older.Stale, older.MembersLSN = false, 0
	if s, err = decodeSlot(raw, path, 0); err != nil || !sameState(s, older) {
		t.Errorf("version 2 decoded %+v, %v", s, err)
	}
}

// TestStateFlips: every flipped bit is detected, a version is never called corruption
// and corruption never a version.
func TestStateFlips(t *testing.T) {
	good := exampleState().encode()
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		_, err := decodeSlot(b, "x", 0)
		inVersions := bit/8 >= 4 && bit/8 < 8
		if !errors.Is(err, logcore.ErrCorrupt) && !(inVersions && errors.Is(err, logcore.ErrUnsupportedVersion)) {
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
	for n := range len(good) {
		if _, err := decodeSlot(good[:n], "x", 0); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestStateVersions(t *testing.T) {
	for name, c := range map[string]struct {
		set  map[int]byte
		want error
	}{
		"newer, readable": {map[int]byte{4: 4}, nil},
		"older":           {map[int]byte{4: 1, 6: 1}, logcore.ErrUnsupportedVersion},
		"newer":           {map[int]byte{4: 4, 6: 4}, logcore.ErrUnsupportedVersion},
		"flag":            {map[int]byte{8: 0x83}, logcore.ErrUnsupportedVersion},
		"minimum above":   {map[int]byte{6: 4}, logcore.ErrCorrupt},
	} {
		b := exampleState().encode()
		for at, v := range c.set {
			b[at] = v
		}
		_, err := decodeSlot(resum(b), "x", 0)
		if !errors.Is(err, c.want) || c.want == logcore.ErrUnsupportedVersion && errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOpenRefusesABadState(t *testing.T) {
	opts := testOptions(t.TempDir())
	openGroup(t, opts).Close()
	good, err := os.ReadFile(statePath(opts.Log.Dir))
	if err != nil {
		t.Fatal(err)
	}
	flipped, newer := bytes.Clone(good), bytes.Clone(good)
	for _, slot := range []int{0, slotBytes} {
		flipped[slot+33] ^= 1
		newer[slot+4], newer[slot+6] = 4, 4
	}
	for _, c := range []struct {
		file []byte
		want error
	}{{flipped, logcore.ErrCorrupt}, {newer, logcore.ErrUnsupportedVersion}, {nil, logcore.ErrCorrupt}, {append(good, make([]byte, 1<<16)...), logcore.ErrCorrupt}} {
		if err := os.WriteFile(statePath(opts.Log.Dir), c.file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(testContext(t), opts); !errors.Is(err, c.want) {
			t.Errorf("state file of %d bytes: %v, want %v", len(c.file), err, c.want)
		}
		if err := CheckState(opts.Log.Dir); !errors.Is(err, c.want) {
			t.Errorf("check of a state file of %d bytes: %v, want %v", len(c.file), err, c.want)
		}
	}
	if err := os.WriteFile(statePath(opts.Log.Dir), good, 0o644); err != nil {
		t.Fatal(err)
	}
	other := opts
	other.Member = 2
	if _, err := Open(testContext(t), other); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("another member's directory: %v", err)
	}
	openGroup(t, opts)
}

// TestRaftEntries: what is stored comes back as the Raft entry it was.
func TestRaftEntries(t *testing.T) {
	index, term := uint64(12), uint64(3)
	draft := append(NewDraft(logcore.KindData, logcore.NewTxID(), 4), "body"...)
	draft.setTime(99)
	for _, r := range []*raftpb.Entry{
		{Index: &index, Term: &term, Data: draft},
		{Index: &index, Term: &term},
		{Index: &index, Term: &term, Type: raftpb.EntryConfChange.Enum(), Data: []byte("x")},
		{Index: &index, Term: &term, Type: raftpb.EntryConfChangeV2.Enum()},
	} {
		e, err := fromRaft(r, 98)
		if err != nil {
			t.Fatal(err)
		}
		if r.GetType() != raftpb.EntryNormal && (e.Kind != logcore.KindRaft || e.Time != 98) {
			t.Errorf("%v is stored as %+v", r, e)
		}
		back, err := toRaft(e)
		if err != nil || back.String() != r.String() {
			t.Errorf("%v came back as %v, %v", r, back, err)
		}
	}
	if _, err := toRaft(logcore.Entry{Kind: logcore.KindRaft, Payload: []byte{9}}); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("unknown sort: %v", err)
	}
}

func FuzzState(f *testing.F) {
	f.Add(exampleState().encode())
	one := soleMember(0, 1)
	one.seq = 1
	f.Add(one.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resum(b)} { // the checksum would keep the fuzzer out
			s, err := decodeSlot(b, "x", 0)
			if err == nil {
				again, err := decodeSlot(s.encode(), "x", 0)
				if err != nil || !sameState(s, again) {
					t.Fatalf("%x: %+v, %v", b, again, err)
				}
			} else if !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("untyped: %v", err)
			}
		}
	})
}

// resum returns b with a right checksum.
func resum(b []byte) []byte {
	if len(b) != slotBytes {
		return b
	}
	end := stateFixedBytes
	for i := range 4 {
		end += 8 * int(binary.LittleEndian.Uint16(b[56+2*i:]))
	}
	if end+4 > len(b) {
		return b
	}
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
	return b
}

// TestStateSlots: whichever slot is damaged, in whichever way, the other one serves; the
// damage is counted and mended, and only both together stop the member.
func TestStateSlots(t *testing.T) {
	opts := testOptions(t.TempDir())
	openGroup(t, opts).Close()
	path := statePath(opts.Log.Dir)
	good, err := os.ReadFile(path)
	if err != nil || len(good) != 2*slotBytes {
		t.Fatalf("%d bytes, %v", len(good), err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for slot := range 2 {
		for range 200 {
			b := bytes.Clone(good)
			b[slot*slotBytes+random.IntN(slotBytes)] ^= 1 << random.IntN(8)
			s, from, bad, err := decodeSlots(b, path)
			if err != nil || bad == nil || from != 1-slot || s.Term == 0 {
				t.Fatalf("slot %d damaged: %+v from slot %d, %v, %v", slot, s, from, bad, err)
			}
		}
		b := bytes.Clone(good)
		b[slot*slotBytes+33] ^= 4
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := CheckState(opts.Log.Dir); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("check with slot %d damaged: %v", slot, err)
		}
		opts.Log.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})
		term := openGroup(t, opts)
		var counted dto.Metric
		if err := opts.Log.Corruptions.Write(&counted); err != nil || counted.GetCounter().GetValue() != 1 {
			t.Errorf("damages counted: %v, %v; want 1", &counted, err)
		}
		term.Close()
		if err := CheckState(opts.Log.Dir); err != nil {
			t.Errorf("after a start: %v", err)
		}
		if good, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	copy(good, make([]byte, 8))
	copy(good[slotBytes:], make([]byte, 8))
	if _, _, _, err := decodeSlots(good, path); !errors.Is(err, logcore.ErrCorrupt) || !strings.Contains(err.Error(), "logcore restore") {
		t.Errorf("both damaged: %v", err)
	}
}

// TestStateTornSave: a save that a crash cut off after any number of bytes, in either
// slot, leaves the state before or the state that was to be saved; and only the latter
// once the save has returned, also when one slot is lost afterwards.
func TestStateTornSave(t *testing.T) {
	dir := t.TempDir()
	old := exampleState()
	if err := createState(dir, old); err != nil {
		t.Fatal(err)
	}
	sf, s, bad, err := openState(dir)
	if err != nil || bad != nil || s.Term != old.Term {
		t.Fatal(s, bad, err)
	}
	defer sf.close()
	for round := range uint64(4) {
		before, err := os.ReadFile(statePath(dir))
		if err != nil {
			t.Fatal(err)
		}
		next := s
		next.Term, next.Vote = s.Term+1, round+1
		firstSlot := sf.first
		if err := sf.Save(next); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(statePath(dir))
		if err != nil {
			t.Fatal(err)
		}
		torn := bytes.Clone(before)
		for step, slot := range []int{firstSlot, 1 - firstSlot} {
			for n := range slotBytes {
				torn[slot*slotBytes+n] = after[slot*slotBytes+n]
				got, _, _, err := decodeSlots(torn, "x")
				if err != nil || got.Term != s.Term && got.Term != next.Term || step == 1 && got.Term != next.Term {
					t.Fatalf("round %d, slot %d cut after %d bytes: %+v, %v", round, slot, n+1, got, err)
				}
			}
		}
		for slot := range 2 {
			lost := bytes.Clone(after)
			copy(lost[slot*slotBytes:], make([]byte, slotBytes))
			if got, _, _, err := decodeSlots(lost, "x"); err != nil || got.Term != next.Term || got.Vote != next.Vote {
				t.Fatalf("slot %d lost: %+v, %v", slot, got, err)
			}
		}
		s = next
	}
}
