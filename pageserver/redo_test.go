package pageserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/pageserver"
)

// lineDecoder decodes payloads of one record each: "redo PAGE TEXT" appends a byte count
// to the page, "image PAGE" begins it anew, "many PAGE..." is as many images as there are
// numbers, anything else is corrupt. A redo of "bad" fails.
type lineDecoder struct{}

const linePage = 4096

func (lineDecoder) Decode(_, payload []byte) ([]engine.Record, []byte, error) {
	var page, n uint32
	var text string
	if _, err := fmt.Sscanf(string(payload), "redo %d %s", &page, &text); err == nil {
		return []engine.Record{{Space: engine.SpaceOf(1), Op: engine.OpRedo, Page: page, PageSize: linePage, Data: []byte(text)}}, nil, nil
	}
	if _, err := fmt.Sscanf(string(payload), "images %d %d", &page, &n); err == nil {
		var records []engine.Record
		for i := range n {
			records = append(records, engine.Record{Space: engine.SpaceOf(1), Op: engine.OpImage, Page: page + i, PageSize: linePage, Data: bytes.Repeat([]byte{byte(i)}, linePage)})
		}
		return records, nil, nil
	}
	return nil, nil, fmt.Errorf("%w: %q", logcore.ErrCorrupt, payload)
}

func (lineDecoder) Redo(page, data []byte) error {
	if string(data) == "bad" {
		return fmt.Errorf("%w: a bad redo record", logcore.ErrCorrupt)
	}
	page[0] += data[0]
	return nil
}

// TestRedoFails: a page that the decoder cannot bring forward is not served from there on
// until it begins anew; nothing else suffers, and the store is not blamed.
func TestRedoFails(t *testing.T) {
	r := newRig(t, 0)
	r.opts.Decoder, r.opts.ChainDeltasMax = lineDecoder{}, 4
	s := r.start()
	say := func(format string, args ...any) logcore.LSN {
		lsn, _ := r.source.Append("db", logcore.KindData, logcore.TxID{}, fmt.Appendf(nil, format, args...))
		return lsn
	}
	get := func(page uint32, at logcore.LSN) (byte, error) {
		set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{page}, pageserver.ReadAt{LSN: at, Wait: wait})
		if err != nil {
			return 0, err
		}
		return set.Pages[0].Data[0], nil
	}
	say("images 0 2")
	good := say("redo 0 a")
	bad := say("redo 0 bad")
	for range 20 { // far beyond where a page is due an image
		say("redo 0 a")
		say("redo 1 a")
	}
	last := say("redo 1 a")
	if b, err := get(0, good); err != nil || b != 'a' {
		t.Errorf("before the bad record: %d, %v", b, err)
	}
	for _, at := range []logcore.LSN{bad, last} {
		if _, err := get(0, at); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("at LSN %d: %v, want ErrCorrupt", at, err)
		}
	}
	sum := 1 // what the image of page 1 holds
	for range 21 {
		sum += 'a'
	}
	if b, err := get(1, last); err != nil || b != byte(sum) {
		t.Errorf("another page: %d, %v, want %d", b, err, byte(sum))
	}
	if b, err := get(0, say("images 0 1")); err != nil || b != 0 {
		t.Errorf("the page begun anew: %d, %v", b, err)
	}
	if n := r.metric("store_rebuilds_total") + r.metric("healed_pages_total"); n != 0 {
		t.Errorf("%v pages or stores were built again for what is in the log", n)
	}
}

// TestBadTransactionLeavesNothing: a transaction whose last part turns out to be impossible
// leaves nothing of itself behind, whether the ones before are in the store already or on
// their way there, and the log is served up to it.
func TestBadTransactionLeavesNothing(t *testing.T) {
	t.Run("in the store", func(t *testing.T) { testBadTransaction(t, 300) }) // more than a set of keys
	t.Run("on its way", func(t *testing.T) { testBadTransaction(t, 3) })
	t.Run("written beside", func(t *testing.T) {
		defer pageserver.WriteBeside()()
		testBadTransaction(t, 300)
		testBadTransaction(t, 3)
	})
}

// testBadTransaction has a transaction of parts with so many pages each.
func testBadTransaction(t *testing.T, pages int) {
	r := newRig(t, 0)
	r.opts.Decoder = lineDecoder{}
	s := r.start()
	r.source.Create("good")
	before, _ := r.source.Append("db", logcore.KindData, logcore.TxID{}, []byte("images 0 1"))
	tx := logcore.TxID{7}
	for i := range 4 {
		r.source.Append("db", logcore.KindPart, tx, fmt.Appendf(nil, "images %d %d", i, pages))
	}
	commit, _ := r.source.Append("db", logcore.KindCommit, tx, []byte("nonsense"))
	after, _ := r.source.Append("good", logcore.KindData, logcore.TxID{}, []byte("images 0 1"))
	_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{0}, pageserver.ReadAt{LSN: commit, Wait: wait})
	if !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("at the bad transaction: %v, want ErrCorrupt", err)
	}
	for log, at := range map[string]logcore.LSN{"db": before, "good": after} {
		if set, err := s.GetPages(t.Context(), log, engine.SpaceOf(1), []uint32{0}, pageserver.ReadAt{LSN: at, Wait: wait}); err != nil || len(set.Pages[0].Data) != linePage {
			t.Errorf("%s at LSN %d: %v", log, at, err)
		}
	}
	s.Stop(t)
	store, err := pageserver.Inspect(r.opts.Dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	err = store.Each(func(lsn logcore.LSN, key, _ []byte) error {
		if lsn == commit && key[0] != 'o' {
			return fmt.Errorf("key %x of the bad transaction", key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
