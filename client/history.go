package client

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// DeleteBranch takes a branch away, its entries and pages included. While it has branches,
// leases or holds that is logcore.ErrInvalid, which names them; while its writer is alive
// logcore.ErrWriterActive unless force is set. It may be repeated: an unknown branch is logcore.ErrLogNotFound.
func (c *Client) DeleteBranch(ctx context.Context, branch string, force bool) error {
	_, err := unary(ctx, c, branch, notIdempotent, func(ctx context.Context, m *member) (*logcorev1.DeleteBranchResponse, error) {
		return m.history.DeleteBranch(ctx, &logcorev1.DeleteBranchRequest{Branch: branch, Force: force})
	})
	return err
}

// ResetBranch replaces a branch by a new one of its name that forks off the same parent at an
// LSN, 0 meaning the parent's last entry, and returns the new id and the LSN. Errors are those of
// DeleteBranch and of CreateBranch.
func (c *Client) ResetBranch(ctx context.Context, branch string, lsn logcore.LSN, force bool) (logcore.LogID, logcore.LSN, error) {
	resp, err := unary(ctx, c, branch, notIdempotent, func(ctx context.Context, m *member) (*logcorev1.ResetBranchResponse, error) {
		return m.history.ResetBranch(ctx, &logcorev1.ResetBranchRequest{Branch: branch, Lsn: uint64(lsn), Force: force})
	})
	if err != nil {
		return 0, 0, err
	}
	return logcore.LogID(resp.LogId), logcore.LSN(resp.Lsn), nil
}

// SetHistoryWindow says how long the history of a log's pages is kept: as long as it is
// younger than window, or within bytes of the log. Both 0: for ever.
func (c *Client) SetHistoryWindow(ctx context.Context, log string, window time.Duration, bytes uint64) error {
	if window < 0 || window > 0 && window < time.Millisecond {
		return fmt.Errorf("%w: a window of %v: want 0 or a millisecond at least", logcore.ErrInvalid, window)
	}
	_, err := unary(ctx, c, log, idempotent, func(ctx context.Context, m *member) (*logcorev1.SetHistoryWindowResponse, error) {
		return m.history.SetHistoryWindow(ctx, &logcorev1.SetHistoryWindowRequest{Log: log, WindowMs: uint64(window.Milliseconds()), WindowBytes: bytes})
	})
	return err
}

// HoldHistory keeps everything of a log from an LSN on, under a name of 1 to 64 bytes, until
// it is lifted with LSN 0. An LSN below the horizon is logcore.ErrTrimmed.
func (c *Client) HoldHistory(ctx context.Context, log, name string, lsn logcore.LSN) error {
	_, err := unary(ctx, c, log, notIdempotent, func(ctx context.Context, m *member) (*logcorev1.HoldHistoryResponse, error) {
		return m.history.HoldHistory(ctx, &logcorev1.HoldHistoryRequest{Log: log, Name: name, Lsn: uint64(lsn)})
	})
	return err
}

// Lease keeps one LSN of a log readable until TTL after it was acquired or renewed.
type Lease struct {
	ID  uint64
	LSN logcore.LSN
	TTL time.Duration
}

// AcquireLease keeps an LSN of a log readable, 0 meaning its last entry, for a ttl of 1 s
// to 1 h (0: a minute). holder, up to 64 bytes, is for people. An LSN that can't be read any more is logcore.ErrTrimmed.
// An error that wraps ErrUnavailable leaves open whether there is a lease; it runs out then.
func (c *Client) AcquireLease(ctx context.Context, log string, lsn logcore.LSN, ttl time.Duration, holder string) (Lease, error) {
	resp, err := unary(ctx, c, log, notIdempotent, func(ctx context.Context, m *member) (*logcorev1.AcquireLeaseResponse, error) {
		return m.history.AcquireLease(ctx, &logcorev1.AcquireLeaseRequest{Log: log, Lsn: uint64(lsn), TtlMs: ttlMs(ttl), Holder: holder})
	})
	if err != nil {
		return Lease{}, err
	}
	return Lease{resp.Lease, logcore.LSN(resp.Lsn), time.Duration(resp.TtlMs) * time.Millisecond}, nil
}

// RenewLease has a lease run for another ttl from now on. One that ran out is logcore.ErrInvalid.
func (c *Client) RenewLease(ctx context.Context, log string, lease uint64, ttl time.Duration) (Lease, error) {
	resp, err := unary(ctx, c, log, idempotent, func(ctx context.Context, m *member) (*logcorev1.RenewLeaseResponse, error) {
		return m.history.RenewLease(ctx, &logcorev1.RenewLeaseRequest{Log: log, Lease: lease, TtlMs: ttlMs(ttl)})
	})
	if err != nil {
		return Lease{}, err
	}
	return Lease{lease, logcore.LSN(resp.Lsn), time.Duration(resp.TtlMs) * time.Millisecond}, nil
}

