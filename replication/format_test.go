package replication

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; read the diff")

func exampleState() memberState {
	autoLeave := true
	return memberState{Shard: 7, Member: 2, Incarnation: 0x1122334455667788, AnnounceIncarnation: true, Term: 9, Vote: 3, Commit: 1 << 40,
		Members: &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, VotersOutgoing: []uint64{1, 2}, LearnersNext: []uint64{5}, AutoLeave: &autoLeave}}
}

func sameState(a, b memberState) bool {
	members := a.Members.Equivalent(b.Members) == nil
	a.Members, b.Members = nil, nil
	return members && a == b
}

// TestGoldenState holds the encoder byte for byte against format version 1, and the
// decoder against the fixture.
func TestGoldenState(t *testing.T) {
	const path = "testdata/raft.state.v1.golden"
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
	s, err := decodeState(raw, path)
	if err != nil || !sameState(s, exampleState()) {
		t.Errorf("decoded %+v, %v", s, err)
	}
}

// TestStateFlips: every flipped bit is detected, a version is never called corruption
// and corruption never a version.
func TestStateFlips(t *testing.T) {
	good := exampleState().encode()
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		_, err := decodeState(b, "x")
		inVersions := bit/8 >= 4 && bit/8 < 8
		if !errors.Is(err, logcore.ErrCorrupt) && !(inVersions && errors.Is(err, logcore.ErrUnsupportedVersion)) {
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
	for n := range len(good) {
		if _, err := decodeState(good[:n], "x"); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestStateVersions(t *testing.T) {
	for name, c := range map[string]struct {
		set  map[int]byte
		want error
	}{
		"newer, readable": {map[int]byte{4: 2}, nil},
		"newer":           {map[int]byte{4: 2, 6: 2}, logcore.ErrUnsupportedVersion},
		"flag":            {map[int]byte{8: 0x83}, logcore.ErrUnsupportedVersion},
		"minimum above":   {map[int]byte{6: 2}, logcore.ErrCorrupt},
	} {
		b := exampleState().encode()
		for at, v := range c.set {
			b[at] = v
		}
		_, err := decodeState(resum(b), "x")
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
	flipped[33] ^= 1
	newer[4], newer[6] = 2, 2
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
	f.Add(soleMember(0, 1).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resum(b)} { // the checksum would keep the fuzzer out
			s, err := decodeState(b, "x")
			if err == nil {
				again, err := decodeState(s.encode(), "x")
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
	if len(b) < 4 {
		return b
	}
	return appendSum(bytes.Clone(b[:len(b)-4]))
}
