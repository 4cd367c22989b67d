package recovery

import (
	"strings"
	"testing"

	"github.com/logcore/logcore/catalog"
)

// Entries below the archive's first one are lost unless their log was truncated.
func TestLostBeginning(t *testing.T) {
	logs := []*catalog.Log{
		{Name: "whole", OriginLSN: 40, LastLSN: 50, Entries: 3},
		{Name: "truncated", OriginLSN: 3, TruncatedBefore: 35, LastLSN: 50, Entries: 9},
		{Name: "never written", OriginLSN: 2},
	}
	if lost := lostBeginning(logs, 35); len(lost) != 0 {
		t.Errorf("nothing is lost, it says %+v", lost)
	}
	logs = append(logs, &catalog.Log{Name: "a", OriginLSN: 9, LastLSN: 50}, &catalog.Log{Name: "b", OriginLSN: 7, TruncatedBefore: 8, LastLSN: 20})
	lost := lostBeginning(logs, 35)
	if len(lost) != 1 || lost[0].First != 8 || lost[0].Last != 34 || !strings.Contains(lost[0].Reason, "of a, b") {
		t.Errorf("%+v, want LSN 8 to 34 of a and b", lost)
	}
}
