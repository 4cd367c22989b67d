package redo

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// A GiST page's special area: the LSN of its last split (NSN), high half first; its right
// neighbour; flags; a mark.
const (
	gistSpecialBytes = 16
	gistNSN          = 0
	gistFlags        = 12
	gistFollowRight  = 1 << 3

	gistPageUpdate = 0x00
	gistPageSplit  = 0x30
)

// afterImage makes the change that a record's page image lacks, because the server makes it only once it knows
// the record's position: the downlink of a GiST page that was split is in its parent, so the page doesn't lead searches to the
// right any more, and its NSN is this record (gistRedoClearFollowRight).
func afterImage(r *wal.Record, b *wal.Block, p page.Page) error {
	if r.Manager != wal.ManagerGist || !(r.Op() == gistPageUpdate && b.ID == 1 || r.Op() == gistPageSplit && b.ID == 0) {
		return nil
	}
	s, err := p.SpecialArea(gistSpecialBytes)
	if err != nil {
		return fmt.Errorf("%w: a GiST page: %w", logcore.ErrCorrupt, err)
	}
	page.Page(s[gistNSN:]).SetLSN(uint64(r.End))
	s[gistFlags] &^= gistFollowRight
	return nil
}
