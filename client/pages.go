package client

import (
	"context"
	"fmt"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// pagesPerRequest is the most pages one request may ask for.
const pagesPerRequest = 1024

// ReadAt says as of when pages are read and how long the page server may wait for it.
type ReadAt struct {
	// LSN to read at; 0 means the newest one the page server has.
	LSN logcore.LSN
	// NotModifiedSince, when not 0, is the caller's knowledge that none of the pages
	// changed in (NotModifiedSince, LSN], so that it is enough to wait for it.
	NotModifiedSince logcore.LSN
	// Log, when not 0, is the id of the log that is meant (LogInfo.ID): a branch that is reset, or deleted and created
	// anew, is another log of the same name. When the name has another id by now it is logcore.ErrLogNotFound.
	Log logcore.LogID
	// Timeout bounds the wait for LSN; 0 means the server's default, 5 s, and the
	// server caps it at 60 s. The error after it wraps *logcore.LagError.
	Timeout time.Duration
}

// Page is one page as of an LSN. The caller owns Data.
type Page struct {
	Number uint32
	// Data is empty when the page does not exist at that LSN.
	Data []byte
	// LastLSN is the last change at or before the LSN; 0 when the page does not exist.
	LastLSN logcore.LSN
}

// PageSet is what GetPages returns: the pages in the order asked for, all as of LSN.
type PageSet struct {
	LSN logcore.LSN
	// Incarnation is that of the log service that the pages come from: under another one,
	// the same LSN may mean something else.
	Incarnation uint64
	Pages       []Page
}

// Size is the length of a space as of an LSN.
type Size struct {
	LSN logcore.LSN
	// LastLSN is the log's last visible change at or before LSN, whatever its space.
	LastLSN logcore.LSN
	// Incarnation is as in PageSet.
	Incarnation uint64
	// Pages is the number of pages; PageSize is in bytes, 0 when the space does not exist.
	Pages, PageSize uint32
}

// GetPages returns pages of a log or branch, all as of one LSN. Every page has been
// checked against its digest; one that fails is a *logcore.CorruptionError. Other
// errors wrap logcore.ErrLogNotFound or *logcore.LagError.
func (c *Client) GetPages(ctx context.Context, log string, space engine.Space, pages []uint32, at ReadAt) (PageSet, error) {
	set := PageSet{LSN: at.LSN, Pages: make([]Page, 0, len(pages))}
	for first := true; first || len(pages) > 0; first = false {
		n := min(len(pages), pagesPerRequest)
		lsn, err := c.getPages(ctx, log, space, pages[:n], at, &set)
		if err != nil {
			return PageSet{}, err
		}
		// The rest is read as of the LSN that the first answer chose.
		set.LSN, at.LSN, pages = lsn, lsn, pages[n:]
	}
	return set, nil
}

func (c *Client) getPages(ctx context.Context, log string, space engine.Space, pages []uint32, at ReadAt, set *PageSet) (logcore.LSN, error) {
	ctx, cancel := c.patience(ctx, at.Timeout)
	defer cancel()
	req := &logcorev1.GetPagesRequest{Log: log, Space: wireSpace(space), Pages: pages, Lsn: uint64(at.LSN),
		NotModifiedSince: uint64(at.NotModifiedSince), TimeoutMs: timeoutMs(at.Timeout), LogId: uint64(at.Log)}
	resp, err := c.fetchPages(ctx, req)
	if err != nil {
		return 0, err
	}
	if len(resp.Pages) != len(pages) || at.LSN != 0 && resp.Lsn != uint64(at.LSN) {
		return 0, c.corrupt(log, space, 0, resp.Lsn, fmt.Sprintf("%d pages at LSN %d, asked for %d at %d", len(resp.Pages), resp.Lsn, len(pages), at.LSN))
	}
	if set.Incarnation != 0 && resp.Incarnation != set.Incarnation {
		return 0, fmt.Errorf("%w: the log service was restored while pages of %q were read", ErrUnavailable, log)
	}
	set.Incarnation = resp.Incarnation
	for i, p := range resp.Pages {
		if p.Page != pages[i] {
			return 0, c.corrupt(log, space, pages[i], resp.Lsn, fmt.Sprintf("got page %d instead", p.Page))
		}
		if len(p.Data) > 0 && xxh3.Hash(p.Data) != p.Digest {
			return 0, c.corrupt(log, space, p.Page, resp.Lsn, "the page does not match its digest")
		}
		set.Pages = append(set.Pages, Page{p.Page, p.Data, logcore.LSN(p.LastLsn)})
	}
	return logcore.LSN(resp.Lsn), nil
}

func wireSpace(s engine.Space) *logcorev1.Space { return &logcorev1.Space{Hi: s.Hi, Lo: s.Lo} }

func (c *Client) corrupt(log string, space engine.Space, page uint32, lsn uint64, reason string) error {
	return &logcore.CorruptionError{Place: "page server " + c.opts.PageAddr, Object: fmt.Sprintf("log %s space %v page %d", log, space, page),
		Offset: -1, LSN: logcore.LSN(lsn), Reason: reason}
}

// SpaceSize returns the length of a space as of an LSN. Errors are those of GetPages.
func (c *Client) SpaceSize(ctx context.Context, log string, space engine.Space, at ReadAt) (Size, error) {
	ctx, cancel := c.patience(ctx, at.Timeout)
	defer cancel()
	req := &logcorev1.SpaceSizeRequest{Log: log, Space: wireSpace(space), Lsn: uint64(at.LSN), TimeoutMs: timeoutMs(at.Timeout), LogId: uint64(at.Log)}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.SpaceSizeResponse, error) {
		return p.SpaceSize(ctx, req)
	})
	if err != nil {
		return Size{}, err
	}
	return Size{LSN: logcore.LSN(resp.Lsn), LastLSN: logcore.LSN(resp.LastLsn), Incarnation: resp.Incarnation, Pages: resp.Pages, PageSize: resp.PageSize}, nil
}

