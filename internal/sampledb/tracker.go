package sampledb

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// tracker keeps the content digest up to date as a connection changes rows, through
// SQLite's pre-update hook: the old row's hash goes out, the new one's comes in. It
// does not see changes of the schema.
type tracker struct {
	digest  Digest
	changes int // rows inserted, updated or deleted
	hasher  rowHasher
	err     error // the first one; the digest is of no use after it
}

// track starts tracking from a known digest. SQLite then also reports the rows that
// a REPLACE or a foreign key's action deletes.
func track(conn *sqlite3.Conn, digest Digest) *tracker {
	t := &tracker{digest: digest}
	conn.PreUpdateHook(func(p sqlite3.PreUpdateData) {
		if p.Schema != "main" || p.Table == ledgerTable {
			return
		}
		t.changes++
		if p.Op != sqlite3.AUTH_INSERT {
			t.digest.sub(t.row(p, p.Old))
		}
		if p.Op != sqlite3.AUTH_DELETE {
			t.digest.add(t.row(p, p.New))
		}
	})
	return t
}

func (t *tracker) row(p sqlite3.PreUpdateData, column func(int) (sqlite3.Value, error)) Digest {
	t.hasher.begin(p.Table)
	for i := range p.Count() {
		v, err := column(i)
		if err != nil {
			if t.err == nil {
				t.err = fmt.Errorf("sampledb: column %d of a changed row of %s: %w", i, p.Table, err)
			}
			return Digest{}
		}
		t.hasher.value(v)
	}
	return t.hasher.sum()
}
