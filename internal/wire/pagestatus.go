package wire

import (
	"cmp"
	"slices"
	"strings"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// pageStates are the ingest states of a log, the one that matters most last: of a log that several
// page servers, or several stores of one, have parts of, the worst is told.
var pageStates = []string{"resting", "following", "catching up", "waiting", "disk full", "quarantined"}

// MergePageStatus makes one status of each log out of those that several have of it, each with some
// of the pages. What is counted by page adds up; of the rest the least, or the worst, is told. It
// changes what it is given.
func MergePageStatus(parts ...*logcorev1.LogStatusResponse) *logcorev1.LogStatusResponse {
	out := &logcorev1.LogStatusResponse{}
	at := map[uint64]*logcorev1.PageLogStatus{}
	for _, p := range parts {
		for _, l := range p.GetLogs() {
			if have := at[l.LogId]; have != nil {
				mergeLogStatus(have, l)
				continue
			}
			at[l.LogId] = l
			out.Logs = append(out.Logs, l)
		}
		out.Sources = mergeSources(out.Sources, p.GetSources())
	}
	slices.SortFunc(out.Logs, func(a, b *logcorev1.PageLogStatus) int {
		return cmp.Or(strings.Compare(a.Log, b.Log), cmp.Compare(a.LogId, b.LogId))
	})
	return out
}

func mergeLogStatus(a, b *logcorev1.PageLogStatus) {
	if slices.Index(pageStates, b.State) > slices.Index(pageStates, a.State) {
		a.State, a.Reason = b.State, b.Reason
	}
	if b.From != "" && b.From != a.From { // the archive is what is not usual
		a.From = min(cmp.Or(a.From, b.From), b.From)
	}
	a.IngestedLsn = min(a.IngestedLsn, b.IngestedLsn)
	a.HorizonLsn, a.Pins = max(a.HorizonLsn, b.HorizonLsn), max(a.Pins, b.Pins)
	a.LastLsn, a.BehindBytes, a.BehindMs = max(a.LastLsn, b.LastLsn), max(a.BehindBytes, b.BehindBytes), max(a.BehindMs, b.BehindMs)
	// Lengths of spaces are those of the whole log, wherever its pages are.
	a.LogicalBytes, a.CountedMs = max(a.LogicalBytes, b.LogicalBytes), min(a.CountedMs, b.CountedMs)
	a.Versions, a.VersionBytes = a.Versions+b.Versions, a.VersionBytes+b.VersionBytes
	a.Collected, a.CollectedBytes = a.Collected+b.Collected, a.CollectedBytes+b.CollectedBytes
	a.DiskBytes += b.DiskBytes
}

func mergeSources(a, b *logcorev1.PageSources) *logcorev1.PageSources {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	a.LogService, a.Archive = a.LogService && b.LogService, a.Archive || b.Archive
	a.ArchiveError = cmp.Or(a.ArchiveError, b.ArchiveError)
	a.ArchiveCheckedMs = max(a.ArchiveCheckedMs, b.ArchiveCheckedMs)
	for _, name := range b.ArchiveUnreachable {
		if !slices.Contains(a.ArchiveUnreachable, name) {
			a.ArchiveUnreachable = append(a.ArchiveUnreachable, name)
		}
	}
	return a
}
