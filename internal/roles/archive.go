package roles

import (
	"context"
	"fmt"
	"iter"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/tiering"
)

// archive is the archive of a shard as the log service needs it.
type archive struct {
	part     *shardPart
	archiver *tiering.Archiver
	source   *hotSource
}

var _ logsvc.Archive = (*archive)(nil)

// Read yields archived entries.
func (a *archive) Read(ctx context.Context, _ logcore.ShardID, from, to logcore.LSN) iter.Seq2[logcore.Entry, error] {
	return func(yield func(logcore.Entry, error) bool) {
		readSpans(a.archiver.Reader().Spans(ctx, from, to), from, to, yield)
	}
}

// Erased says what no longer is in it.
func (a *archive) Erased(_ logcore.ShardID, log logcore.LogID, lsn logcore.LSN) bool {
	return a.archiver.Reader().Erased(log, lsn)
}

// Covered returns up to where everything is archived.
func (a *archive) Covered(logcore.ShardID) logcore.LSN { return a.archiver.Covered() }

// Trimmable returns what the archive said may go; it looks at the disk's pressure itself.
func (a *archive) Trimmable(logcore.ShardID, bool) logcore.LSN {
	return logcore.LSN(a.source.trimmable.Load())
}

// Flush archives up to lsn at once.
func (a *archive) Flush(ctx context.Context, _ logcore.ShardID, lsn logcore.LSN) error {
	return a.archiver.Flush(ctx, lsn)
}

// Status says how far behind the archive is and what is wrong with it.
func (a *archive) Status(logcore.ShardID) logsvc.ArchiveStatus {
	st := a.archiver.Status()
	// With what is wrong with the hot log beneath: the service shows what is wrong with its storage as a whole.
	out := logsvc.ArchiveStatus{Lag: st.Lag, Problems: a.part.damage.list(), Decided: a.part.decisions()}
	out.Problems = append(out.Problems, a.part.unknownTargets()...)
	if st.LastError != "" {
		out.Problems = append(out.Problems, "archiving is held up: "+st.LastError)
	}
	for _, t := range a.archiver.TargetStatus() {
		if !t.Healthy {
			out.Problems = append(out.Problems, fmt.Sprintf("target %s: %s", t.Name, t.LastError))
		} else if t.Missing > 0 {
			out.Problems = append(out.Problems, fmt.Sprintf("target %s lacks %d fragments that it did not take: is it full, or read-only?", t.Name, t.Missing))
		}
	}
	if st.Degraded > 0 {
		out.Problems = append(out.Problems, fmt.Sprintf("%d of %d archived objects lack a fragment", st.Degraded, st.Objects))
	}
	return out
}

// Targets describes the buckets.
func (a *archive) Targets(context.Context) ([]logsvc.Target, error) {
	var out []logsvc.Target
	for _, t := range a.part.targetList(a.archiver) {
		out = append(out, logsvc.Target{Name: t.Name, URL: t.Url, Provider: t.Provider, Region: t.Region, Healthy: t.Healthy, Error: t.Error,
			Fragments: t.Fragments, Bytes: t.Bytes, Capabilities: t.Capabilities})
	}
	return out, nil
}

// targetList describes the buckets, and what of the shard is on each.
func (p *shardPart) targetList(archiver *tiering.Archiver) (out []*logcorev1.Target) {
	for _, t := range archiver.TargetStatus() {
		one := &logcorev1.Target{Name: t.Name, Url: t.Location, Provider: t.Provider, Region: t.Region, Healthy: t.Healthy,
			Fragments: uint64(t.Fragments), Bytes: uint64(t.Bytes), Capabilities: p.capabilities.of(t.Name)}
		if t.Leaving {
			one.Error = fmt.Sprintf("being evacuated: %d fragments are left", t.Fragments)
		}
		if !t.Healthy {
			one.Error = t.LastError
		}
		out = append(out, one)
	}
	return out
}
