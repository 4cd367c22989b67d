package client

import (
	"context"
	"time"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TargetCost is what a target costs in a day, in the currency of the prices in its URL.
type TargetCost struct {
	Target                    string
	Storage, Requests, Egress float64
	Priced                    bool // the URL says a price; otherwise the zeros mean nothing
}

// ArchivePolicy is what the archive keeps of a log.
type ArchivePolicy struct {
	Log   string // empty with LogID 0 = every log; empty otherwise = a log that is gone
	LogID logcore.LogID
	Keep  time.Duration // 0 = not set here
	Hold  string        // why it is under legal hold; empty = it is not
}

// Tombstone says what was erased from the archive.
type Tombstone struct {
	Reason         string
	LogID          logcore.LogID // 0 = of several logs
	First, Last    logcore.LSN
	Entries, Bytes uint64
	At             time.Time
}

// ArchiveStatus describes the archive.
type ArchiveStatus struct {
	K, M            int // data and parity fragments of new objects
	Objects         uint64
	Recoding        uint64 // objects still of another code
	RawBytes        uint64
	StoredBytes     uint64
	RPO, RPOAllowed time.Duration
	Costs           []TargetCost
	Policies        []ArchivePolicy
	Tombstones      []Tombstone
	PublicKey       string // that verifies the manifest
	ScrubNext       logcore.LSN
	Lock            time.Duration
}

// ArchiveStatus asks for the archive's state. Of a cluster the member that archives answers.
func (c *Client) ArchiveStatus(ctx context.Context) (ArchiveStatus, error) {
	r, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.ArchiveStatusResponse, error) {
		return m.archive.ArchiveStatus(ctx, &logcorev1.ArchiveStatusRequest{})
	})
	if err != nil {
		return ArchiveStatus{}, err
	}
	st := ArchiveStatus{K: int(r.DataFragments), M: int(r.ParityFragments), Objects: r.Objects, Recoding: r.ObjectsToRecode, RawBytes: r.RawBytes, StoredBytes: r.StoredBytes,
		RPO: time.Duration(r.RpoMs) * time.Millisecond, RPOAllowed: time.Duration(r.RpoAllowedMs) * time.Millisecond, PublicKey: r.PublicKey,
		ScrubNext: logcore.LSN(r.ScrubNextLsn), Lock: time.Duration(r.LockSeconds) * time.Second, Tombstones: tombstones(r.Tombstones)}
	for _, t := range r.Costs {
		st.Costs = append(st.Costs, TargetCost{t.Target, t.Storage, t.Requests, t.Egress, t.Priced})
	}
	for _, p := range r.Policies {
		st.Policies = append(st.Policies, ArchivePolicy{p.Log, logcore.LogID(p.LogId), time.Duration(p.KeepSeconds) * time.Second, p.Hold})
	}
	return st, nil
}

func tombstones(all []*logcorev1.ArchiveTombstone) (out []Tombstone) {
	for _, t := range all {
		out = append(out, Tombstone{t.Reason, logcore.LogID(t.LogId), logcore.LSN(t.FirstLsn), logcore.LSN(t.LastLsn), t.Entries, t.Bytes, time.UnixMilli(t.UnixMs).UTC()})
	}
	return out
}

// AddTarget makes the empty bucket at a URL a target of the archive. The service opens it,
// with credentials that it finds itself.
func (c *Client) AddTarget(ctx context.Context, url string) error {
	_, err := unary(ctx, c, "", notIdempotent, func(ctx context.Context, m *member) (*logcorev1.AddTargetResponse, error) {
		return m.archive.AddTarget(ctx, &logcorev1.AddTargetRequest{Url: url})
	})
	return err
}

// EvacuateTarget has everything moved off a target, and returns how many fragments are left
// there. It may be called again to follow that.
func (c *Client) EvacuateTarget(ctx context.Context, name string) (left uint64, err error) {
	r, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.EvacuateTargetResponse, error) {
		return m.archive.EvacuateTarget(ctx, &logcorev1.EvacuateTargetRequest{Name: name})
	})
	if err != nil {
		return 0, err
	}
	return r.FragmentsLeft, nil
}

