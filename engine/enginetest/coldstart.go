package enginetest

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/dir"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// Checkpoints returns a repository of checkpoints in a bucket, under a key of its own.
func Checkpoints(t testing.TB, b bucket.Bucket) *checkpoint.Repository {
	t.Helper()
	r, err := NewCheckpoints(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// NewCheckpoints is Checkpoints outside of a test.
func NewCheckpoints(b bucket.Bucket) (*checkpoint.Repository, error) {
	return checkpoint.New(checkpointOptions(b))
}

// CheckpointFamily is Checkpoints of page servers that share pages.
func CheckpointFamily(t testing.TB, b bucket.Bucket) *checkpoint.Family {
	t.Helper()
	f, err := checkpoint.NewFamily(checkpointOptions(b))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func checkpointOptions(b bucket.Bucket) checkpoint.Options {
	return checkpoint.Options{Bucket: b, Cluster: [16]byte{0xe9}, Name: "main", Keys: testKey{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// testKey is a key ring of one key that everybody knows.
type testKey struct{}

var errNoKey = errors.New("enginetest: no such key")

// Current implements checkpoint.Keys.
func (testKey) Current() [8]byte { return [8]byte{'t', 'e', 's', 't'} }

// Derive implements checkpoint.Keys.
func (k testKey) Derive(_ context.Context, id [8]byte, salt []byte, info string) (out [32]byte, err error) {
	if id != k.Current() {
		return out, errNoKey
	}
	b, err := hkdf.Key(sha256.New, bytes.Repeat([]byte{'k'}, 32), salt, info, len(out))
	copy(out[:], b)
	return out, err
}

// testColdStart lets page servers on empty machines follow each other: each begins from
// the checkpoint of the one before, and what that did not have comes from the log.
func testColdStart(t *testing.T, e Engine) {
	f := newFixture(t, e, 100)
	faults := bucket.NewFaults(mem.New())
	logs := []string{"db"}
	for round := range 5 {
		f.dir = filepath.Join(t.TempDir(), "pages")
		opts := Options(f.dir, f.source, e.Decoder)
		opts.Checkpoints, opts.CheckpointInterval = Checkpoints(t, faults), time.Hour
		s := Start(t, opts)
		began := s.CheckpointStatus().BeganFrom
		if (began > 0) != (round > 0) {
			t.Fatalf("round %d began from checkpoint %d", round, began)
		}
		f.compareAtRandom(s, logs[f.rng.IntN(len(logs))], 15)
		at := f.rng.IntN(2)
		if at == 0 {
			logs = f.branchSomewhere(s, logs)
		}
		f.append(logs[f.rng.IntN(len(logs))], 20)
		for _, log := range logs {
			f.compareAtRandom(s, log, 5)
		}
		if _, err := s.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Not in the checkpoint.
		f.append(logs[f.rng.IntN(len(logs))], 10)
		if at == 0 {
			f.compareAtRandom(s, logs[0], 3)
		}
		s.Stop(t)
	}
}

// branchSomewhere adds a branch of a random log at its end.
func (f *fixture) branchSomewhere(s *Subject, logs []string) []string {
	f.t.Helper()
	name := "branch" + string(rune('a'+len(logs)))
	if _, _, err := s.CreateBranch(f.t.Context(), logs[f.rng.IntN(len(logs))], name, pageserver.ReadAt{}); err != nil {
		f.t.Fatal(err)
	}
	return append(logs, name)
}

// testColdKill is testKill with a bucket: the child begins on an empty machine each time,
// or on what the one killed before left, and makes checkpoints all the time. It is killed
// while it begins, while it fetches, while it makes checkpoints.
func testColdKill(t *testing.T, e Engine) {
	if d := os.Getenv(childDir); d != "" {
		ingestUntilKilled(t, e, d)
		return
	}
	f := newFixture(t, e, 1)
	seed := f.rng.Uint64()
	f.source = killSource(e, seed)
	if err := dir.Init(bucketOf(f.dir)); err != nil {
		t.Fatal(err)
	}
	repository := coldOptions(t, f.dir, f.source, e).Checkpoints
	for round, made := 0, false; round < 8 || !made; round++ {
		if round == 40 {
			t.Fatal("none of the children that were killed had made a checkpoint")
		}
		if made && f.rng.IntN(2) == 0 { // an empty machine
			for _, d := range []string{"store", "store.fetched", "store.new"} {
				if err := os.RemoveAll(filepath.Join(f.dir, d)); err != nil {
					t.Fatal(err)
				}
			}
		}
		// A slow machine needs longer for a checkpoint.
		f.killOnce(seed, time.Duration(10+f.rng.IntN(100*(1+round)))*time.Millisecond)
		m, err := repository.Newest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		made = m != nil && !m.Empty()
	}
	if err := os.RemoveAll(filepath.Join(f.dir, "store")); err != nil {
		t.Fatal(err)
	}
	opts := coldOptions(t, f.dir, f.source, e)
	s := Start(t, opts)
	if s.CheckpointStatus().BeganFrom == 0 {
		t.Error("it did not begin from a checkpoint")
	}
	f.compareAtRandom(s, "db", 60)
}

func bucketOf(d string) string { return filepath.Join(d, "bucket") }

// coldOptions are Options with checkpoints in the directory, as often as can be.
func coldOptions(t testing.TB, d string, source *Source, e Engine) pageserver.Options {
	t.Helper()
	opts := Options(d, source, e.Decoder)
	if _, err := os.Stat(bucketOf(d)); err != nil {
		return opts
	}
	b, err := dir.Open(bucketOf(d))
	if err != nil {
		t.Fatal(err)
	}
	opts.Checkpoints, opts.CheckpointInterval = Checkpoints(t, b), 10*time.Millisecond
	return opts
}
