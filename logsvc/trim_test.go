package logsvc

import (
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

func TestTrimPoint(t *testing.T) {
	segments := []hotlog.SegmentInfo{
		{First: 1, Last: 10, Sealed: true, Bytes: 100},
		{First: 11, Last: 20, Sealed: true, Bytes: 100},
		{First: 21, Last: 30, Sealed: true, Bytes: 100},
		{First: 31, Last: 35, Bytes: 50},
	}
	for _, c := range []struct {
		keep                  int64
		trimmable, checkpoint logcore.LSN
		want                  logcore.LSN
	}{
		{0, 0, 31, 0},
		{0, 9, 31, 0},
		{0, 10, 31, 10},
		{0, 25, 31, 20},
		{0, 35, 31, 30}, // the open segment stays
		{0, 35, 30, 20}, // a checkpoint in the third
		{0, 35, 21, 20},
		{0, 35, 11, 10}, // the checkpoint of the third is not applied yet
		{0, 35, 1, 0},
		{0, 35, 0, 0}, // none is
		{350, 35, 31, 0},
		{250, 35, 31, 10},
		{249, 35, 31, 10},
		{150, 35, 31, 20},
	} {
		if got := trimPoint(segments, c.keep, c.trimmable, c.checkpoint); got != c.want {
			t.Errorf("keep %d, trimmable %d, checkpoint %d: %d, want %d", c.keep, c.trimmable, c.checkpoint, got, c.want)
		}
	}
}
