package pages_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/pagestest"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
	"github.com/logcore/logcore/pageserver"
)

func logOf(t testing.TB, s walsample.Sample, seed uint64) []pagestest.Entry {
	t.Helper()
	files, err := pagestest.FilesFor(s)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := pagestest.Log(s, files, rand.New(rand.NewPCG(seed, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func newSeed(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// source has the entries in a log, and the LSN at which each ends.
func source(entries []pagestest.Entry) (s *enginetest.Source, at []logcore.LSN) {
	s = enginetest.NewSource(1)
	s.Create("db")
	for _, e := range entries {
		at = append(at, s.AppendTx("db", enginetest.Transaction{Parts: e.Payloads}))
	}
	return s, at
}

// Every page, space and object that the page server has of a PostgreSQL log is, at any LSN, what replaying the decoder's records gives; also after a
// restart, and on a branch.
func TestPageServer(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 2))
	entries := logOf(t, walsample.Consistency, rng.Uint64())
	half := len(entries) * 3 / 4
	src, at := source(entries[:half])
	dir := t.TempDir()
	s := enginetest.Start(t, enginetest.Options(dir, src, pages.Decoder{}))
	compare(t, s, src, "db", at[half-1], at[half/2], at[rng.IntN(half)])
	s.Stop(t)
	for _, e := range entries[half:] {
		at = append(at, src.AppendTx("db", enginetest.Transaction{Parts: e.Payloads}))
	}
	s = enginetest.Start(t, enginetest.Options(dir, src, pages.Decoder{}))
	compare(t, s, src, "db", at[len(at)-1], at[half+1])
	if _, _, err := s.CreateBranch(t.Context(), "db", "branch", pageserver.ReadAt{LSN: at[half]}); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[half+1:] {
		src.AppendTx("branch", enginetest.Transaction{Parts: e.Payloads})
	}
	compare(t, s, src, "branch", src.Last(), at[half-1])
}

func compare(t *testing.T, s *enginetest.Subject, src *enginetest.Source, log string, lsns ...logcore.LSN) {
	t.Helper()
	spaces := enginetest.SpacesOf(t, src, pages.Decoder{}, log)
	for _, at := range lsns {
		n, err := enginetest.Compare(t.Context(), s.Server, src, pages.Decoder{}, log, at, spaces)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d pages of %d spaces compared at LSN %d", n, len(spaces), at)
	}
}

// A record that can't be redone ends the ingest of its log, with the reason; what is before it is served, and other logs go on.
func TestRefusedRecord(t *testing.T) {
	entries := logOf(t, walsample.Various, newSeed(t))
	src, at := source(entries)
	src.Create("other")
	for _, e := range logOf(t, walsample.Consistency, 1) {
		src.AppendTx("other", enginetest.Transaction{Parts: e.Payloads})
	}
	s := enginetest.Start(t, enginetest.Options(t.TempDir(), src, pages.Decoder{}))
	wait := pageserver.ReadAt{LSN: at[len(at)-1], Wait: 30 * time.Second}
	if _, err := s.WaitLSN(t.Context(), "db", wait); err == nil || !strings.Contains(err.Error(), "Hash") || !strings.Contains(err.Error(), "set wal_consistency_checking") {
		t.Errorf("a hash index's record without an image: %v", err)
	}
	if _, err := s.WaitLSN(t.Context(), "other", pageserver.ReadAt{LSN: src.Last(), Wait: 30 * time.Second}); err != nil {
		t.Errorf("another log: %v", err)
	}
	refused := slices.IndexFunc(entries, func() func(pagestest.Entry) bool {
		m := pagestest.NewMemory()
		return func(e pagestest.Entry) bool {
			return slices.ContainsFunc(e.Payloads, func(p []byte) bool { return m.Payload(p) != nil })
		}
	}())
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: at[refused-1], Wait: 30 * time.Second}); err != nil {
		t.Errorf("the entry before: %v", err)
	}
}

func TestBadLogs(t *testing.T) {
	entries := logOf(t, walsample.Consistency, 5)
	base := slices.IndexFunc(entries, func(e pagestest.Entry) bool { return kind(t, e) == payload.KindBaseEnd })
	m := pagestest.NewMemory()
	for _, e := range entries[:base+1] {
		take(t, m, e)
	}
	after := m.State
	whole := slices.IndexFunc(entries, func(e pagestest.Entry) bool { return kind(t, e) == payload.KindWAL && len(e.Payloads) == 1 })
	first := entries[base+1].Payloads[0]
	flipped := bytes.Clone(entries[whole].Payloads[0])
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct{ state, payload []byte }{
		"WAL without a base backup":     {nil, first},
		"a gap":                         {after, entries[len(entries)-1].Payloads[0]},
		"the end without pieces":        {nil, entries[base].Payloads[0]},
		"no payload":                    {after, []byte("no payload")},
		"another cluster":               {after, append(bytes.Clone(first[:16]), append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, first[24:]...)...)},
		"a state that is none":          {[]byte{1, 2, 3}, first},
		"a state of a newer version":    {append([]byte{200}, after[1:]...), first},
		"the end after half of archive": {stateBefore(t, entries, base/2), entries[base].Payloads[0]},
	} {
		_, _, err := pages.Decoder{}.Decode(c.state, c.payload)
		if !errors.Is(err, logcore.ErrCorrupt) && !(strings.Contains(name, "newer") && errors.Is(err, logcore.ErrUnsupportedVersion)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := (pages.Decoder{}).Decode(stateBefore(t, entries, whole), flipped); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("a flipped bit: %v", err)
	}
	for magic, version := range map[uint16]string{0xD10D: "14", 0xD113: "16", 0xD116: "17", 0xD118: "18"} {
		other := bytes.Clone(first)
		binary.LittleEndian.PutUint16(other[payload.HeaderBytes:], magic)
		if _, _, err := (pages.Decoder{}).Decode(after, other); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) || !strings.Contains(err.Error(), "PostgreSQL "+version) {
			t.Errorf("WAL of PostgreSQL %s: %v", version, err)
		}
	}
	for name, data := range map[string][]byte{"empty": {}, "half an item": {1, 1, 9, 0, 0, 0, 1}, "a newer version": {9}, "a newer item": {1, 9, 0, 0, 0, 0}, "newer settings": {1, 1, 1, 0, 0, 0, 0x80}} {
		err := pages.Decoder{}.Redo(make([]byte, page.Bytes), data)
		if !errors.Is(err, logcore.ErrCorrupt) && !(strings.Contains(name, "newer") && errors.Is(err, logcore.ErrUnsupportedVersion)) {
			t.Errorf("redo, %s: %v", name, err)
		}
	}
}

