package recovery

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/logcore/logcore"
)

// Report says what a restore read, what it made of it, and what is missing.
type Report struct {
	Cluster string `json:"cluster"`
	To      string `json:"to"`
	// Unreachable names the targets that did not take part.
	Unreachable []string `json:"unreachable"`
	// NotGiven names the archive's targets that are not among Options.Targets.
	NotGiven []string `json:"not_given"`
	// ObjectsRead and BytesRead count what came from the targets.
	ObjectsRead int   `json:"objects_read"`
	BytesRead   int64 `json:"bytes_read"`
	// ObjectsResumed and BytesResumed count, of the objects, those that an earlier attempt
	// had fetched.
	ObjectsResumed int   `json:"objects_resumed"`
	BytesResumed   int64 `json:"bytes_resumed"`
	// FragmentsRebuilt counts the objects' data fragments that were missing or damaged and
	// were computed from the others.
	FragmentsRebuilt int `json:"fragments_rebuilt"`
	// Entries and EntryBytes count what was restored, the shard's own entries included.
	Entries    uint64 `json:"entries"`
	EntryBytes int64  `json:"entry_bytes"`
	Segments   int    `json:"segments"`
	// FirstLSN to LastLSN is what was restored; LastTime is that of the last entry.
	FirstLSN logcore.LSN `json:"first_lsn"`
	LastLSN  logcore.LSN `json:"last_lsn"`
	LastTime time.Time   `json:"last_time"`
	// ArchiveFirstLSN is the oldest that the archive lists; ArchivedLSN and ArchivedTime
	// are the newest.
	ArchiveFirstLSN logcore.LSN `json:"archive_first_lsn"`
	ArchivedLSN     logcore.LSN `json:"archived_lsn"`
	ArchivedTime    time.Time   `json:"archived_time"`
	// Shards describes the others than shard 0, which the fields above are about; none when there is one.
	Shards []ShardReport `json:"shards,omitempty"`
	Logs   []LogReport   `json:"logs"`
	// Unfinished are the transactions whose COMMIT lies beyond the last entry: no reader
	// sees any part of them.
	Unfinished []Unfinished `json:"unfinished"`
	// Lost names the ranges that the archive lists but can't give back. Empty means that
	// everything it ever acknowledged, up to LastLSN, is here.
	Lost []Loss `json:"lost"`
	// Fork is set when the point in time is earlier than the newest archived entry: the
	// restored service is a new cluster, ForkCluster, and needs targets of its own.
	Fork        bool   `json:"fork"`
	ForkCluster string `json:"fork_cluster,omitempty"`
	Steps       []Step `json:"steps"`
}

// ShardReport describes what was restored of a shard besides shard 0.
type ShardReport struct {
	Shard        uint32      `json:"shard"`
	Entries      uint64      `json:"entries"`
	EntryBytes   int64       `json:"entry_bytes"`
	Segments     int         `json:"segments"`
	FirstLSN     logcore.LSN `json:"first_lsn"`
	LastLSN      logcore.LSN `json:"last_lsn"`
	LastTime     time.Time   `json:"last_time"`
	ArchivedLSN  logcore.LSN `json:"archived_lsn"`
	ArchivedTime time.Time   `json:"archived_time"`
}

// LogReport describes a restored log.
type LogReport struct {
	Log      string      `json:"log"`
	Shard    uint32      `json:"shard,omitempty"`
	ID       uint64      `json:"id"`
	Parent   string      `json:"parent,omitempty"`
	FirstLSN logcore.LSN `json:"first_lsn"`
	LastLSN  logcore.LSN `json:"last_lsn"`
	LastTime time.Time   `json:"last_time"`
	Entries  uint64      `json:"entries"`
	Bytes    uint64      `json:"bytes"`
	Epoch    uint64      `json:"epoch"`
}

