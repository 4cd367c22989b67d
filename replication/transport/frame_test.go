package transport

import (
	"errors"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

func someNumber(rng *rand.Rand) *uint64 {
	if rng.IntN(4) == 0 {
		return nil
	}
	v := rng.Uint64() >> rng.IntN(64)
	return &v
}

func someBytes(rng *rand.Rand, most int) []byte {
	if rng.IntN(4) == 0 {
		return nil
	}
	b := make([]byte, rng.IntN(most))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// someMessage is a message of any type with any of its fields; few have a snapshot.
func someMessage(rng *rand.Rand) *raftpb.Message {
	m := &raftpb.Message{To: someNumber(rng), From: someNumber(rng), Term: someNumber(rng), LogTerm: someNumber(rng), Index: someNumber(rng),
		Commit: someNumber(rng), Vote: someNumber(rng), RejectHint: someNumber(rng), Context: someBytes(rng, 20)}
	if rng.IntN(4) > 0 {
		m.Type = raftpb.MessageType(rng.IntN(int(raftpb.MsgForgetLeader) + 1)).Enum()
	}
	if rng.IntN(2) == 0 {
		m.Reject = proto.Bool(rng.IntN(2) == 0)
	}
	if rng.IntN(8) == 0 {
		m.Snapshot = &raftpb.Snapshot{Data: someBytes(rng, 9), Metadata: &raftpb.SnapshotMetadata{Index: someNumber(rng), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}}}}
	}
	for range rng.IntN(5) {
		e := &raftpb.Entry{Term: someNumber(rng), Index: someNumber(rng), Data: someBytes(rng, 300)}
		if rng.IntN(2) == 0 {
			e.Type = raftpb.EntryType(rng.IntN(3)).Enum()
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

// someFrame returns messages of groups, and the frame with them as the generated code writes it.
func someFrame(t testing.TB, rng *rand.Rand) (*logcorev1.ConnectRequest, []*raftpb.Message, []byte) {
	t.Helper()
	frame := &logcorev1.ConnectRequest{}
	var messages []*raftpb.Message
	for range rng.IntN(4) {
		m := someMessage(rng)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
		frame.Messages = append(frame.Messages, &logcorev1.GroupMessage{Shard: uint32(rng.IntN(3)), Message: b})
	}
	b, err := proto.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	return frame, messages, b
}

// TestFramesAreProtobuf: what is encoded by hand is what the generated code makes of it, both ways, and of the size
// that was said before; what was decoded has nothing of the frame's memory.
func TestFramesAreProtobuf(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		frame, messages, want := someFrame(t, rng)
		var b []byte
		for i, m := range messages {
			size, _, _ := groupSize(logcore.ShardID(frame.Messages[i].Shard), m)
			before := len(b)
			var err error
			if b, err = appendGroup(b, logcore.ShardID(frame.Messages[i].Shard), m); err != nil || len(b)-before != size {
				t.Fatalf("seed %d: %v, %d bytes for a message of %d: %v", seed, err, len(b)-before, size, m)
			}
		}
		got := &logcorev1.ConnectRequest{}
		if err := proto.Unmarshal(b, got); err != nil || len(got.Messages) != len(messages) {
			t.Fatalf("seed %d: %v: %d messages of %d", seed, err, len(got.Messages), len(messages))
		}
		for i, g := range got.Messages {
			m := &raftpb.Message{}
			if err := proto.Unmarshal(g.Message, m); err != nil || !proto.Equal(m, messages[i]) || g.Shard != frame.Messages[i].Shard {
				t.Fatalf("seed %d: %v: encoded %v\nas %v", seed, err, messages[i], m)
			}
		}
		var read []*raftpb.Message
		err := readFrame(want, func(shard logcore.ShardID, m *raftpb.Message) error {
			if uint32(shard) != frame.Messages[len(read)].Shard {
				t.Fatalf("seed %d: shard %d, want %d", seed, shard, frame.Messages[len(read)].Shard)
			}
			read = append(read, m)
			return nil
		})
		clear(want)
		if err != nil || len(read) != len(messages) {
			t.Fatalf("seed %d: %v, %d messages of %d", seed, err, len(read), len(messages))
		}
		for i, m := range read {
			if !proto.Equal(m, messages[i]) {
				t.Fatalf("seed %d: decoded %v\nas %v", seed, messages[i], m)
			}
		}
	}
}

// FuzzReadFrame: whatever the generated code understands is understood in the same way, and nothing makes the reader
// panic.
func FuzzReadFrame(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		_, _, b := someFrame(f, rng)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got []*raftpb.Message
		err := readFrame(b, func(_ logcore.ShardID, m *raftpb.Message) error {
			got = append(got, m)
			return nil
		})
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Fatalf("error %v", err)
		}
		want := &logcorev1.ConnectResponse{}
		if proto.Unmarshal(b, want) != nil {
			return
		}
		for i, g := range want.Messages {
			m := &raftpb.Message{}
			if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(g.Message, m) != nil {
				return
			}
			if err != nil || i >= len(got) {
				t.Fatalf("refused what is a message: %v", err)
			}
			plain := &raftpb.Message{}
			known, _ := proto.Marshal(got[i])
			if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(known, plain) != nil || !proto.Equal(plain, m) {
				t.Fatalf("decoded %v\nas %v", m, plain)
			}
		}
	})
}
