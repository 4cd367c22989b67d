package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
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
	Shard          logcore.ShardID // whose LSNs they are
}

// ArchiveStatus describes the archive, of one shard or of all together: then counts are added up, RPO is the largest, and what
// is decided (code, policies, lock) is the first shard's; Status says where the others differ.
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
	Targets         []Target
	Shards          []ArchiveStatus // of each shard, when they are several
}

// ArchiveStatus asks for the archive's state, of every shard the member that archives it.
func (c *Client) ArchiveStatus(ctx context.Context) (ArchiveStatus, error) {
	all, n, err := c.shardArchive(ctx, 0)
	if err != nil || n <= 1 {
		return all, err
	}
	all.Shards = []ArchiveStatus{all}
	for shard := 1; shard < n; shard++ {
		one, _, err := c.shardArchive(ctx, logcore.ShardID(shard))
		if err != nil {
			return ArchiveStatus{}, &ShardError{Shard: logcore.ShardID(shard), Err: err}
		}
		all.Shards = append(all.Shards, one)
		all.add(one)
	}
	return all, nil
}

// add adds another shard's archive up.
func (st *ArchiveStatus) add(one ArchiveStatus) {
	st.Objects, st.Recoding, st.RawBytes, st.StoredBytes = st.Objects+one.Objects, st.Recoding+one.Recoding, st.RawBytes+one.RawBytes, st.StoredBytes+one.StoredBytes
	st.RPO = max(st.RPO, one.RPO)
	st.Tombstones = append(st.Tombstones, one.Tombstones...)
	st.Costs, st.Targets = slices.Clone(st.Costs), slices.Clone(st.Targets)
	for _, t := range one.Costs {
		if i := slices.IndexFunc(st.Costs, func(have TargetCost) bool { return have.Target == t.Target }); i >= 0 {
			have := &st.Costs[i]
			have.Storage, have.Requests, have.Egress, have.Priced = have.Storage+t.Storage, have.Requests+t.Requests, have.Egress+t.Egress, have.Priced || t.Priced
		} else {
			st.Costs = append(st.Costs, t)
		}
	}
	for _, t := range one.Targets {
		i := slices.IndexFunc(st.Targets, func(have Target) bool { return have.Name == t.Name })
		if i < 0 {
			st.Targets = append(st.Targets, t)
			continue
		}
		have := &st.Targets[i]
		have.Fragments, have.Bytes = have.Fragments+t.Fragments, have.Bytes+t.Bytes
		if have.Error == "" || have.Healthy && !t.Healthy {
			have.Error = t.Error
		}
		have.Healthy = have.Healthy && t.Healthy
		if len(have.Capabilities) == 0 {
			have.Capabilities = t.Capabilities // of a member that has asked it
		}
	}
}

// shardArchive asks for the state of a shard's archive, and how many shards there are.
func (c *Client) shardArchive(ctx context.Context, shard logcore.ShardID) (ArchiveStatus, int, error) {
	r, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.ArchiveStatusResponse, error) {
		return a.ArchiveStatus(ctx, &logcorev1.ArchiveStatusRequest{Shard: uint32(shard)})
	})
	if err != nil {
		return ArchiveStatus{}, 0, err
	}
	st := ArchiveStatus{K: int(r.DataFragments), M: int(r.ParityFragments), Objects: r.Objects, Recoding: r.ObjectsToRecode, RawBytes: r.RawBytes, StoredBytes: r.StoredBytes,
		RPO: time.Duration(r.RpoMs) * time.Millisecond, RPOAllowed: time.Duration(r.RpoAllowedMs) * time.Millisecond, PublicKey: r.PublicKey,
		ScrubNext: logcore.LSN(r.ScrubNextLsn), Lock: time.Duration(r.LockSeconds) * time.Second, Tombstones: tombstones(r.Tombstones, shard), Targets: targetList(r.Targets)}
	for _, t := range r.Costs {
		st.Costs = append(st.Costs, TargetCost{t.Target, t.Storage, t.Requests, t.Egress, t.Priced})
	}
	for _, p := range r.Policies {
		st.Policies = append(st.Policies, ArchivePolicy{p.Log, logcore.LogID(p.LogId), time.Duration(p.KeepSeconds) * time.Second, p.Hold})
	}
	return st, int(r.Shards), nil
}

