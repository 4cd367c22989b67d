package checkpoint

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// testKeys derives from one master key.
type testKeys struct{ master byte }

func (k testKeys) Current() [8]byte { return [8]byte{k.master} }

func (k testKeys) Derive(_ context.Context, id [8]byte, salt []byte, info string) (out [32]byte, err error) {
	if id != k.Current() {
		return out, errors.New("no such key")
	}
	b, err := hkdf.Key(sha256.New, bytes.Repeat([]byte{k.master}, 32), salt, info, len(out))
	copy(out[:], b)
	return out, err
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func repository(t testing.TB, b bucket.Bucket) *Repository {
	t.Helper()
	r, err := New(Options{Bucket: b, Cluster: [16]byte{1, 2, 3}, Name: "main", Keys: testKeys{7}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// store is a Pebble store over a Local, with its content beside it.
type store struct {
	t     testing.TB
	dir   string
	r     *Repository
	local *Local
	db    *pebble.DB
	want  map[uint64]uint64 // seeds of the values by key
	next  uint64
}

func openStore(t testing.TB, dir string, r *Repository) *store {
	t.Helper()
	s := &store{t: t, dir: dir, r: r, want: map[uint64]uint64{}}
	s.open()
	return s
}

func (s *store) options() *pebble.Options {
	return &pebble.Options{FS: s.local.FS(), FormatMajorVersion: pebble.FormatTableFormatV6, DisableWAL: true, Logger: silent{}, MemTableSize: 1 << 20}
}

func (s *store) open() {
	s.t.Helper()
	var err error
	if s.local, err = OpenLocal(s.t.Context(), s.dir, s.r); err != nil {
		s.t.Fatal(err)
	}
	if s.db, err = pebble.Open(s.dir, s.options()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) close() {
	s.t.Helper()
	if err := errors.Join(s.db.Close(), s.local.Close()); err != nil {
		s.t.Error(err)
	}
}

func value(seed uint64) []byte {
	v := make([]byte, 4000)
	r := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed)))
	r.Read(v)
	return v
}

func key(k uint64) []byte { return binary.BigEndian.AppendUint64(nil, k) }

// fill writes n keys and flushes.
func (s *store) fill(n int) {
	s.t.Helper()
	for range n {
		s.next++
		k := s.next
		if err := s.db.Set(key(k), value(k), pebble.NoSync); err != nil {
			s.t.Fatal(err)
		}
		s.want[k] = k
	}
	if err := s.db.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// save makes a checkpoint.
func (s *store) save(h *Holder) (*Manifest, error) {
	dir := filepath.Join(s.t.TempDir(), "links")
	if err := s.db.Checkpoint(dir); err != nil {
		s.t.Fatal(err)
	}
	m, err := h.Save(s.t.Context(), Content{StoreVersion: 1, Logs: []Log{{ID: 1, Name: "db", Incarnation: 5}}, Dir: dir, FS: s.local.FS(), Known: s.local.Known()})
	if rerr := s.local.FS().RemoveAll(dir); rerr != nil {
		s.t.Fatal(rerr)
	}
	if err != nil {
		return nil, err
	}
	return m, s.local.Agree(m)
}

func (s *store) mustSave(h *Holder) *Manifest {
	s.t.Helper()
	m, err := s.save(h)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *store) check(k uint64) error {
	v, closer, err := s.db.Get(key(k))
	if err != nil {
		return fmt.Errorf("key %d: %w", k, err)
	}
	defer closer.Close()
	if !bytes.Equal(v, value(s.want[k])) {
		return fmt.Errorf("key %d has another value", k)
	}
	return nil
}

func (s *store) checkAll() {
	s.t.Helper()
	for k := range s.want {
		if err := s.check(k); err != nil {
			s.t.Fatal(err)
		}
	}
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func take(t testing.TB, r *Repository) *Holder {
	t.Helper()
	h, err := r.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// begin makes a store from the newest checkpoint in a new directory.
func begin(t testing.TB, r *Repository) *store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	local, err := OpenLocal(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Find(t.Context(), Wanted{Logs: map[logcore.LogID]LogNow{1: {Incarnation: 5}}, StoreVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Begin(m); err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, dir: dir, r: r, local: local, want: map[uint64]uint64{}}
	if s.db, err = pebble.Open(dir, s.options()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) like(o *store) *store {
	for k, v := range o.want {
		s.want[k] = v
	}
	s.next = o.next
	return s
}

func TestAStoreBeginsFromACheckpoint(t *testing.T) { testBegins(t, mem.New()) }

func testBegins(t *testing.T, b0 bucket.Bucket) {
	faults := bucket.NewFaults(b0)
	r := repository(t, faults)
	a := openStore(t, filepath.Join(t.TempDir(), "store"), r)
	h := take(t, r)
	a.fill(3000)
	first := a.mustSave(h)
	stored := count(t, r.metrics.stored)
	a.fill(50)
	second := a.mustSave(h)
	if n := count(t, r.metrics.stored) - stored; n > stored/2 {
		t.Errorf("the second checkpoint stored %v bytes, the first %v: tables that were stored are stored again", n, stored)
	}
	if first.Number+1 != second.Number || second.Prev != first.digest {
		t.Errorf("manifest %d follows %d", second.Number, first.Number)
	}
	a.close()

	gets := faults.Count(bucket.OpGet)
	b := begin(t, r).like(a)
	if err := b.check(1); err != nil {
		t.Fatal(err)
	}
	if n := faults.Count(bucket.OpGet) - gets; n > 16 {
		t.Errorf("the first read took %d requests", n)
	}
	if b.local.Missing() < 8<<20 {
		t.Errorf("%d bytes are missing after one read: everything was fetched", b.local.Missing())
	}
	b.checkAll()
	// It goes on as a store of its own while tables are missing.
	b.fill(2000)
	hb := take(t, r)
	b.mustSave(hb)
	if err := b.local.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.local.Missing(); n != 0 {
		t.Errorf("%d bytes are missing", n)
	}
	faults.Down() // from here on everything is local
	b.checkAll()
	b.close()
	b.open()
	b.checkAll()
	b.close()
	faults.Up()

	c := begin(t, r).like(b)
	c.checkAll()
	c.close()
	if n := count(t, r.o.Corruptions); n != 0 {
		t.Errorf("%v corruptions counted", n)
	}
}

func TestAStaleHolderCommitsAndRemovesNothing(t *testing.T) {
	r := repository(t, mem.New())
	a := openStore(t, filepath.Join(t.TempDir(), "store"), r)
	defer a.close()
	h := take(t, r)
	a.fill(100)
	a.mustSave(h)
	h2 := take(t, r)
	a.fill(100)
	if _, err := a.save(h); !isFenced(err) {
		t.Errorf("a stale holder saved: %v", err)
	}
	if _, err := h.Collect(t.Context()); !isFenced(err) {
		t.Errorf("a stale holder collected: %v", err)
	}
	a.mustSave(h2)
	b := begin(t, r).like(a)
	b.checkAll()
	b.close()
}

func setNow(t *testing.T, at *time.Time) {
	old := now
	now = func() time.Time { return *at }
	t.Cleanup(func() { now = old })
}

func count(t testing.TB, c prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
