package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// PageLogStatus is what a page server has of one log.
type PageLogStatus struct {
	ID        logcore.LogID
	Log       string
	Parent    logcore.LogID
	BranchLSN logcore.LSN
	Ingested  logcore.LSN
	State     string // following, catching up, resting, waiting, quarantined or disk full
	Reason    string // why it is not following or resting
	// From is where entries come from: log service or archive; empty while they come from nowhere.
	From string
	// LastLSN is the log's last entry, as far as the page server knows. BehindBytes and Behind are how far
	// ingest is behind it: bytes of entries, about, and the time between the two entries.
	LastLSN     logcore.LSN
	BehindBytes uint64
	Behind      time.Duration
	Horizon     logcore.LSN
	Pins        uint64 // LSNs below the horizon that can be read
	// As of Counted, which is zero while it was never counted.
	Counted                                                                 time.Time
	LogicalBytes, Versions, VersionBytes, CollectedVersions, CollectedBytes uint64
	// DiskBytes is what the log takes on the disk now, about.
	DiskBytes uint64
}

// PageSources is how the places are that one page server gets its entries from.
type PageSources struct {
	Server     string // its address
	LogService bool   // the log service answered when it was asked last
	Archive    bool   // it may read the archive itself
	// ArchiveError is why it can't; empty when it can. ArchiveChecked is when that was found out, zero: not yet.
	ArchiveError   string
	ArchiveChecked time.Time
	Unreachable    []string // targets that did not answer last
	// MapRemembered: it shares pages with others, and goes by the map of an earlier process: the
	// log service has not answered since it started.
	MapRemembered bool
	// Err is why the page server did not say; nil when it did.
	Err error
}

// serverStatus is what one page server said.
type serverStatus struct {
	addr string
	resp *logcorev1.LogStatusResponse
	err  error
}

// pageStatuses asks every page server that has pages. It fails when none answers.
func (c *Client) pageStatuses(ctx context.Context, log string) ([]serverStatus, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_ = c.findStripes(ctx, log) // without an answer there is one page server, or it is known who they are
	owners := c.servers.withPages()
	if len(owners) == 0 {
		resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.LogStatusResponse, error) {
			return p.LogStatus(ctx, &logcorev1.LogStatusRequest{Log: log})
		})
		if err != nil {
			return nil, err
		}
		return []serverStatus{{addr: c.opts.PageAddr, resp: resp}}, nil
	}
	out := make([]serverStatus, len(owners))
	var asking sync.WaitGroup
	for i, s := range owners {
		asking.Go(func() {
			resp, err := s.pages.LogStatus(ctx, &logcorev1.LogStatusRequest{Log: log})
			if err != nil {
				err = remote(err, s.addr)
			}
			out[i] = serverStatus{s.addr, resp, err}
		})
	}
	asking.Wait()
	var errs []error
	for _, one := range out {
		if one.err == nil {
			return out, nil
		}
		errs = append(errs, one.err)
	}
	return nil, errors.Join(errs...)
}

// PageSources says of every page server how the places are that it gets its entries from.
func (c *Client) PageSources(ctx context.Context) ([]PageSources, error) {
	all, err := c.pageStatuses(ctx, "")
	if err != nil {
		return nil, err
	}
	out := make([]PageSources, len(all))
	for i, one := range all {
		s := one.resp.GetSources()
		out[i] = PageSources{Server: one.addr, Err: one.err, LogService: s.GetLogService(), Archive: s.GetArchive(), ArchiveError: s.GetArchiveError(), Unreachable: s.GetArchiveUnreachable(), MapRemembered: s.GetMapRemembered()}
		if ms := s.GetArchiveCheckedMs(); ms != 0 {
			out[i].ArchiveChecked = time.UnixMilli(int64(ms))
		}
	}
	return out, nil
}

// PageStatus returns what the page servers have of each log, or of one, by name. An unknown one is
// logcore.ErrLogNotFound. Of a log whose pages several page servers share, what is counted by page adds
// up, and of the rest the least, or the worst, is told; one that does not answer makes it waiting, with the reason.
func (c *Client) PageStatus(ctx context.Context, log string) ([]PageLogStatus, error) {
	all, err := c.pageStatuses(ctx, log)
	if err != nil {
		return nil, err
	}
	var parts []*logcorev1.LogStatusResponse
	for _, one := range all {
		if one.err == nil {
			parts = append(parts, one.resp)
		}
	}
	resp := wire.MergePageStatus(parts...)
	for _, one := range all {
		if one.err == nil || errors.Is(one.err, logcore.ErrLogNotFound) || errors.Is(one.err, logcore.ErrWrongPageServer) {
			continue // it has just come, or has nothing left
		}
		for _, l := range resp.Logs {
			if l.State != "quarantined" {
				l.State, l.Reason = "waiting", fmt.Sprintf("the page server at %s does not answer: %v", one.addr, one.err)
			}
		}
	}
	out := make([]PageLogStatus, len(resp.Logs))
	for i, l := range resp.Logs {
		out[i] = PageLogStatus{ID: logcore.LogID(l.LogId), Log: l.Log, Parent: logcore.LogID(l.ParentId), BranchLSN: logcore.LSN(l.BranchLsn), Ingested: logcore.LSN(l.IngestedLsn),
			State: l.State, Reason: l.Reason, Horizon: logcore.LSN(l.HorizonLsn), Pins: l.Pins, LogicalBytes: l.LogicalBytes, Versions: l.Versions,
			From: l.From, LastLSN: logcore.LSN(l.LastLsn), BehindBytes: l.BehindBytes, Behind: time.Duration(l.BehindMs) * time.Millisecond,
			VersionBytes: l.VersionBytes, CollectedVersions: l.Collected, CollectedBytes: l.CollectedBytes, DiskBytes: l.DiskBytes}
		if l.CountedMs != 0 {
			out[i].Counted = time.UnixMilli(int64(l.CountedMs))
		}
	}
	return out, nil
}
