package client

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// LogInfo describes a log.
type LogInfo struct {
	ID          logcore.LogID
	Log         string
	Shard       logcore.ShardID
	Epoch       logcore.Epoch
	FirstLSN    logcore.LSN // the lowest LSN that Read can start from
	LastLSN     logcore.LSN // the last committed entry; 0 when there is none
	LastTime    logcore.HLC
	Committed   logcore.LSN // the shard's: no entry of this log will get an LSN up to it any more
	Archived    logcore.LSN // covered by a durable manifest
	HotFirstLSN logcore.LSN // the lowest LSN that the hot tier still holds
	Entries     uint64
	Bytes       uint64
	Parent      string // set on a branch
	ParentID    logcore.LogID
	BranchLSN   logcore.LSN
	Writer      string // the current or the last one
	Incarnation uint64 // state derived under another one must be thrown away
	// PayloadFormat is what the payloads are; empty while no writer has said it.
	PayloadFormat string
	Durability    string // when an entry is acknowledged: quorum or quorum+archive
	// Extents are where its own entries were before, oldest first; none unless it has moved.
	Extents    []Extent
	WriterOpen bool // the epoch's writer has not closed it
	// HorizonLSN is the lowest LSN that every page can be read at.
	HorizonLSN logcore.LSN
	// Window and WindowBytes say how long the history of the pages is kept: as long as it
	// is younger than Window or within WindowBytes of the log. Both 0: for ever.
	Window      time.Duration
	WindowBytes uint64
	// Ingest is how far the slowest page server is behind; nil while none said so.
	Ingest *IngestDebt
}

// IngestDebt is how far the slowest page server is behind a log.
type IngestDebt struct {
	IngestedLSN  logcore.LSN
	BehindLSNs   uint64
	BehindBytes  uint64
	AdvisedPause time.Duration // that a writer should wait before it appends more
	Age          time.Duration // of what the page server said
	Stopped      string        // why it does not go on; empty when it does
}

func logInfo(r *logcorev1.InfoResponse) LogInfo {
	return LogInfo{
		ID: logcore.LogID(r.LogId), Log: r.Log, Shard: logcore.ShardID(r.Shard), Epoch: logcore.Epoch(r.Epoch),
		FirstLSN: logcore.LSN(r.FirstLsn), LastLSN: logcore.LSN(r.LastLsn), LastTime: logcore.HLC(r.LastTime),
		Committed: logcore.LSN(r.CommittedLsn), Archived: logcore.LSN(r.ArchivedLsn), HotFirstLSN: logcore.LSN(r.HotFirstLsn),
		Entries: r.Entries, Bytes: r.Bytes, Parent: r.Parent, ParentID: logcore.LogID(r.ParentId),
		BranchLSN: logcore.LSN(r.BranchLsn), Writer: r.Writer, Incarnation: r.Incarnation, PayloadFormat: r.PayloadFormat,
		Durability: durabilityName(r.Durability), WriterOpen: r.WriterOpen, HorizonLSN: logcore.LSN(r.HorizonLsn),
		Extents: extents(r.Extents), Window: time.Duration(r.WindowMs) * time.Millisecond, WindowBytes: r.WindowBytes, Ingest: ingestDebt(r.Ingest),
	}
}

// Extent is a stretch of a log on a shard that is not its present one.
type Extent struct {
	Shard       logcore.ShardID
	First, Last logcore.LSN
}

func extents(list []*logcorev1.LogExtent) (out []Extent) {
	for _, e := range list {
		out = append(out, Extent{logcore.ShardID(e.Shard), logcore.LSN(e.FirstLsn), logcore.LSN(e.LastLsn)})
	}
	return out
}

// MoveLog moves a log, with its branches, to another shard, and returns the last LSN that it can have had where it was; 0
// when it was there already. Writers and readers go on. When ctx ends first the move goes on by itself, and
// calling again waits for it. A branch is logcore.ErrInvalid: it moves with the log that it is a branch of.
func (c *Client) MoveLog(ctx context.Context, log string, to logcore.ShardID) (logcore.LSN, error) {
	resp, err := unary(ctx, c, "", lengthy, func(ctx context.Context, m *member) (*logcorev1.MoveLogResponse, error) {
		return m.admin.MoveLog(ctx, &logcorev1.MoveLogRequest{Log: log, Shard: uint32(to)})
	})
	return logcore.LSN(resp.GetLeftLsn()), err
}

