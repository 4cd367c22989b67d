package compute_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/compute"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/pagestest"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// memoryStore is a page server that has ingested up to the memory's LSN.
type memoryStore struct {
	*pagestest.Memory
	at logcore.LSN
}

var errOtherLSN = errors.New("not as of that LSN")

func (m memoryStore) check(at logcore.LSN) error {
	if at != m.at {
		return errOtherLSN
	}
	return nil
}

func (m memoryStore) Ingested(context.Context, logcore.LSN, time.Duration) (logcore.LSN, error) {
	return m.at, nil
}

func (m memoryStore) Hold(_ context.Context, at logcore.LSN) (func(), error) {
	return func() {}, m.check(at)
}

func (m memoryStore) Before(context.Context, time.Time) (logcore.LSN, error) { return m.at, nil }

func (m memoryStore) Spaces(_ context.Context, at logcore.LSN) iter.Seq2[compute.SpaceInfo, error] {
	return func(yield func(compute.SpaceInfo, error) bool) {
		for s, c := range m.Memory.Spaces {
			if !yield(compute.SpaceInfo{Space: s, Pages: uint32(len(c.Pages)), PageSize: c.PageSize}, m.check(at)) {
				return
			}
		}
	}
}

func (m memoryStore) Pages(_ context.Context, s engine.Space, first, n uint32, at logcore.LSN) ([][]byte, error) {
	var out [][]byte
	for _, p := range m.Memory.Spaces[s].Pages[first : first+n] {
		out = append(out, bytes.Clone(p))
	}
	return out, m.check(at)
}

func (m memoryStore) Object(_ context.Context, key string, at logcore.LSN) ([]byte, error) {
	return m.Memory.Objects[key], m.check(at)
}

func (m memoryStore) Objects(_ context.Context, prefix string, at logcore.LSN) iter.Seq2[compute.Object, error] {
	return func(yield func(compute.Object, error) bool) {
		for _, k := range m.Keys(prefix) {
			if !yield(compute.Object{Key: k, Data: m.Memory.Objects[k]}, m.check(at)) {
				return
			}
		}
	}
}

