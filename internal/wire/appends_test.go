package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// encodeAppends is the hand-made encoding of a request.
func encodeAppends(req *logcorev1.AppendLogsRequest) []byte {
	var b []byte
	for _, a := range req.Appends {
		size := 0
		entries := make([]Entry, len(a.Entries))
		for i, e := range a.Entries {
			entries[i] = Entry{e.Sequence, int32(e.Kind), e.TransactionId, e.Payload, e.PayloadCrc32C, e.EnginePosition}
			size += entries[i].Size()
		}
		b = BeginAppend(b, &LogAppend{Channel: a.Channel, Log: a.Log, Epoch: a.Epoch, Incarnation: a.Incarnation}, size)
		for i := range entries {
			b = AppendEntry(b, &entries[i])
		}
	}
	return b
}

func decodeAppends(b []byte) (*logcorev1.AppendLogsRequest, error) {
	req := &logcorev1.AppendLogsRequest{}
	var r AppendsReader
	appends, err := r.Read(b)
	for _, a := range appends {
		out := &logcorev1.LogAppend{Channel: a.Channel, Log: a.Log, Epoch: a.Epoch, Incarnation: a.Incarnation}
		for _, e := range a.Entries {
			out.Entries = append(out.Entries, &logcorev1.NewEntry{Sequence: e.Sequence, Kind: logcorev1.EntryKind(e.Kind), TransactionId: e.Tx,
				Payload: e.Payload, PayloadCrc32C: e.CRC32C, EnginePosition: e.Position})
		}
		req.Appends = append(req.Appends, out)
	}
	return req, err
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

func someNumber(rng *rand.Rand) uint64 {
	if rng.IntN(5) == 0 {
		return 0
	}
	return rng.Uint64() >> rng.IntN(64)
}

func someRequest(rng *rand.Rand) *logcorev1.AppendLogsRequest {
	req := &logcorev1.AppendLogsRequest{}
	for range rng.IntN(4) {
		a := &logcorev1.LogAppend{Channel: uint32(someNumber(rng)), Log: fmt.Sprintf("%.*s", rng.IntN(9), "some-log"), Epoch: someNumber(rng), Incarnation: someNumber(rng)}
		for range rng.IntN(4) {
			a.Entries = append(a.Entries, &logcorev1.NewEntry{Sequence: someNumber(rng), Kind: logcorev1.EntryKind(rng.IntN(5)), TransactionId: someBytes(rng, 20),
				Payload: someBytes(rng, 300), PayloadCrc32C: uint32(someNumber(rng)), EnginePosition: someBytes(rng, 20)})
		}
		req.Appends = append(req.Appends, a)
	}
	return req
}

// TestAppendsAreProtobuf: what is encoded by hand is what the generated code makes of it,
// both ways.
func TestAppendsAreProtobuf(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		want := someRequest(rng)
		got := &logcorev1.AppendLogsRequest{}
		if err := proto.Unmarshal(encodeAppends(want), got); err != nil || !proto.Equal(got, want) {
			t.Fatalf("seed %d: %v: encoded %v\nas %v", seed, err, want, got)
		}
		b, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = decodeAppends(b); err != nil || !proto.Equal(got, want) {
			t.Fatalf("seed %d: %v: decoded %v\nas %v", seed, err, want, got)
		}
	}
}

// FuzzAppendsReader: whatever the generated code understands, the reader understands in the
// same way, and nothing makes it panic.
func FuzzAppendsReader(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b, _ := proto.Marshal(someRequest(rng))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeAppends(b)
		if err != nil && !errors.Is(err, logcore.ErrInvalid) {
			t.Fatalf("error %v", err)
		}
		want := &logcorev1.AppendLogsRequest{}
		if proto.Unmarshal(b, want) != nil {
			return
		}
		if err != nil {
			t.Fatalf("refused what is a message: %v", err)
		}
		proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, want)
		if !proto.Equal(got, want) {
			t.Fatalf("decoded %v\nas %v", want, got)
		}
	})
}

// FuzzAppendedReader is the same for the answers.
func FuzzAppendedReader(f *testing.F) {
	b := AppendAppended(nil, &LogAppended{Channel: 1, Through: 300, LSNs: []uint64{7, 1 << 40}, Times: []uint64{1 << 50, 3}, PauseMs: 7})
	f.Add(AppendRefused(b, 2, fmt.Errorf("%w: no", logcore.ErrFenced), "a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := &logcorev1.AppendLogsResponse{}
		var r AppendedReader
		err := r.Read(b, func(a *LogAppended) error {
			got.Appends = append(got.Appends, &logcorev1.LogAppended{Channel: a.Channel, ThroughSequence: a.Through,
				Lsns: append([]uint64(nil), a.LSNs...), Times: append([]uint64(nil), a.Times...), AdvisedPauseMs: a.PauseMs})
			return nil
		})
		if err != nil {
			if !errors.Is(err, logcore.ErrInvalid) {
				t.Fatalf("error %v", err)
			}
			return
		}
		want := &logcorev1.AppendLogsResponse{}
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, want) != nil {
			return
		}
		for _, a := range want.Appends {
			a.Code, a.Message, a.Detail = 0, "", nil
		}
		if !proto.Equal(got, want) {
			t.Fatalf("decoded %v\nas %v", want, got)
		}
	})
}

// TestAppendedIsProtobuf: places and errors arrive as they were.
func TestAppendedIsProtobuf(t *testing.T) {
	places := &LogAppended{Channel: 3, Through: 1 << 33, LSNs: []uint64{1, 0, 1 << 63}, Times: []uint64{0, 5, 1 << 20}, PauseMs: 250}
	b := AppendRefused(AppendAppended(nil, places), 9, fmt.Errorf("append: %w", logcore.ErrSequenceGap), "some-log")
	msg := &logcorev1.AppendLogsResponse{}
	if err := proto.Unmarshal(b, msg); err != nil {
		t.Fatal(err)
	}
	if got := msg.Appends[1]; got.Detail.GetLog() != "some-log" || got.Code == 0 || got.Message != "append: "+logcore.ErrSequenceGap.Error() {
		t.Errorf("refusal: %v", got)
	}
	again, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var r AppendedReader
	err = r.Read(again, func(a *LogAppended) error {
		n++
		switch a.Channel {
		case 3:
			if a.Err != nil || a.Through != places.Through || a.PauseMs != places.PauseMs || fmt.Sprint(a.LSNs, a.Times) != fmt.Sprint(places.LSNs, places.Times) {
				t.Errorf("places: %+v", a)
			}
		case 9:
			var remote *RemoteError
			if !errors.Is(a.Err, logcore.ErrSequenceGap) || !errors.As(a.Err, &remote) || remote.Detail.GetLog() != "some-log" {
				t.Errorf("refusal: %v", a.Err)
			}
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
}