func ingestDebt(d *logcorev1.IngestDebt) *IngestDebt {
	if d == nil {
		return nil
	}
	return &IngestDebt{IngestedLSN: logcore.LSN(d.IngestedLsn), BehindLSNs: d.BehindLsns, BehindBytes: d.BehindBytes, Stopped: d.Stopped,
		AdvisedPause: time.Duration(d.AdvisedPauseMs) * time.Millisecond, Age: time.Duration(d.ReportedMsAgo) * time.Millisecond}
}

func durabilityName(d logcorev1.Durability) string {
	if d == logcorev1.Durability_DURABILITY_QUORUM_ARCHIVE {
		return QuorumAndArchive
	}
	return Quorum
}

// The durabilities of a log.
const (
	// Quorum acknowledges an entry once a quorum of the members has it on stable storage.
	Quorum = "quorum"
	// QuorumAndArchive acknowledges it once, besides, the archive covers it: what was
	// acknowledged outlives every member. An append takes as long as the targets do, so many of
	// them should be under way.
	QuorumAndArchive = "quorum+archive"
)

// NewLog says what a log that is to be created is like.
type NewLog struct {
	Log        string
	Parent     string      // makes it a branch of Parent at BranchLSN
	BranchLSN  logcore.LSN // above 0 and committed
	Durability string      // Quorum or QuorumAndArchive; empty = the parent's, or Quorum
}

// Info describes the named log as of a moment between the call and the answer: everything that was acknowledged before is in
// it. An unknown one is logcore.ErrLogNotFound.
func (c *Client) Info(ctx context.Context, log string) (LogInfo, error) {
	return c.InfoWithin(ctx, log, 0)
}

// InfoWithin is Info of a log as it was at most so long ago, rounded up to a millisecond, which any member may answer, not only the one that leads.
// 0 is Info.
func (c *Client) InfoWithin(ctx context.Context, log string, maxStaleness time.Duration) (LogInfo, error) {
	if maxStaleness < 0 {
		return LogInfo{}, fmt.Errorf("%w: client: a staleness of %v", logcore.ErrInvalid, maxStaleness)
	}
	ms := uint32(min((maxStaleness + time.Millisecond - 1).Milliseconds(), 1<<31))
	resp, err := unary(ctx, c, log, idempotent, func(ctx context.Context, m *member) (*logcorev1.InfoResponse, error) {
		return m.logs.Info(ctx, &logcorev1.InfoRequest{Log: log, MaxStalenessMs: ms})
	})
	if err != nil {
		return LogInfo{}, err
	}
	return logInfo(resp), nil
}

// Logs describes every log, by name.
func (c *Client) Logs(ctx context.Context) ([]LogInfo, error) {
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.ListLogsResponse, error) {
		return m.admin.ListLogs(ctx, &logcorev1.ListLogsRequest{})
	})
	if err != nil {
		return nil, err
	}
	out := make([]LogInfo, len(resp.Logs))
	for i, l := range resp.Logs {
		out[i] = logInfo(l)
	}
	return out, nil
}

// CreateLog creates a log and returns its id. With parent set it creates a branch of
// parent at branchLSN, which must be above 0 and committed. A taken name is logcore.ErrLogExists.
func (c *Client) CreateLog(ctx context.Context, log, parent string, branchLSN logcore.LSN) (logcore.LogID, error) {
	return c.Create(ctx, NewLog{Log: log, Parent: parent, BranchLSN: branchLSN})
}

// Create creates a log as l says and returns its id. A taken name is logcore.ErrLogExists; a
// durability that the service can't give, because it has no archive, logcore.ErrInvalid.
func (c *Client) Create(ctx context.Context, l NewLog) (logcore.LogID, error) {
	durability := logcorev1.Durability_DURABILITY_UNSPECIFIED
	switch l.Durability {
	case "":
	case Quorum:
		durability = logcorev1.Durability_DURABILITY_QUORUM
	case QuorumAndArchive:
		durability = logcorev1.Durability_DURABILITY_QUORUM_ARCHIVE
	default:
		return 0, fmt.Errorf("%w: durability %q: want %s or %s", logcore.ErrInvalid, l.Durability, Quorum, QuorumAndArchive)
	}
	resp, err := unary(ctx, c, l.Log, notIdempotent, func(ctx context.Context, m *member) (*logcorev1.CreateLogResponse, error) {
		return m.admin.CreateLog(ctx, &logcorev1.CreateLogRequest{Log: l.Log, Parent: l.Parent, BranchLsn: uint64(l.BranchLSN), Durability: durability})
	})
	if err != nil {
		return 0, err
	}
	return logcore.LogID(resp.LogId), nil
}

