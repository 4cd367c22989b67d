package page_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
)

func TestEdit(t *testing.T) {
	p := bytes.Repeat([]byte{0xFF}, 16)
	e := page.Edit(nil).Clear(2, 4).Bits(5, 0xF0, 0x03).Write(8, []byte("ab")).WriteU32(12, 0x04030201)
	if err := e.Apply(p); err != nil {
		t.Fatal(err)
	}
	want := []byte{0xFF, 0xFF, 0, 0, 0xFF, 0xF3, 0xFF, 0xFF, 'a', 'b', 0xFF, 0xFF, 1, 2, 3, 4}
	if !bytes.Equal(p, want) {
		t.Errorf("%x, want %x", p, want)
	}
	again := bytes.Clone(p)
	if err := append(e, e...).Apply(again); err != nil || !bytes.Equal(again, want) {
		t.Errorf("twice: %x, %v", again, err)
	}
	for _, bad := range []page.Edit{{9, 0, 0, 0, 0}, {1, 0}, page.Edit(nil).Clear(3, 2), page.Edit(nil).Clear(0, 17), page.Edit(nil).Bits(16, 0, 0), page.Edit(nil).Write(15, []byte{1, 2}), e[:len(e)-1]} {
		if err := bad.Apply(bytes.Clone(p)); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%x: %v", []byte(bad), err)
		}
	}
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(page.Edit(nil).Clear(2, 4).Bits(5, 0xF0, 0x03).Write(8, []byte("ab"))))
	f.Fuzz(func(t *testing.T, e []byte) {
		p := make([]byte, page.Bytes)
		_ = page.Edit(e).Apply(p)
	})
}
