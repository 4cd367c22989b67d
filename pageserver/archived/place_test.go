package archived

import (
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// folded is a catalog and how entries get into it.
type folded struct {
	*catalog.State
	t *testing.T
}

func (f folded) command(c catalog.Command) {
	f.t.Helper()
	e := logcore.Entry{LSN: f.LSN + 1, Time: f.Time + 1, Kind: logcore.KindCatalog, Payload: c.Encode()}
	if err := f.Apply(e); err != nil {
		f.t.Fatal(err)
	}
}

func (f folded) place(shard logcore.ShardID) place {
	f.t.Helper()
	l, err := f.ByID(1)
	if err != nil {
		f.t.Fatal(err)
	}
	p, err := placeOf(f.State, l, shard)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// TestPlaceEndsWithTheCatalog: nothing is said of what comes behind what the catalog knows: the log may have left there, and
// what the shard has of it then is nothing.
func TestPlaceEndsWithTheCatalog(t *testing.T) {
	zero, one := folded{catalog.NewState(), t}, folded{catalog.NewState(), t}
	zero.command(catalog.Command{Op: catalog.OpCreate, Log: 1, Name: "db"})
	zero.command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: 1})
	p := zero.place(0)
	if len(p.extents) != 1 || p.extents[0].Last != zero.LSN || p.moves != 0 {
		t.Errorf("before it left: %+v, the catalog ends at %d", p, zero.LSN)
	}
	zero.command(catalog.Command{Op: catalog.OpLeave, Log: 1, Gen: 1, Shard: 1})
	left := zero.LSN
	root, _ := zero.ByID(1)
	family, err := zero.Departed(root, 0)
	if err != nil {
		t.Fatal(err)
	}
	one.command(catalog.Command{Op: catalog.OpOwn, Shard: 1})
	one.command(catalog.Command{Op: catalog.OpPlace, Log: 1, Gen: 1, Placed: string(family.EncodeCheckpoint())})
	one.command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: 2})
	p = one.place(1)
	if p.moves != 1 || len(p.extents) != 2 || p.extents[0].Shard != 0 || p.extents[0].Last != left ||
		p.extents[1].First != left+1 || p.extents[1].Last != one.LSN+p.extents[1].Base {
		t.Errorf("after it left at %d: %+v, the catalog ends at %d", left, p, one.LSN)
	}
}
