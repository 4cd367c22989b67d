package catalog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/logcore/logcore"
)

// An erased record decodes to what it was, without the body, and the fold of a log with
// such records comes to the same checkpoint.
func TestErasedRecord(t *testing.T) {
	r := Record{Log: 1, Epoch: 2, Sequence: 3, Position: []byte("0/1"), Erased: true, ErasedBytes: 4711, Filler: [4]byte{1, 2, 3, 4}}
	b := r.Append(nil)
	got, err := DecodeRecord(b)
	if err != nil || !got.Erased || got.BodyBytes() != 4711 || len(got.Body) != 0 || got.Filler != r.Filler || got.Size() != len(b) || !bytes.Equal(got.Append(nil), b) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range [][]byte{b[:len(b)-1], append(bytes.Clone(b), 0)} {
		if _, err := DecodeRecord(bad); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	entries := story()
	want := fold(t, NewState(), entries).EncodeCheckpoint()
	for i, e := range entries {
		if !e.Kind.OfLog() {
			continue
		}
		whole, err := DecodeRecord(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		whole.Erased, whole.ErasedBytes, whole.Body = true, whole.BodyBytes(), nil
		entries[i].Payload, entries[i].Kind = whole.Append(nil), logcore.KindAbort
	}
	if got := fold(t, NewState(), entries).EncodeCheckpoint(); !bytes.Equal(got, want) {
		t.Error("the fold of erased entries differs")
	}
}
