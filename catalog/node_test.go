package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/logcore/logcore"
)

// nodesStory is a history of nodes, and the state it leads to.
func nodesStory(t *testing.T) ([]logcore.Entry, *State) {
	t.Helper()
	f := &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	entries := []logcore.Entry{
		f.command(Command{Op: OpIncarnation, Incarnation: 7}),
		f.command(Command{Op: OpNode, Node: 1 << 62, Name: "db-1.example:7420", Writer: "10.0.0.1:7422"}),
		f.command(Command{Op: OpNode, Node: 9, Name: "db-2.example:7420", Writer: "10.0.0.2:7422"}),
		f.command(Command{Op: OpNode, Node: 5, Name: "db-3.example:7420", Writer: "10.0.0.3:7422"}),
		f.command(Command{Op: OpNode, Node: 9, Name: "db-2.example:7420", Writer: "10.0.0.22:7422"}),
		f.command(Command{Op: OpNode, Node: 5}),
	}
	s := NewState()
	for _, e := range entries {
		if err := s.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	return entries, s
}

// TestNodes: nodes come, move and go, and a checkpoint holds them; the fixture pins the bytes.
func TestNodes(t *testing.T) {
	entries, s := nodesStory(t)
	want := []Node{{9, "db-2.example:7420", "10.0.0.22:7422"}, {1 << 62, "db-1.example:7420", "10.0.0.1:7422"}}
	if got := s.Nodes(); !slices.Equal(got, want) {
		t.Fatalf("nodes %+v, want %+v", got, want)
	}
	if n, ok := s.Node(9); !ok || n != want[0] {
		t.Fatalf("node 9: %+v, %v", n, ok)
	}
	var out bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&out, "command %x\n", e.Payload)
	}
	checkpoint := s.EncodeCheckpoint()
	fmt.Fprintf(&out, "checkpoint %x\n", checkpoint)
	const path = "testdata/v2-nodes.golden.txt"
	if *rewrite {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden, err := os.ReadFile(path); err != nil || string(golden) != out.String() {
		t.Fatalf("not as %s (%v):\n%s", path, err, out.String())
	}
	loaded, err := DecodeCheckpoint(checkpoint)
	if err != nil || !slices.Equal(loaded.Nodes(), want) {
		t.Fatalf("loaded %+v, %v", loaded, err)
	}
	for n := range len(checkpoint) {
		if _, err := DecodeCheckpoint(checkpoint[:n]); err == nil {
			t.Fatalf("cut to %d bytes decodes", n)
		}
	}
	clone := s.Clone()
	if err := clone.Apply(logcore.Entry{LSN: s.LSN + 1, Kind: logcore.KindCatalog, Time: s.Time + 1, Payload: Command{Op: OpNode, Node: 9}.Encode()}); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Node(9); !ok {
		t.Fatal("a clone shares the nodes")
	}
	// A restored shard is a group of one.
	if err := s.Apply(logcore.Entry{LSN: s.LSN + 1, Kind: logcore.KindCatalog, Time: s.Time + 1, Payload: Command{Op: OpIncarnation, Incarnation: 8}.Encode()}); err != nil {
		t.Fatal(err)
	}
	if len(s.Nodes()) != 0 || s.EncodeCheckpoint()[8] != 0 {
		t.Fatalf("nodes of the cluster before: %v", s.Nodes())
	}
}

func TestNodesThatAreRefused(t *testing.T) {
	_, s := nodesStory(t)
	for name, c := range map[string]Command{
		"node 0":            {Op: OpNode, Name: "a:1", Writer: "b:1"},
		"a stranger leaves": {Op: OpNode, Node: 77},
		"no address":        {Op: OpNode, Node: 9, Writer: "b:1"},
		"no peer address":   {Op: OpNode, Node: 9, Name: "b:1"},
		"no port":           {Op: OpNode, Node: 9, Name: "b:1", Writer: "b"},
		"taken":             {Op: OpNode, Node: 11, Name: "b:1", Writer: "10.0.0.22:7422"},
		"too long":          {Op: OpNode, Node: 9, Name: "b:1", Writer: strings.Repeat("b", NodeAddressMax) + ":1"},
	} {
		if err := s.Check(c, s.LSN+1); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range NodesMax {
		c := Command{Op: OpNode, Node: uint64(100 + i), Name: "a:1", Writer: fmt.Sprintf("10.1.%d.%d:1", i/250, i%250)}
		err := s.Check(c, s.LSN+1)
		if err == nil {
			s.applyNode(c)
		}
		if want := len(s.Nodes()) == NodesMax && i >= NodesMax-2; want != errors.Is(err, logcore.ErrTooLarge) {
			t.Fatalf("node %d of %d: %v", i, len(s.Nodes()), err)
		}
	}
}
