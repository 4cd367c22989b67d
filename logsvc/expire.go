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
		leases := p.Catalog().Leases()
		if len(leases) == 0 || !p.Catalog().LeaseRanOut(logcore.HLCAt(time.Now())) {
			return nil
		}
		l, err := p.Catalog().ByID(leases[0].Log)
		if err != nil {
			return err
		}
		_, err = p.Command(catalog.Command{Op: catalog.OpHorizon, Log: l.ID, LSN: l.Horizon})
		return err
	})
}