func kind(t *testing.T, e pagestest.Entry) payload.Kind {
	t.Helper()
	p, err := payload.Decode(e.Payloads[0])
	if err != nil {
		t.Fatal(err)
	}
	return p.Kind
}

func take(t testing.TB, m *pagestest.Memory, e pagestest.Entry) {
	t.Helper()
	for _, p := range e.Payloads {
		if err := m.Payload(p); err != nil {
			t.Fatal(err)
		}
	}
}

func stateBefore(t *testing.T, entries []pagestest.Entry, n int) []byte {
	m := pagestest.NewMemory()
	for _, e := range entries[:n] {
		take(t, m, e)
	}
	return m.State
}

// Places of spaces and back.
func TestPlaces(t *testing.T) {
	r := wal.Relation{Tablespace: 1663, Database: 5, File: 4294967295}
	for _, f := range effect.Forks {
		p, ok := pages.PlaceOf(pages.RelationSpace(r, f))
		path, at := p.Path(wal.FilePages + 1)
		if !ok || p.Relation != r || p.Fork != f || path != r.Path(f)+".1" || at != page.Bytes {
			t.Errorf("%v: %+v, %v, %s at %d", f, p, ok, path, at)
		}
	}
	for s := range effect.SLRUs {
		if p, ok := pages.PlaceOf(pages.SLRUSpace(s, 0x12345)); !ok || p.SLRU != s || p.Segment != 0x12345 {
			t.Errorf("%+v, %v", p, ok)
		}
	}
	d := effect.Database{Tablespace: 1664}
	if p, ok := pages.PlaceOf(pages.MapSpace(d)); !ok || p.Kind != pages.PlaceMap || p.Database != d {
		t.Errorf("%+v, %v", p, ok)
	}
	for _, s := range []engine.Space{{}, {Hi: 5}, {Hi: 1663<<32 | 5, Lo: 1<<8 | 7}, {Hi: 1663<<32 | 5, Lo: 1 << 41}} {
		if p, ok := pages.PlaceOf(s); ok {
			t.Errorf("%v is %+v", s, p)
		}
	}
}

// The bytes of states, redo data and objects are those of the first version: testdata/v1.golden. With REWRITE set it is written anew.
func TestGolden(t *testing.T) {
	entries := logOf(t, walsample.Consistency, 7)
	base := slices.IndexFunc(entries, func(e pagestest.Entry) bool { return kind(t, e) == payload.KindBaseEnd })
	var b strings.Builder
	var state []byte
	for i, e := range entries[:base+3] {
		for _, p := range e.Payloads {
			records, next, err := pages.Decoder{}.Decode(state, p)
			if err != nil {
				t.Fatal(err)
			}
			state = next
			if i == base/2 || i >= base {
				fmt.Fprintf(&b, "entry %d\nstate %x\n", i, next)
				for _, r := range records[:min(len(records), 12)] {
					data := r.Data
					if r.Op == engine.OpImage {
						data = nil
					}
					fmt.Fprintf(&b, "record %d %v %d %d %v %q %x\n", r.Op, r.Space, r.Page, r.PageSize, r.Init, r.Key, data)
				}
			}
		}
	}
	const path = "testdata/v1.golden"
	if os.Getenv("REWRITE") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Error("the bytes differ from testdata/v1.golden: a changed format needs a new version, in FORMAT.md too")
	}
}

func FuzzDecode(f *testing.F) {
	entries := logOf(f, walsample.Consistency, 9)
	m := pagestest.NewMemory()
	for i, e := range entries[:60] {
		if i%6 == 0 {
			f.Add(m.State, e.Payloads[0])
		}
		take(f, m, e)
	}
	f.Fuzz(func(t *testing.T, state, payload []byte) {
		if len(state) == 0 {
			state = nil
		}
		records, next, err := pages.Decoder{}.Decode(state, payload)
		if err != nil {
			return
		}
		if len(next) > engine.StateBytesMax {
			t.Errorf("a state of %d bytes", len(next))
		}
		for i := range records {
			if err := records[i].Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzRedo(f *testing.F) {
	entries := logOf(f, walsample.Consistency, 9)
	var state []byte
	for _, e := range entries[:60] {
		for _, p := range e.Payloads {
			records, next, err := pages.Decoder{}.Decode(state, p)
			if err != nil {
				f.Fatal(err)
			}
			state = next
			if len(records) > 0 && records[0].Op == engine.OpRedo {
				f.Add(records[0].Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := make([]byte, page.Bytes)
		if err := (pages.Decoder{}).Redo(p, data); err != nil && !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Error(err)
		}
	})
}