func tombstones(all []*logcorev1.ArchiveTombstone, shard logcore.ShardID) (out []Tombstone) {
	for _, t := range all {
		out = append(out, Tombstone{t.Reason, logcore.LogID(t.LogId), logcore.LSN(t.FirstLsn), logcore.LSN(t.LastLsn), t.Entries, t.Bytes, time.UnixMilli(t.UnixMs).UTC(), shard})
	}
	return out
}

// AddTarget makes the empty bucket at a URL a target of every shard's archive. Each member opens it, with credentials that it
// finds itself. When a member can't be told everything else is done, and the error names it. It can be repeated.
func (c *Client) AddTarget(ctx context.Context, url string) error {
	untold := c.everyMember(ctx, func(ctx context.Context, m *member) error {
		_, err := m.archive.RegisterTarget(ctx, &logcorev1.RegisterTargetRequest{Url: url})
		return remote(err, m.addr)
	})
	if untold != nil && !errors.Is(untold, ErrUnavailable) {
		return untold // refused: nothing is changed where it was
	}
	err := c.eachShard(ctx, func(shard logcore.ShardID) error {
		_, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.AddTargetResponse, error) {
			return a.AddTarget(ctx, &logcorev1.AddTargetRequest{Url: url, Shard: uint32(shard)})
		})
		return err
	})
	if err != nil {
		return err
	}
	return untold
}

// EvacuateTarget has everything moved off a target, and returns how many fragments of all shards are left
// there. It may be called again to follow that.
func (c *Client) EvacuateTarget(ctx context.Context, name string) (left uint64, err error) {
	unknown, shards := error(nil), 0
	err = c.eachShard(ctx, func(shard logcore.ShardID) error {
		r, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.EvacuateTargetResponse, error) {
			return a.EvacuateTarget(ctx, &logcorev1.EvacuateTargetRequest{Name: name, Shard: uint32(shard)})
		})
		if notFound(err) {
			unknown = err // a shard that it was never added to, when that was interrupted: fine if another one has it
			return nil
		}
		shards++
		left += r.GetFragmentsLeft()
		return err
	})
	if err == nil && shards == 0 {
		err = unknown
	}
	return left, err
}

// notFound reports whether the service does not have what was named.
func notFound(err error) bool {
	var refusal *wire.RemoteError
	return errors.As(err, &refusal) && refusal.Code == codes.NotFound
}

// RemoveTarget evacuates a target, waits for that, and takes it off every shard's archive; then each member forgets it. When
// ctx ends first the evacuation goes on. It can be repeated.
func (c *Client) RemoveTarget(ctx context.Context, name string) error {
	for {
		left, err := c.EvacuateTarget(ctx, name)
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		select {
		case <-time.After(evacuatedPoll):
		case <-ctx.Done():
			return fmt.Errorf("%w: %d fragments are still on %s; the evacuation goes on", ctx.Err(), left, name)
		}
	}
	err := c.eachShard(ctx, func(shard logcore.ShardID) error {
		_, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.RemoveTargetResponse, error) {
			return a.RemoveTarget(ctx, &logcorev1.RemoveTargetRequest{Name: name, Shard: uint32(shard)})
		})
		if notFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.everyMember(ctx, func(ctx context.Context, m *member) error {
		_, err := m.archive.UnregisterTarget(ctx, &logcorev1.UnregisterTargetRequest{Name: name})
		return remote(err, m.addr)
	})
}

// evacuatedPoll is how often it is asked how much is left on a target.
const evacuatedPoll = 100 * time.Millisecond

// Recode makes the archive one of so many data and parity fragments; what is there is coded
// anew little by little.
func (c *Client) Recode(ctx context.Context, data, parity int) error {
	return c.eachShard(ctx, func(shard logcore.ShardID) error {
		_, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.RecodeResponse, error) {
			return a.Recode(ctx, &logcorev1.RecodeRequest{DataFragments: uint32(data), ParityFragments: uint32(parity), Shard: uint32(shard)})
		})
		return err
	})
}

// ScrubReport is what a scrub of one shard's archive read and found.
type ScrubReport struct {
	Objects, Fragments, Bytes uint64
	Money                     float64
	Damaged, Repaired, Unread uint64
	Next                      logcore.LSN // where the next one begins
	Complete                  bool        // it came to the end of the archive
	Problems                  []string
	Shard                     logcore.ShardID
}

