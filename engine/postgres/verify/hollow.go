package verify

import (
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// hollowMaps are the pages of visibility maps that came as an image without their content, and
// have not been compared with the server's since. RelationCopyStorageUsingBuffer in PostgreSQL 15's bufmgr.c
// logs the pages of every fork as standard ones, whose middle is not in use; a map keeps its bits there.
type hollowMaps map[pageKey]struct{}

// note looks at an image that was taken as it is.
func (h hollowMaps) note(key pageKey, m *wal.Image) {
	if key.fork == wal.ForkVM && int(m.HoleBytes) == page.Bytes-page.HeaderBytes {
		h[key] = struct{}{}
		return
	}
	delete(h, key)
}

// settle takes over into p the bits that only the server has, for a page that came hollow. From then on the
// page is compared like any other. It reports false when that does not explain how mine, p after
// redo of r and masked, differs from the server's.
func (h hollowMaps) settle(r *wal.Record, key pageKey, p, mine, theirs page.Page) bool {
	if _, hollow := h[key]; !hollow {
		return false
	}
	delete(h, key)
	const header = page.HeaderBytes
	for i := range mine {
		if i < header && mine[i] != theirs[i] || mine[i]&^theirs[i] != 0 {
			return false
		}
	}
	// What the record itself sets is not lost in any image: it has to be set by redo.
	if heap := r.Block(1); heap == nil || redo.VisibilityOf(mine, heap.Number) != redo.VisibilityOf(theirs, heap.Number) {
		return false
	}
	for i := header; i < len(p); i++ {
		p[i] |= theirs[i]
	}
	return true
}
