package replication

import (
	"fmt"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

// TestLargeCatalog: when the catalog is larger than a segment, segments grow: most of
// what is written is still what was appended, and a restart changes nothing about it.
func TestLargeCatalog(t *testing.T) {
	ctx := testContext(t)
	opts := Options{Log: hotlog.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10}}
	g := openGroup(t, opts)
	for i := range 150 {
		if err := g.Do(ctx, 256*120, func(p *Proposer) error {
			id := p.Catalog().NextLog()
			if _, err := p.Command(catalog.Command{Op: catalog.OpCreate, Log: id, Name: fmt.Sprint("l", i)}); err != nil {
				return err
			}
			if _, err := p.Command(catalog.Command{Op: catalog.OpOpenWriter, Log: id, Epoch: 1}); err != nil {
				return err
			}
			for s := range uint64(catalog.WindowEntries) {
				p.Propose(dataDraft(id, 1, s+1, []byte("x")))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var checkpoint int
	g.View(func(s *catalog.State) { checkpoint = len(s.EncodeCheckpoint()) })
	if checkpoint < int(opts.Log.SegmentBytes) {
		t.Fatalf("void: a checkpoint of %d bytes fits into a segment", checkpoint)
	}
	for range 2 {
		from := g.Committed()
		for range 300 {
			if _, err := appendOne(g, ctx, 1, make([]byte, 16<<10)); err != nil {
				t.Fatal(err)
			}
		}
		var all, checkpoints int
		for _, e := range readAll(t, g) {
			if e.LSN <= from {
				continue
			}
			all += len(e.Payload)
			if e.Kind == logcore.KindCheckpoint {
				checkpoints += len(e.Payload)
			}
		}
		if checkpoints == 0 || checkpoints*(checkpointShare+1) > all+checkpoint*(checkpointShare+1) {
			t.Fatalf("checkpoints are %d of %d bytes, one has %d", checkpoints, all, checkpoint)
		}
		g.Close()
		g = openGroup(t, opts)
	}
	checkLog(t, g)
}