// logOf reads entries as the log service gives them: a transaction's parts, then its COMMIT. Where there is a number free before an entry
// stands a part of a writer that died before its COMMIT and was fenced by the next one, which sent the same again.
func logOf(entries []pagestest.Entry) compute.Log {
	var all []compute.Entry
	epoch := logcore.Epoch(1)
	for i, e := range entries {
		first := e.LSN - logcore.LSN(len(e.Payloads)-1)
		if i > 0 && entries[i-1].LSN+1 < first {
			all = append(all, compute.Entry{LSN: first - 1, Epoch: epoch, Kind: logcore.KindPart, Tx: logcore.TxID{byte(i), byte(i >> 8), 1}, Payload: e.Payloads[0]})
			epoch++
		}
		for n, p := range e.Payloads {
			out := compute.Entry{LSN: first + logcore.LSN(n), Epoch: epoch, Kind: logcore.KindPart, Tx: logcore.TxID{byte(i), byte(i >> 8), 2}, Payload: p}
			switch {
			case len(e.Payloads) == 1:
				out.Kind = logcore.KindData
			case n == len(e.Payloads)-1:
				out.Kind = logcore.KindCommit
			}
			all = append(all, out)
		}
	}
	return func(_ context.Context, from, to logcore.LSN) iter.Seq2[compute.Entry, error] {
		return func(yield func(compute.Entry, error) bool) {
			for _, e := range all {
				if e.LSN >= from && e.LSN <= to && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// tree reads all files of a directory; the control file's and the checkpoint's times are made equal.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			files[rel+"/"] = nil
			return nil
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A data directory made from what the page server has is, file by file, the one made by replaying the log from its base backup, wherever both end, and
// however far behind the page server is. In one of them the WAL that is needed begins inside a transaction of several entries.
func TestFromPagesAsByReplay(t *testing.T) {
	for _, sample := range []struct {
		name string
		walsample.Sample
		seed uint64
	}{
		{"various", walsample.Various, uint64(time.Now().UnixNano())}, {"consistency", walsample.Consistency, uint64(time.Now().UnixNano())},
		{"begins inside a transaction", walsample.Various, 1795529010517472355},
	} {
		t.Run(sample.name, func(t *testing.T) {
			t.Logf("seed %d", sample.seed)
			rng := rand.New(rand.NewPCG(sample.seed, 1))
			files, err := pagestest.FilesFor(sample.Sample)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := pagestest.Log(sample.Sample, files, rng)
			if err != nil {
				t.Fatal(err)
			}
			m := pagestest.NewMemory()
			last, compared := entries[len(entries)-1].LSN, 0
			for i, e := range entries {
				if err := take(m, e); errors.Is(err, logcore.ErrUnsupportedVersion) {
					refused(t, entries, e.LSN, err)
					break
				} else if err != nil {
					t.Fatalf("LSN %d: %v", e.LSN, err)
				}
				if m.Objects["base"] == nil || i%7 != 0 && e.LSN != last && i < len(entries)-3 {
					continue
				}
				ahead := entries[min(len(entries)-1, i+rng.IntN(3))].LSN
				differences, done := compareBuilds(t, memoryStore{m, e.LSN}, entries, ahead)
				for _, d := range differences {
					t.Error(d)
				}
				if done {
					compared++
				}
			}
			if compared < 3 {
				t.Errorf("%d directories compared of %d entries", compared, len(entries))
			}
		})
	}
}

func take(m *pagestest.Memory, e pagestest.Entry) error {
	for _, p := range e.Payloads {
		if err := m.Payload(p); err != nil {
			return err
		}
	}
	return nil
}

// refused checks that the replay refuses the log at the same entry, for the same reason.
func refused(t *testing.T, entries []pagestest.Entry, at logcore.LSN, reason error) {
	t.Helper()
	_, err := compute.Materialise(t.Context(), filepath.Join(t.TempDir(), "a"), nil, logOf(entries), at, compute.Target{}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, logcore.ErrUnsupportedVersion) || !strings.Contains(err.Error(), "set wal_consistency_checking") {
		t.Errorf("LSN %d: the page server says %v, the replay %v", at, reason, err)
	}
}

// compareBuilds makes the directory both ways and returns what differs. done is false when the log can't be replayed on files up to there, as a
// log can't that changes pages of before its base backup.
func compareBuilds(t *testing.T, s memoryStore, entries []pagestest.Entry, to logcore.LSN) (differences []string, done bool) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	byReplay, byPages := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	target := compute.Target{Fork: true}
	want, err := compute.Materialise(t.Context(), byReplay, nil, logOf(entries), to, target, quiet)
	if errors.Is(err, logcore.ErrUnsupportedVersion) && to > s.at { // a record that can't be redone is ahead of the page server
		if _, err := compute.Materialise(t.Context(), byPages, s, logOf(entries), to, target, quiet); !errors.Is(err, logcore.ErrUnsupportedVersion) {
			differences = append(differences, fmt.Sprintf("LSN %d to %d: a record that the replay refuses: %v", s.at, to, err))
		}
		return differences, false
	}
	if err != nil {
		if !strings.Contains(err.Error(), "neither in the base backup nor made by the log") && !errors.Is(err, compute.ErrNoBase) {
			t.Fatal(err)
		}
		return nil, false
	}
	differ := func(format string, args ...any) {
		differences = append(differences, fmt.Sprintf("LSN %d to %d: ", s.at, to)+fmt.Sprintf(format, args...))
	}
	got, err := compute.Materialise(t.Context(), byPages, s, logOf(entries), to, target, quiet)
	if err != nil {
		differ("%v", err)
		return differences, true
	}
	if got.Pages == 0 {
		differ("not made from pages")
	}
	if got.End != want.End || got.LSN != want.LSN || got.Timeline != want.Timeline || !got.LastCommit.Equal(want.LastCommit) || string(got.History) != string(want.History) {
		differ("%+v,\nwant %+v", got, want)
	}
	a, b := tree(t, byReplay), tree(t, byPages)
	for name, x := range a {
		if y, ok := b[name]; !ok {
			differ("%s is missing", name)
		} else if !same(name, x, y) {
			differ("%s differs: %s", name, difference(x, y))
		}
	}
	for name, y := range b {
		if _, ok := a[name]; !ok && (!strings.HasSuffix(name, "_vm") || len(bytes.Trim(y, "\x00")) > 0) {
			differ("%s is more than there should be", name)
		}
	}
	return differences, true
}

// The comparison finds mistakes that a decoder or a store could make.
func TestPlantedMistakes(t *testing.T) {
	files, err := pagestest.FilesFor(walsample.Various)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := pagestest.Log(walsample.Various, files, rand.New(rand.NewPCG(21, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(*engine.Record) bool{
		"none":                                 nil,
		"databases are not copied":             func(r *engine.Record) bool { return r.Op == engine.OpCopyGroup },
		"empty relations are not made":         func(r *engine.Record) bool { return r.Op == engine.OpTruncate },
		"transactions' states are lost":        func(r *engine.Record) bool { return r.Op == engine.OpRedo && r.Space.Hi == 1 },
		"relation maps are left out":           func(r *engine.Record) bool { return r.Op == engine.OpImage && r.PageSize == 512 },
		"every page's redo begins with zeros":  func(r *engine.Record) bool { r.Init = r.Op == engine.OpRedo; return false },
		"the base backup's pages are left out": func(r *engine.Record) bool { return r.Op == engine.OpImage && r.PageSize == 8192 },
	} {
		t.Run(name, func(t *testing.T) {
			m := pagestest.NewMemory()
			m.Plant = plant
			found, compared := 0, 0
			for i, e := range entries {
				if err := take(m, e); err != nil {
					break
				}
				if m.Objects["base"] == nil || i%11 != 0 {
					continue
				}
				if differences, done := compareBuilds(t, memoryStore{m, e.LSN}, entries, e.LSN); done {
					compared++
					found += len(differences)
				}
			}
			if compared == 0 || (found > 0) != (plant != nil) {
				t.Errorf("%d differences in %d directories", found, compared)
			}
		})
	}
}

// same compares two files: the end of a visibility map or of an SLRU may be zeros or not be there.
func same(name string, x, y []byte) bool {
	if name == "global/pg_control" {
		return bytes.Equal(timeless(x), timeless(y))
	}
	if strings.HasPrefix(name, "pg_wal/") {
		return len(x) == len(y) // the time in the checkpoint differs; the positions were compared
	}
	if strings.HasSuffix(name, "_vm") || strings.HasPrefix(name, "pg_xact") || strings.HasPrefix(name, "pg_multixact") || strings.HasPrefix(name, "pg_commit_ts") {
		return bytes.Equal(bytes.TrimRight(x, "\x00"), bytes.TrimRight(y, "\x00"))
	}
	if strings.HasSuffix(name, "/1003") {
		x = x[:8192] // less than a page follows
	}
	return bytes.Equal(x, y)
}

// timeless returns a pg_control without the times in it.
func timeless(b []byte) []byte {
	c, err := effect.ParseControl(b)
	if err != nil {
		return nil
	}
	counters := c.Counters()
	counters.Time = 0
	c.ShutDown(1, counters)
	return c
}

func difference(x, y []byte) string {
	if len(x) != len(y) {
		return fmt.Sprintf("%d bytes, want %d", len(y), len(x))
	}
	for i := range x {
		if x[i] != y[i] {
			return fmt.Sprintf("at %d: %x, want %x", i, y[i:min(i+16, len(y))], x[i:min(i+16, len(x))])
		}
	}
	return "not"
}
