package pageserver_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// TestPageHistory: what changed a page, on a log and on a branch of it, all at once and
// change by change.
func TestPageHistory(t *testing.T) {
	source := enginetest.NewSource(1)
	source.Create("db")
	add := func(log string, records ...engine.Record) logcore.LSN {
		for i := range records {
			records[i].Space, records[i].PageSize = engine.SpaceOf(3), 64
		}
		payloads, err := pages.Encode(records, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return source.AppendTx(log, enginetest.Transaction{Parts: payloads})
	}
	content := make([]byte, 64)
	copy(content, "0123456789")
	delta := func(text string) engine.Record {
		return engine.Record{Op: engine.OpDelta, Page: 2, Ranges: []engine.Range{{Offset: 4, Data: []byte(text)}}}
	}
	image := add("db", engine.Record{Op: engine.OpImage, Page: 2, Data: content})
	add("db", engine.Record{Op: engine.OpImage, Page: 1, Data: content}) // another page
	first := add("db", delta("ABC"))
	if _, err := source.CreateBranch(t.Context(), "db", "db/b", first); err != nil {
		t.Fatal(err)
	}
	cut := add("db", engine.Record{Op: engine.OpTruncate, Page: 1})
	onBranch := add("db/b", delta("XBZ"))
	s := enginetest.Start(t, enginetest.Options(t.TempDir(), source, pages.Decoder{}))

	history := func(log string, of pageserver.ChangeRange) (string, pageserver.Changes) {
		t.Helper()
		h, err := s.History(t.Context(), log, engine.SpaceOf(3), 2, of, pageserver.WaitMax)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, c := range h.Changes {
			if c.Tx == (logcore.TxID{}) || c.Time == 0 {
				t.Errorf("%s at LSN %d: transaction %v, time %v", log, c.LSN, c.Tx, c.Time)
			}
			out = append(out, fmt.Sprintf("%d:%d:%d", c.LSN, c.Kind, c.BytesChanged))
		}
		return strings.Join(out, " "), h
	}
	all := fmt.Sprintf("%d:5:10 %d:2:3 %d:1:10", cut, first, image)
	if got, h := history("db", pageserver.ChangeRange{}); got != all || h.Next != 0 || h.Incarnation != 1 {
		t.Errorf("history %q, next %d, want %q", got, h.Next, all)
	}
	if got, _ := history("db/b", pageserver.ChangeRange{}); got != fmt.Sprintf("%d:2:2 %d:2:3 %d:1:10", onBranch, first, image) {
		t.Errorf("history of the branch: %q", got)
	}
	var pieces []string
	for to := logcore.LSN(0); ; {
		got, h := history("db", pageserver.ChangeRange{To: to, Limit: 1})
		pieces = append(pieces, got)
		if to = h.Next; to == 0 {
			break
		}
	}
	if got := strings.Join(pieces, " "); got != all {
		t.Errorf("piece by piece %q, want %q", got, all)
	}
	if got, _ := history("db", pageserver.ChangeRange{From: first, To: cut - 1}); got != fmt.Sprintf("%d:2:3", first) {
		t.Errorf("between two LSNs: %q", got)
	}
	if _, err := s.History(t.Context(), "db", engine.SpaceOf(3), 2, pageserver.ChangeRange{Limit: pageserver.ChangesMax + 1}, 0); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("too many: %v", err)
	}
}