// Flush returns when everything acknowledged before the call is archived, and the
// LSN up to which the log is. Give ctx a deadline that suits the targets.
func (c *Client) Flush(ctx context.Context, log string) (logcore.LSN, error) {
	resp, err := unary(ctx, c, log, lengthy, func(ctx context.Context, m *member) (*logcorev1.FlushResponse, error) {
		return m.logs.Flush(ctx, &logcorev1.FlushRequest{Log: log})
	})
	if err != nil {
		return 0, err
	}
	return logcore.LSN(resp.ArchivedLsn), nil
}

// Truncate gives up the log's entries below an LSN and returns the lowest LSN that
// can still be read.
func (c *Client) Truncate(ctx context.Context, log string, before logcore.LSN) (logcore.LSN, error) {
	resp, err := unary(ctx, c, log, idempotent, func(ctx context.Context, m *member) (*logcorev1.TruncateResponse, error) {
		return m.logs.Truncate(ctx, &logcorev1.TruncateRequest{Log: log, BeforeLsn: uint64(before)})
	})
	if err != nil {
		return 0, err
	}
	return logcore.LSN(resp.FirstLsn), nil
}

// ShardStatus describes one shard.
type ShardStatus struct {
	Shard      logcore.ShardID
	Term       uint64
	FirstLSN   logcore.LSN
	LastLSN    logcore.LSN
	Committed  logcore.LSN
	Archived   logcore.LSN
	ArchiveLag time.Duration // age of the oldest acknowledged entry that no manifest covers
	Segments   uint64
	HotBytes   uint64
	Error      string // empty when all is well
	Leader     uint64 // the node that leads it; 0 when nobody is known to
	Logs       uint64 // that are in it
	LoadBytes  uint64 // appended in a second, averaged over about a minute
}

// Status describes the service.
type Status struct {
	Cluster     string
	Version     string
	Healthy     bool
	Problems    []string // what is wrong, in words
	Shards      []ShardStatus
	Logs        uint64
	Corruptions uint64
	Uptime      time.Duration
}

// Status asks the service how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.StatusResponse, error) {
		return m.admin.Status(ctx, &logcorev1.StatusRequest{})
	})
	if err != nil {
		return Status{}, err
	}
	st := Status{Cluster: resp.Cluster, Version: resp.Version, Healthy: resp.Healthy, Problems: resp.Problems,
		Logs: resp.Logs, Corruptions: resp.Corruptions, Uptime: time.Duration(resp.UptimeMs) * time.Millisecond}
	for _, s := range resp.Shards {
		st.Shards = append(st.Shards, ShardStatus{
			Shard: logcore.ShardID(s.Shard), Term: s.Term, FirstLSN: logcore.LSN(s.FirstLsn), LastLSN: logcore.LSN(s.LastLsn),
			Committed: logcore.LSN(s.CommittedLsn), Archived: logcore.LSN(s.ArchivedLsn),
			ArchiveLag: time.Duration(s.ArchiveLagMs) * time.Millisecond, Segments: s.Segments, HotBytes: s.HotBytes, Error: s.Error,
			Leader: s.Leader, Logs: s.Logs, LoadBytes: s.LoadBytes,
		})
	}
	return st, nil
}

// Target is one bucket at one provider, as the service sees it.
type Target struct {
	Name, URL, Provider, Region string
	Healthy                     bool
	Error                       string // the last one, empty when healthy
	Fragments, Bytes            uint64
	Capabilities                []string
}

// Targets lists the archive's targets, with what is on them of all shards. Of a service whose archivers don't run it is what
// the member that was asked knows; of one without an archive nothing.
func (c *Client) Targets(ctx context.Context) ([]Target, error) {
	st, err := c.ArchiveStatus(ctx)
	if err == nil || ctx.Err() != nil {
		return st.Targets, err
	}
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.ListTargetsResponse, error) {
		return m.admin.ListTargets(ctx, &logcorev1.ListTargetsRequest{})
	})
	return targetList(resp.GetTargets()), err
}

func targetList(all []*logcorev1.Target) []Target {
	out := make([]Target, len(all))
	for i, t := range all {
		out[i] = Target{Name: t.Name, URL: t.Url, Provider: t.Provider, Region: t.Region, Healthy: t.Healthy,
			Error: t.Error, Fragments: t.Fragments, Bytes: t.Bytes, Capabilities: t.Capabilities}
	}
	return out
}