// RemoveTarget evacuates a target, waits for that, and takes it off the archive.
func (c *Client) RemoveTarget(ctx context.Context, name string) error {
	_, err := unary(ctx, c, "", notIdempotent, func(ctx context.Context, m *member) (*logcorev1.RemoveTargetResponse, error) {
		return m.archive.RemoveTarget(ctx, &logcorev1.RemoveTargetRequest{Name: name})
	})
	return err
}

// Recode makes the archive one of so many data and parity fragments; what is there is coded
// anew little by little.
func (c *Client) Recode(ctx context.Context, data, parity int) error {
	_, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.RecodeResponse, error) {
		return m.archive.Recode(ctx, &logcorev1.RecodeRequest{DataFragments: uint32(data), ParityFragments: uint32(parity)})
	})
	return err
}

// ScrubReport is what a scrub read and found.
type ScrubReport struct {
	Objects, Fragments, Bytes uint64
	Money                     float64
	Damaged, Repaired, Unread uint64
	Next                      logcore.LSN // where the next one begins
	Complete                  bool        // it came to the end of the archive
	Problems                  []string
}

// Scrub reads content from the targets, at most bytesMax and what costs moneyMax (0 = no
// bound), from an LSN on (0 = where the last one stopped), and repairs what is damaged.
func (c *Client) Scrub(ctx context.Context, bytesMax uint64, moneyMax float64, from logcore.LSN) (ScrubReport, error) {
	r, err := unary(ctx, c, "", notIdempotent, func(ctx context.Context, m *member) (*logcorev1.ScrubResponse, error) {
		return m.archive.Scrub(ctx, &logcorev1.ScrubRequest{BytesMax: bytesMax, MoneyMax: moneyMax, FromLsn: uint64(from)})
	})
	if err != nil {
		return ScrubReport{}, err
	}
	return ScrubReport{r.Objects, r.Fragments, r.Bytes, r.Money, r.Damaged, r.Repaired, r.Unread, logcore.LSN(r.NextLsn), r.Complete, r.Problems}, nil
}

// CompactReport is what a compaction erased, or would.
type CompactReport struct {
	Read, Rewritten, Entries, RawBytes uint64
	Saved                              int64  // on all targets together
	Held                               uint64 // entries that would go but for a hold
	Tombstones                         []Tombstone
}

// Compact erases from the archive what nobody has to keep.
func (c *Client) Compact(ctx context.Context, dryRun, all bool) (CompactReport, error) {
	r, err := unary(ctx, c, "", notIdempotent, func(ctx context.Context, m *member) (*logcorev1.CompactResponse, error) {
		return m.archive.Compact(ctx, &logcorev1.CompactRequest{DryRun: dryRun, All: all})
	})
	if err != nil {
		return CompactReport{}, err
	}
	return CompactReport{r.ObjectsRead, r.ObjectsRewritten, r.Entries, r.RawBytes, r.SavedBytes, r.Held, tombstones(r.Tombstones)}, nil
}

// SetRetention says how long entries of a log (empty = of every log without a retention of
// its own) are kept in the archive; 0 = for ever.
func (c *Client) SetRetention(ctx context.Context, log string, keep time.Duration) error {
	_, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.SetRetentionResponse, error) {
		return m.archive.SetRetention(ctx, &logcorev1.SetRetentionRequest{Log: log, KeepSeconds: uint64(keep / time.Second)})
	})
	return err
}

// SetHold puts a log (empty = everything) under legal hold; an empty reason releases it.
func (c *Client) SetHold(ctx context.Context, log, reason string) error {
	_, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.SetHoldResponse, error) {
		return m.archive.SetHold(ctx, &logcorev1.SetHoldRequest{Log: log, Reason: reason})
	})
	return err
}

// SetLock says for how long each sealed fragment is locked at its provider, where that is
// offered, from the time of its last entry on; 0 = no locks from now on.
func (c *Client) SetLock(ctx context.Context, lock time.Duration) error {
	_, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.SetLockResponse, error) {
		return m.archive.SetLock(ctx, &logcorev1.SetLockRequest{LockSeconds: uint64(lock / time.Second)})
	})
	return err
}