// Unfinished is a transaction that has parts and no end.
type Unfinished struct {
	Log   string      `json:"log"`
	Tx    string      `json:"tx"`
	First logcore.LSN `json:"first_lsn"`
	Parts int         `json:"parts"`
}

// Loss is a range of entries that is gone.
type Loss struct {
	Shard uint32 `json:"shard,omitempty"`
	// Log is set when it is of what a log left in the shard when it moved: the range is in the log's own LSNs.
	Log   string      `json:"log,omitempty"`
	First logcore.LSN `json:"first_lsn"`
	Last  logcore.LSN `json:"last_lsn"`
	// Objects counts the archive's objects that hold the range.
	Objects int `json:"objects"`
	// Reason says why the first of them can't be read; the others have the same fragments left.
	Reason string `json:"reason"`
}

// Step is a part of the work and how long it took.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("cluster", "%s", r.Cluster)
	line("read", "%d objects, %d bytes from the targets; %d fragments rebuilt from the others", r.ObjectsRead, r.BytesRead, r.FragmentsRebuilt)
	if r.ObjectsResumed > 0 {
		line("resumed", "%d of the objects, %d bytes, were fetched by an earlier attempt", r.ObjectsResumed, r.BytesResumed)
	}
	if len(r.Unreachable) > 0 {
		line("unreachable", "%s", strings.Join(r.Unreachable, ", "))
	}
	if len(r.NotGiven) > 0 {
		line("not named", "%s, which the archive has as well", strings.Join(r.NotGiven, ", "))
	}
	if r.LastLSN == 0 {
		line("restored", "nothing, of LSN %d to %d that the archive lists", r.ArchiveFirstLSN, r.ArchivedLSN)
	} else {
		line("restored", "%d entries, %d bytes, LSN %d to %d in %d segments, to %s", r.Entries, r.EntryBytes, r.FirstLSN, r.LastLSN, r.Segments, r.To)
		line("as of", "%s (the archive reaches to LSN %d, %s)", timeText(r.LastTime), r.ArchivedLSN, timeText(r.ArchivedTime))
	}
	for _, s := range r.Shards {
		line(fmt.Sprintf("shard %d", s.Shard), "%d entries, %d bytes, LSN %d to %d in %d segments, as of %s (the archive reaches to LSN %d, %s)",
			s.Entries, s.EntryBytes, s.FirstLSN, s.LastLSN, s.Segments, timeText(s.LastTime), s.ArchivedLSN, timeText(s.ArchivedTime))
	}
	for _, l := range r.Logs {
		parent := ""
		if l.Parent != "" {
			parent = ", branch of " + l.Parent
		}
		line("log", "%s: %d entries, %d bytes, LSN %d to %d, %s%s", l.Log, l.Entries, l.Bytes, l.FirstLSN, l.LastLSN, timeText(l.LastTime), parent)
	}
	for _, u := range r.Unfinished {
		line("unfinished", "transaction %s of log %s, %d parts from LSN %d on: it never committed, nobody sees it", u.Tx, u.Log, u.Parts, u.First)
	}
	if len(r.Lost) == 0 {
		line("lost", "nothing that was archived up to LSN %d", r.LastLSN)
	}
	for _, l := range r.Lost {
		likewise := ""
		if l.Objects > 1 {
			likewise = fmt.Sprintf(" (the first of %d objects with the same fragments left)", l.Objects)
		}
		line("lost", "LSN %d to %d: %s%s", l.First, l.Last, l.Reason, likewise)
	}
	if r.Fork {
		line("fork", "the archive holds newer entries, to LSN %d: this history is a cluster of its own, %s, and needs targets of its own", r.ArchivedLSN, r.ForkCluster)
	}
	steps := make([]string, len(r.Steps))
	for i, s := range r.Steps {
		steps[i] = fmt.Sprintf("%s %.2f s", s.Name, s.Seconds)
	}
	line("took", "%s", strings.Join(steps, ", "))
	_, err := io.WriteString(w, b.String())
	return err
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
