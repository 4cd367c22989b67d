package wire

import (
	"testing"

	"google.golang.org/grpc/mem"
)

// TestBuffers: a buffer has the length that was asked for, whatever was put back before, and is used again.
func TestBuffers(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1024, 1025, 5000, 1 << 20, 4 << 20, 4<<20 + 1} {
		b := Buffers.Get(n)
		if len(*b) != n {
			t.Fatalf("%d bytes, want %d", len(*b), n)
		}
		grown := append(*b, make([]byte, 777)...) // it may have been exchanged for a longer one of any capacity
		Buffers.Put(&grown)
		short := make([]byte, 3)
		Buffers.Put(&short)
	}
	for n := range 3000 {
		if b := Buffers.Get(n); len(*b) != n {
			t.Fatalf("%d bytes, want %d", len(*b), n)
		} else {
			Buffers.Put(b)
		}
	}
}

// TestRawReceives: a message that comes in one buffer or in several is the same, and neither is read after Free.
func TestRawReceives(t *testing.T) {
	parts := []string{"some ", "message, ", "in three parts"}
	for _, cuts := range [][]string{parts, {parts[0] + parts[1] + parts[2]}, {}} {
		var data mem.BufferSlice
		want := ""
		for _, p := range cuts {
			b := Buffers.Get(len(p))
			copy(*b, p)
			data = append(data, mem.NewBuffer(b, Buffers))
			want += p
		}
		var r Raw
		for range 2 {
			if err := (Codec{}).Unmarshal(data, &r); err != nil || string(r.Bytes()) != want {
				t.Fatalf("%v: %q, want %q", err, r.Bytes(), want)
			}
		}
		data.Free()
		if string(r.Bytes()) != want {
			t.Fatalf("%q after gRPC let go of it, want %q", r.Bytes(), want)
		}
		r.Free()
		if r.Bytes() != nil {
			t.Fatal("there is a message after Free")
		}
	}
}
