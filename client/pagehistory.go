package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// PageChange is one change of a page.
type PageChange struct {
	LSN  logcore.LSN // of the commit that made it visible
	Time logcore.HLC
	// Tx is zero when it is not known any more.
	Tx logcore.TxID
	// Kind is image, delta, redo, init or cut. The page server may keep any change as an image.
	Kind string
	// BytesChanged is how many bytes of the page differ from before; RecordBytes what the page
	// server has of the change.
	BytesChanged, RecordBytes uint32
}

// PageChanges is what PageHistory returns.
type PageChanges struct {
	LSN     logcore.LSN  // up to which was looked
	Changes []PageChange // the last one first
	// Next is what to has to be to go on; 0 when there are no more.
	Next logcore.LSN
	// CompleteFrom: changes below it may have been collected; 0 when none were.
	CompleteFrom logcore.LSN
}

var changeKinds = map[logcorev1.PageChangeKind]string{logcorev1.PageChangeKind_PAGE_CHANGE_KIND_IMAGE: "image", logcorev1.PageChangeKind_PAGE_CHANGE_KIND_DELTA: "delta",
	logcorev1.PageChangeKind_PAGE_CHANGE_KIND_REDO: "redo", logcorev1.PageChangeKind_PAGE_CHANGE_KIND_INIT: "init", logcorev1.PageChangeKind_PAGE_CHANGE_KIND_CUT: "cut"}

// PageHistory returns what changed a page between two LSNs, both included, 0 being no bound;
// at most limit changes, 0 meaning 100, the last one first. Errors are those of GetPages.
func (c *Client) PageHistory(ctx context.Context, log string, space engine.Space, page uint32, from, to logcore.LSN, limit int, timeout time.Duration) (PageChanges, error) {
	if limit < 0 || limit > 1000 {
		return PageChanges{}, fmt.Errorf("%w: %d changes: want 1 to 1000", logcore.ErrInvalid, limit)
	}
	ctx, cancel := c.patience(ctx, timeout)
	defer cancel()
	req := &logcorev1.HistoryRequest{Log: log, Space: wireSpace(space), Page: page, FromLsn: uint64(from), ToLsn: uint64(to), Limit: uint32(limit), TimeoutMs: timeoutMs(timeout)}
	resp, err := c.pageHistory(ctx, req)
	if err != nil {
		return PageChanges{}, err
	}
	out := PageChanges{LSN: logcore.LSN(resp.Lsn), Next: logcore.LSN(resp.NextToLsn), CompleteFrom: logcore.LSN(resp.CompleteFromLsn)}
	for _, p := range resp.Changes {
		change := PageChange{LSN: logcore.LSN(p.Lsn), Time: logcore.HLC(p.Time), Kind: changeKinds[p.Kind], BytesChanged: p.BytesChanged, RecordBytes: p.RecordBytes}
		copy(change.Tx[:], p.TxId)
		out.Changes = append(out.Changes, change)
	}
	return out, nil
}

// pageHistory asks whoever has the page.
func (c *Client) pageHistory(ctx context.Context, req *logcorev1.HistoryRequest) (*logcorev1.HistoryResponse, error) {
	retry := newBudget(c.opts.RetryFor)
	for {
		ask := c.servers.ranked()
		if root, known := c.servers.root(req.Log); known && c.servers.striped() {
			if s := c.servers.owner(stripemap.Of(root, req.Space.GetLo(), req.Page)); s != nil {
				ask = append([]*pageServer{s}, ask...)
			}
		}
		var err error
		for _, s := range ask {
			var resp *logcorev1.HistoryResponse
			if resp, err = s.pages.History(ctx, req); err == nil {
				return resp, nil
			}
			if err = remote(err, s.addr); errors.Is(err, ErrUnavailable) {
				c.servers.unreachable(s)
			} else if !errors.Is(err, logcore.ErrWrongPageServer) {
				break
			}
		}
		lost := errors.Is(err, ErrUnavailable) || errors.Is(err, logcore.ErrWrongPageServer)
		if !lost && !refused(err) || !retry.wait(ctx) {
			return nil, wire.FromStatus(err)
		}
		_ = c.findStripes(ctx, req.Log)
	}
}
