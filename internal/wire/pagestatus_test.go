package wire

import (
	"testing"

	"google.golang.org/protobuf/proto"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TestMergePageStatus: what two page servers with parts of a log say of it is told as one.
func TestMergePageStatus(t *testing.T) {
	a := &logcorev1.LogStatusResponse{Logs: []*logcorev1.PageLogStatus{
		{LogId: 2, Log: "b", IngestedLsn: 7, State: "following", From: "log service"},
		{LogId: 1, Log: "a", IngestedLsn: 90, State: "following", From: "log service", HorizonLsn: 5, Pins: 1, CountedMs: 30, LogicalBytes: 100, Versions: 10,
			VersionBytes: 1000, Collected: 1, CollectedBytes: 10, DiskBytes: 500, LastLsn: 95, BehindBytes: 9, BehindMs: 1},
	}, Sources: &logcorev1.PageSources{LogService: true}}
	b := &logcorev1.LogStatusResponse{Logs: []*logcorev1.PageLogStatus{
		{LogId: 1, Log: "a", IngestedLsn: 60, State: "quarantined", Reason: "bad", From: "archive", HorizonLsn: 6, Pins: 2, CountedMs: 20, LogicalBytes: 100, Versions: 20,
			VersionBytes: 2000, Collected: 2, CollectedBytes: 20, DiskBytes: 600, LastLsn: 97, BehindBytes: 90, BehindMs: 7},
	}, Sources: &logcorev1.PageSources{Archive: true, ArchiveError: "gone", ArchiveCheckedMs: 5, ArchiveUnreachable: []string{"c1"}}}
	want := &logcorev1.LogStatusResponse{Logs: []*logcorev1.PageLogStatus{
		{LogId: 1, Log: "a", IngestedLsn: 60, State: "quarantined", Reason: "bad", From: "archive", HorizonLsn: 6, Pins: 2, CountedMs: 20, LogicalBytes: 100, Versions: 30,
			VersionBytes: 3000, Collected: 3, CollectedBytes: 30, DiskBytes: 1100, LastLsn: 97, BehindBytes: 90, BehindMs: 7},
		{LogId: 2, Log: "b", IngestedLsn: 7, State: "following", From: "log service"},
	}, Sources: &logcorev1.PageSources{Archive: true, ArchiveError: "gone", ArchiveCheckedMs: 5, ArchiveUnreachable: []string{"c1"}}}
	for name, parts := range map[string][]*logcorev1.LogStatusResponse{"one way": {a, b}, "the other": {b, a}, "with one that has nothing": {a, {}, b}} {
		var copies []*logcorev1.LogStatusResponse
		for _, p := range parts {
			copies = append(copies, proto.CloneOf(p))
		}
		if got := MergePageStatus(copies...); !proto.Equal(got, want) {
			t.Errorf("%s:\n%v\nwant\n%v", name, got, want)
		}
	}
}