// Scrub reads content of a shard's archive from the targets, at most bytesMax and what costs moneyMax (0 = no
// bound), from an LSN on (0 = where the last one stopped), and repairs what is damaged.
func (c *Client) Scrub(ctx context.Context, shard logcore.ShardID, bytesMax uint64, moneyMax float64, from logcore.LSN) (ScrubReport, error) {
	r, err := atShard(ctx, c, shard, notIdempotent, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.ScrubResponse, error) {
		return a.Scrub(ctx, &logcorev1.ScrubRequest{BytesMax: bytesMax, MoneyMax: moneyMax, FromLsn: uint64(from), Shard: uint32(shard)})
	})
	if err != nil {
		return ScrubReport{Shard: shard}, err
	}
	return ScrubReport{r.Objects, r.Fragments, r.Bytes, r.Money, r.Damaged, r.Repaired, r.Unread, logcore.LSN(r.NextLsn), r.Complete, r.Problems, shard}, nil
}

// CompactReport is what a compaction erased, or would.
type CompactReport struct {
	Read, Rewritten, Entries, RawBytes uint64
	Saved                              int64  // on all targets together
	Held                               uint64 // entries that would go but for a hold
	Tombstones                         []Tombstone
}

// Compact erases from the archives of all shards what nobody has to keep. With an error comes what was done before it.
func (c *Client) Compact(ctx context.Context, dryRun, all bool) (out CompactReport, err error) {
	err = c.eachShard(ctx, func(shard logcore.ShardID) error {
		r, err := atShard(ctx, c, shard, notIdempotent, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.CompactResponse, error) {
			return a.Compact(ctx, &logcorev1.CompactRequest{DryRun: dryRun, All: all, Shard: uint32(shard)})
		})
		out.Read, out.Rewritten, out.Entries, out.RawBytes = out.Read+r.GetObjectsRead(), out.Rewritten+r.GetObjectsRewritten(), out.Entries+r.GetEntries(), out.RawBytes+r.GetRawBytes()
		out.Saved, out.Held, out.Tombstones = out.Saved+r.GetSavedBytes(), out.Held+r.GetHeld(), append(out.Tombstones, tombstones(r.GetTombstones(), shard)...)
		return err
	})
	return out, err
}

// archivedLog returns the id that a log has in every shard's archive; 0 of no name, which means every log.
func (c *Client) archivedLog(ctx context.Context, log string) (uint64, error) {
	if log == "" {
		return 0, nil
	}
	info, err := c.Info(ctx, log)
	return uint64(info.ID), err
}

// SetRetention says how long entries of a log (empty = of every log without a retention of
// its own) are kept in the archive; 0 = for ever. It is said to every shard: entries of a log are wherever it was.
func (c *Client) SetRetention(ctx context.Context, log string, keep time.Duration) error {
	id, err := c.archivedLog(ctx, log)
	if err != nil {
		return err
	}
	return c.eachShard(ctx, func(shard logcore.ShardID) error {
		_, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.SetRetentionResponse, error) {
			return a.SetRetention(ctx, &logcorev1.SetRetentionRequest{Log: log, LogId: id, KeepSeconds: uint64(keep / time.Second), Shard: uint32(shard)})
		})
		return err
	})
}

// SetHold puts a log (empty = everything) under legal hold, in every shard; an empty reason releases it.
func (c *Client) SetHold(ctx context.Context, log, reason string) error {
	id, err := c.archivedLog(ctx, log)
	if err != nil {
		return err
	}
	return c.eachShard(ctx, func(shard logcore.ShardID) error {
		_, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.SetHoldResponse, error) {
			return a.SetHold(ctx, &logcorev1.SetHoldRequest{Log: log, LogId: id, Reason: reason, Shard: uint32(shard)})
		})
		return err
	})
}

// SetLock says for how long each sealed fragment is locked at its provider, where that is
// offered, from the time of its last entry on; 0 = no locks from now on.
func (c *Client) SetLock(ctx context.Context, lock time.Duration) error {
	return c.eachShard(ctx, func(shard logcore.ShardID) error {
		_, err := atShard(ctx, c, shard, lengthy, func(ctx context.Context, a logcorev1.ArchiveServiceClient) (*logcorev1.SetLockResponse, error) {
			return a.SetLock(ctx, &logcorev1.SetLockRequest{LockSeconds: uint64(lock / time.Second), Shard: uint32(shard)})
		})
		return err
	})
}
