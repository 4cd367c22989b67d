package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TestPagesOnTheWire: what is written without copies is, byte for byte, what the
// generated code writes, zeros and pages of any size included; and the buffers that were
// cut off stay what they were while the rest is written.
func TestPagesOnTheWire(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	number := func() uint64 { return rng.Uint64() >> rng.IntN(65) } // 0 at times
	apart := 0
	for range 2000 {
		m := &logcorev1.GetPagesResponse{Lsn: number(), Incarnation: number()}
		for range rng.IntN(40) {
			data := make([]byte, []int{0, 1, 100, apartMin - 1, apartMin, 4096}[rng.IntN(6)])
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			if len(data) == 0 {
				data = nil
			}
			m.Pages = append(m.Pages, &logcorev1.Page{Page: uint32(number()), Data: data, Digest: number(), LastLsn: number()})
		}
		buffers, err := Codec{}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		apart = max(apart, len(buffers))
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := buffers.Materialize(); !bytes.Equal(got, want) {
			t.Fatalf("%d pages: %d bytes differ from the generated code's %d", len(m.Pages), len(got), len(want))
		}
		got := new(logcorev1.GetPagesResponse)
		if err := (Codec{}).Unmarshal(buffers, got); err != nil || !proto.Equal(got, m) {
			t.Fatalf("read back: %v", err)
		}
	}
	if apart < 10 {
		t.Errorf("at most %d buffers a message: nothing was sent from where it is", apart)
	}
}

func BenchmarkMarshalPages(b *testing.B) {
	m := &logcorev1.GetPagesResponse{Lsn: 1 << 20, Incarnation: 1 << 60}
	for n := range 32 {
		m.Pages = append(m.Pages, &logcorev1.Page{Page: uint32(n), Data: make([]byte, 4096), Digest: 1 << 60, LastLsn: 1 << 20})
	}
	b.Run("apart", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buffers, _ := Codec{}.Marshal(m)
			buffers.Free()
		}
	})
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			proto.Marshal(m)
		}
	})
}
