package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// stripesStory is a history with every kind of change of the stripe map, and the state
// it leads to.
func stripesStory(t testing.TB) ([]logcore.Entry, *State) {
	t.Helper()
	f := &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	change := func(c stripemap.Change) logcore.Entry { return f.command(Command{Op: OpPageServers, Stripes: c}) }
	half := stripemap.Set{0: ^uint64(0), 1: ^uint64(0)}
	entries := []logcore.Entry{
		f.command(Command{Op: OpIncarnation, Incarnation: 7}),
		change(stripemap.Change{Kind: stripemap.Put, Server: 1 << 62, Address: "pages-1.example:7421"}),
		change(stripemap.Change{Kind: stripemap.Put, Server: 9, Address: "pages-2.example:7421"}),
		change(stripemap.Change{Kind: stripemap.Put, Server: 4, Address: "pages-3.example:7421"}),
		change(stripemap.Change{Kind: stripemap.Join, Server: 1 << 62, Stripes: stripemap.All}),
		change(stripemap.Change{Kind: stripemap.Own, Server: 1 << 62, Stripes: stripemap.All}),
		change(stripemap.Change{Kind: stripemap.Join, Server: 9, Stripes: half.With(255)}),
		change(stripemap.Change{Kind: stripemap.Own, Server: 9, Stripes: half}),
		change(stripemap.Change{Kind: stripemap.Leave, Server: 1 << 62, Stripes: half}),
		change(stripemap.Change{Kind: stripemap.Owners, Count: 2}),
		change(stripemap.Change{Kind: stripemap.Remove, Server: 4}),
		change(stripemap.Change{Kind: stripemap.Put, Server: 1 << 62, Address: "10.0.0.1:7421", Draining: true}),
	}
	s := NewState()
	for i, e := range entries {
		if i > 0 {
			c, err := DecodeCommand(e.Payload)
			if err != nil || !bytes.Equal(c.Encode(), e.Payload) {
				t.Fatalf("entry %d: %+v, %v", i, c, err)
			}
		}
		if err := s.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	return entries, s
}

// TestPageServers: page servers come, take stripes over, give them up and go, and a
// checkpoint holds it; the fixture pins the bytes.
func TestPageServers(t *testing.T) {
	entries, s := stripesStory(t)
	half := stripemap.Set{0: ^uint64(0), 1: ^uint64(0)}
	want := stripemap.Map{Generation: uint64(s.LSN), Incarnation: 7, Owners: 2, Servers: []stripemap.Server{
		{ID: 9, Address: "pages-2.example:7421", Owns: half, Joins: stripemap.Set{}.With(255)},
		{ID: 1 << 62, Address: "10.0.0.1:7421", Draining: true, Owns: stripemap.All.Without(half)}}}
	if got := s.Stripes(); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v\nwant %+v", got, want)
	}
	var out bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&out, "command %x\n", e.Payload)
	}
	checkpoint := s.EncodeCheckpoint()
	fmt.Fprintf(&out, "checkpoint %x\n", checkpoint)
	const path = "testdata/v2-page-servers.golden.txt"
	if *rewrite {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden, err := os.ReadFile(path); err != nil || string(golden) != out.String() {
		t.Fatalf("not as %s (%v):\n%s", path, err, out.String())
	}
	loaded, err := DecodeCheckpoint(checkpoint)
	if err != nil || !reflect.DeepEqual(loaded.Stripes(), want) {
		t.Fatalf("loaded %+v, %v", loaded, err)
	}
	for n := range len(checkpoint) {
		if _, err := DecodeCheckpoint(checkpoint[:n]); err == nil {
			t.Fatalf("cut to %d bytes decodes", n)
		}
	}
	clone := s.Clone()
	gone := Command{Op: OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Leave, Server: 9, Stripes: stripemap.Set{}.With(255)}}
	if err := clone.Apply(logcore.Entry{LSN: s.LSN + 1, Kind: logcore.KindCatalog, Time: s.Time + 1, Payload: gone.Encode()}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Stripes(), want) {
		t.Fatal("a clone shares the map")
	}
	// What page servers of a shard have that was restored since has to be shown anew; how
	// many are wanted stays.
	if err := s.Apply(logcore.Entry{LSN: s.LSN + 1, Kind: logcore.KindCatalog, Time: s.Time + 1, Payload: Command{Op: OpIncarnation, Incarnation: 8}.Encode()}); err != nil {
		t.Fatal(err)
	}
	if m := s.Stripes(); len(m.Servers) != 0 || m.Owners != 2 || m.Incarnation != 8 {
		t.Fatalf("after a restore: %+v", m)
	}
}

func TestPageServerCommandsThatAreRefused(t *testing.T) {
	_, s := stripesStory(t)
	bare := Command{Op: OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Leave, Server: 1 << 62, Stripes: stripemap.Set{}.With(200)}}
	if err := s.Check(bare, s.LSN+1); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("the last owner leaves: %v", err)
	}
	put := Command{Op: OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Put, Server: 5, Address: "a:1"}}.Encode()
	for name, damage := range map[string]func(b []byte){
		"kind 0":               func(b []byte) { b[16] = 0 },
		"an LSN":               func(b []byte) { b[24] = 1 },
		"a parent":             func(b []byte) { b[32] = 1 },
		"a set of three bytes": func(b []byte) { b[16] = byte(stripemap.Join) },
		"a node drains":        func(b []byte) { b[4], b[5] = 2, byte(OpNode) },
	} {
		b := bytes.Clone(put)
		damage(b)
		if _, err := DecodeCommand(b); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := bytes.Clone(put)
	b[16] = 77
	if _, err := DecodeCommand(b); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("an unknown kind: %v", err)
	}
}
