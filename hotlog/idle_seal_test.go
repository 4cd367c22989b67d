package hotlog

import (
	"context"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// TestIdleMarkBeforeAPendingSeal: the idle mark comes due just when a submission with
// a SEAL is queued and not written yet. The segment on the medium is not sealed then,
// and no mark may say so: a crash at that moment would be taken for corruption.
func TestIdleMarkBeforeAPendingSeal(t *testing.T) {
	ctx := context.Background()
	l, _, err := Open(ctx, Options{Dir: t.TempDir(), SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Append(ctx, []logcore.Entry{{LSN: 1, Term: 1, Kind: logcore.KindData}}); err != nil {
		t.Fatal(err)
	}
	checked := make(chan segment.Mark)
	l.commands <- func() { // on the committer, where the idle timer fires
		err := l.Submit([]logcore.Entry{{LSN: 2, Term: 1, Kind: logcore.KindSeal}, {LSN: 3, Term: 1, Kind: logcore.KindData}}, func(error) {})
		if err != nil {
			t.Error(err)
		}
		l.markIdle(false)
		view := *l.view.Load()
		checked <- view[len(view)-1].mark
	}
	if m := <-checked; m.State == segment.StateSealed {
		t.Fatalf("the mark says sealed at LSN %d, the SEAL is LSN 2 and not written", m.LSN)
	}
}
