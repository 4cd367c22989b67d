package logsvc

import (
	"context"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/replication"
)

// endLeases takes read leases that ran out off the list, by a command that changes
// nothing else: any entry does that, but a shard where nothing happens has none, and what
// the leases kept would stay for good. Only the leader does it.
func (s *Service) endLeases(ctx context.Context) error {
	if !s.group.Leading() {
		return nil
	}
	due := false
	s.group.View(func(state *catalog.State) { due = state.LeaseRanOut(logcore.HLCAt(time.Now())) })
	if !due {
		return nil
	}
	return s.do(ctx, func(p *replication.Proposer) error {
		if !p.Catalog().LeaseRanOut(logcore.HLCAt(time.Now())) {
			return nil
		}
		for _, l := range p.Catalog().Logs() {
			if !l.Gone { // what is left of one that is gone takes no commands
				_, err := p.Command(catalog.Command{Op: catalog.OpHorizon, Log: l.ID, LSN: l.Horizon})
				return err
			}
		}
		return nil // nothing but what left: its leases are where it went
	})
}
