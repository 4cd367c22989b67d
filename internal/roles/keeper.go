package roles

import (
	"context"
	"math/rand/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/pageserver"
)

// historyKeeper is a log service as a page server needs it for the histories of logs.
type historyKeeper struct {
	c *client.Client
	// server names this page server in what it reports.
	server uint64
}

var _ pageserver.HistoryKeeper = historyKeeper{}

func newHistoryKeeper(c *client.Client) historyKeeper { return historyKeeper{c, rand.Uint64()} }

// Histories returns what is kept of every log.
func (k historyKeeper) Histories(ctx context.Context) (pageserver.Histories, error) {
	all, err := k.c.Histories(ctx)
	if err != nil {
		return pageserver.Histories{}, err
	}
	h := pageserver.Histories{Now: all.Now, Logs: make([]pageserver.History, len(all.Logs)), Leases: make([]pageserver.LeasedLSN, len(all.Leases))}
	for i, l := range all.Logs {
		h.Logs[i] = pageserver.History{ID: l.ID, Incarnation: l.Incarnation, Parent: l.Parent, BranchLSN: l.BranchLSN, Horizon: l.Horizon,
			Window: l.Window, WindowBytes: l.WindowBytes}
	}
	for i, l := range all.Leases {
		h.Leases[i] = pageserver.LeasedLSN{Log: l.Log, LSN: l.LSN}
	}
	return h, nil
}

// AdvanceHorizon moves a log's horizon.
func (k historyKeeper) AdvanceHorizon(ctx context.Context, log pageserver.LogInfo, to logcore.LSN) (logcore.LSN, error) {
	return k.c.AdvanceHorizon(ctx, log.ID, log.Incarnation, to)
}

// ReportIngest tells how far the page server has come.
func (k historyKeeper) ReportIngest(ctx context.Context, incarnation uint64, logs []pageserver.IngestReport) error {
	reports := make([]client.IngestReport, len(logs))
	for i, l := range logs {
		reports[i] = client.IngestReport{Log: l.Log, Ingested: l.Ingested, Bytes: l.Bytes, Stopped: l.Stopped}
	}
	return k.c.ReportIngest(ctx, k.server, incarnation, reports)
}
