package client

import (
	"context"
	"time"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// PageLogStatus is what a page server has of one log.
type PageLogStatus struct {
	ID        logcore.LogID
	Log       string
	Parent    logcore.LogID
	BranchLSN logcore.LSN
	Ingested  logcore.LSN
	State     string // following, resting, waiting, quarantined or disk full
	Reason    string // why it is not following or resting
	Horizon   logcore.LSN
	Pins      uint64 // LSNs below the horizon that can be read
	// As of Counted, which is zero while it was never counted.
	Counted                                                                 time.Time
	LogicalBytes, Versions, VersionBytes, CollectedVersions, CollectedBytes uint64
	// DiskBytes is what the log takes on the disk now, about.
	DiskBytes uint64
}

// PageStatus returns what the page server has of each log, or of one, by name. An unknown one is
// logcore.ErrLogNotFound.
func (c *Client) PageStatus(ctx context.Context, log string) ([]PageLogStatus, error) {
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.LogStatusResponse, error) {
		return p.LogStatus(ctx, &logcorev1.LogStatusRequest{Log: log})
	})
	if err != nil {
		return nil, err
	}
	out := make([]PageLogStatus, len(resp.Logs))
	for i, l := range resp.Logs {
		out[i] = PageLogStatus{ID: logcore.LogID(l.LogId), Log: l.Log, Parent: logcore.LogID(l.ParentId), BranchLSN: logcore.LSN(l.BranchLsn), Ingested: logcore.LSN(l.IngestedLsn),
			State: l.State, Reason: l.Reason, Horizon: logcore.LSN(l.HorizonLsn), Pins: l.Pins, LogicalBytes: l.LogicalBytes, Versions: l.Versions,
			VersionBytes: l.VersionBytes, CollectedVersions: l.Collected, CollectedBytes: l.CollectedBytes, DiskBytes: l.DiskBytes}
		if l.CountedMs != 0 {
			out[i].Counted = time.UnixMilli(int64(l.CountedMs))
		}
	}
	return out, nil
}