// ReleaseLease gives a lease back. One that ran out is no error.
func (c *Client) ReleaseLease(ctx context.Context, log string, lease uint64) error {
	_, err := unary(ctx, c, log, idempotent, func(ctx context.Context, m *member) (*logcorev1.ReleaseLeaseResponse, error) {
		return m.history.ReleaseLease(ctx, &logcorev1.ReleaseLeaseRequest{Log: log, Lease: lease})
	})
	return err
}

func ttlMs(d time.Duration) uint32 {
	const most = 24 * time.Hour // the service has its own limit, and says so
	return uint32((min(max(d, 0), most) + time.Millisecond - 1) / time.Millisecond)
}

// LogHistory is what is kept of one log.
type LogHistory struct {
	ID          logcore.LogID
	Log         string
	Parent      logcore.LogID // 0 unless a branch
	BranchLSN   logcore.LSN
	Horizon     logcore.LSN
	Window      time.Duration
	WindowBytes uint64
	Incarnation uint64 // of its shard
}

// HistoryLease is a lease as the log service lists it.
type HistoryLease struct {
	ID      uint64
	Log     logcore.LogID
	LSN     logcore.LSN
	Expires logcore.HLC
	Holder  string
}

// HistoryHold is a hold as the log service lists it.
type HistoryHold struct {
	Log  logcore.LogID
	Name string
	LSN  logcore.LSN
}

// Histories is what is kept of every log, as of one moment.
type Histories struct {
	Incarnation uint64
	Now         logcore.HLC  // the service's clock
	Logs        []LogHistory // ascending by id
	Leases      []HistoryLease
	Holds       []HistoryHold
}

// Histories returns what is kept of every log, as of one moment.
func (c *Client) Histories(ctx context.Context) (Histories, error) {
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.ListHistoriesResponse, error) {
		return m.history.ListHistories(ctx, &logcorev1.ListHistoriesRequest{})
	})
	if err != nil {
		return Histories{}, err
	}
	out := Histories{Incarnation: resp.Incarnation, Now: logcore.HLC(resp.Now), Logs: make([]LogHistory, len(resp.Logs))}
	for i, l := range resp.Logs {
		out.Logs[i] = LogHistory{logcore.LogID(l.LogId), l.Log, logcore.LogID(l.ParentId), logcore.LSN(l.BranchLsn), logcore.LSN(l.HorizonLsn),
			time.Duration(l.WindowMs) * time.Millisecond, l.WindowBytes, l.Incarnation}
	}
	for _, l := range resp.Leases {
		out.Leases = append(out.Leases, HistoryLease{l.Lease, logcore.LogID(l.LogId), logcore.LSN(l.Lsn), logcore.HLC(l.Expires), l.Holder})
	}
	for _, h := range resp.Holds {
		out.Holds = append(out.Holds, HistoryHold{logcore.LogID(h.LogId), h.Name, logcore.LSN(h.Lsn)})
	}
	return out, nil
}

// AdvanceHorizon gives up what only readers of a log below an LSN can see, as far as its
// holds let it, and returns the horizon. It is for page servers.
func (c *Client) AdvanceHorizon(ctx context.Context, log logcore.LogID, incarnation uint64, lsn logcore.LSN) (logcore.LSN, error) {
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.AdvanceHorizonResponse, error) {
		return m.history.AdvanceHorizon(ctx, &logcorev1.AdvanceHorizonRequest{LogId: uint64(log), Incarnation: incarnation, Lsn: uint64(lsn)})
	})
	if err != nil {
		return 0, err
	}
	return logcore.LSN(resp.HorizonLsn), nil
}

// IngestReport is how far a page server has come with one log.
type IngestReport struct {
	Log      logcore.LogID
	Ingested logcore.LSN
	Bytes    uint64 // of the log's own entries' bodies that it has ingested
	Stopped  string // why it does not go on
}

// ReportIngest tells the log service how far a page server has come. It is for page servers.
func (c *Client) ReportIngest(ctx context.Context, server, incarnation uint64, logs []IngestReport) error {
	req := &logcorev1.ReportIngestRequest{Server: server, Incarnation: incarnation}
	for _, l := range logs {
		req.Logs = append(req.Logs, &logcorev1.IngestReport{LogId: uint64(l.Log), IngestedLsn: uint64(l.Ingested), IngestedBytes: l.Bytes, Stopped: l.Stopped})
	}
	_, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.ReportIngestResponse, error) {
		return m.history.ReportIngest(ctx, req)
	})
	return err
}
