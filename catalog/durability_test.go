package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/logcore/logcore"
)

// A log keeps its durability through commands and checkpoints; the fixture pins the bytes.
func TestDurability(t *testing.T) {
	f := &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	s := NewState()
	var out bytes.Buffer
	for _, c := range []Command{
		{Op: OpIncarnation, Incarnation: 7},
		{Op: OpCreate, Log: 1, Name: "fast"},
		{Op: OpCreate, Log: 2, Name: "safe", Durability: DurabilityArchive},
	} {
		e := f.command(c)
		if err := s.Apply(e); err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeCommand(e.Payload); err != nil || back != c {
			t.Fatalf("%+v, %v", back, err)
		}
		fmt.Fprintf(&out, "command %x\n", e.Payload)
	}
	checkpoint := s.EncodeCheckpoint()
	fmt.Fprintf(&out, "checkpoint %x\n", checkpoint)
	const path = "testdata/v2-durability.golden.txt"
	if *rewrite {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden, err := os.ReadFile(path); err != nil || string(golden) != out.String() {
		t.Fatalf("not as %s (%v):\n%s", path, err, out.String())
	}
	loaded, err := DecodeCheckpoint(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Durability{"fast": DurabilityQuorum, "safe": DurabilityArchive} {
		if l, err := loaded.ByName(name); err != nil || l.Durability != want {
			t.Errorf("%s: %v, %v", name, l, err)
		}
		if d, err := ParseDurability(want.String()); err != nil || d != want {
			t.Errorf("%v: %v, %v", want, d, err)
		}
	}
	if _, err := ParseDurability("none"); !errors.Is(err, logcore.ErrInvalid) {
		t.Error(err)
	}
	other := Command{Op: OpTruncate, Log: 1, LSN: 5}.Encode()
	other[4] = commandFlagArchive
	if _, err := DecodeCommand(other); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("a truncate with a durability: %v", err)
	}
}