// WaitLSN returns once the page server has ingested an LSN, with the LSN that it has;
// timeout is ReadAt.Timeout. Errors are those of GetPages.
func (c *Client) WaitLSN(ctx context.Context, log string, lsn logcore.LSN, timeout time.Duration) (logcore.LSN, error) {
	ctx, cancel := c.patience(ctx, timeout)
	defer cancel()
	req := &logcorev1.WaitLSNRequest{Log: log, Lsn: uint64(lsn), TimeoutMs: timeoutMs(timeout)}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.WaitLSNResponse, error) {
		return p.WaitLSN(ctx, req)
	})
	if err != nil {
		return 0, err
	}
	return logcore.LSN(resp.IngestedLsn), nil
}

// CreateBranch forks a log at an LSN, 0 meaning the newest one the page server has,
// and returns the branch's id and the LSN. The branch exists durably on return. An
// error that wraps ErrUnavailable leaves open whether it does.
func (c *Client) CreateBranch(ctx context.Context, parent, branch string, lsn logcore.LSN) (logcore.LogID, logcore.LSN, error) {
	req := &logcorev1.CreateBranchRequest{Parent: parent, Branch: branch, Lsn: uint64(lsn)}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.CreateBranchResponse, error) {
		return p.CreateBranch(ctx, req)
	})
	if err != nil {
		return 0, 0, err
	}
	return logcore.LogID(resp.LogId), logcore.LSN(resp.Lsn), nil
}

// ResolveTime returns the last LSN of a log at or before a time (to the millisecond)
// and that LSN's clock. A time before the log's first change is an error that wraps
// logcore.ErrTrimmed.
func (c *Client) ResolveTime(ctx context.Context, log string, t time.Time) (logcore.LSN, logcore.HLC, error) {
	if t.UnixMilli() < 0 {
		return 0, 0, fmt.Errorf("%w: time %v is before 1970", logcore.ErrInvalid, t)
	}
	req := &logcorev1.ResolveTimeRequest{Log: log, UnixMs: uint64(t.UnixMilli())}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.ResolveTimeResponse, error) {
		return p.ResolveTime(ctx, req)
	})
	if err != nil {
		return 0, 0, err
	}
	return logcore.LSN(resp.Lsn), logcore.HLC(resp.Time), nil
}

// patience bounds a call that the server may hold for a while: its own wait on top of
// what a call may take. An earlier deadline of ctx stays.
func (c *Client) patience(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opts.Timeout+max(wait, 0))
}

// timeoutMs rounds up, so that a wait below a millisecond does not become the default.
func timeoutMs(d time.Duration) uint32 {
	const most = time.Minute // the server's own cap
	return uint32((min(max(d, 0), most) + time.Millisecond - 1) / time.Millisecond)
}
