package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/tiering/target"
)

// smallDatabase leaves the stopped service of a small database in dir: hot log and
// archive hold the same, several objects, the state after a clean stop.
func smallDatabase(t *testing.T, dir string) {
	t.Helper()
	p := startDev(t, dir)
	for i := range 4 {
		cli(t, "sqlite", "db", "--addr", p.addr, "-c", fmt.Sprintf("CREATE TABLE t%d(x); WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 2000) INSERT INTO t%d SELECT hex(randomblob(20)) FROM n", i, i)).want(t, exit.OK)
		cli(t, "log", "flush", "db", "--addr", p.addr).want(t, exit.OK)
	}
	cli(t, "log", "append", "notes", "--addr", p.addr, "-d", "a last word").want(t, exit.OK)
	p.stop()
}

// span is a range of bytes of a file that mean something.
type span struct {
	path     string
	from, to int64
}

// meaningful lists every byte that was written for a purpose: in the hot log headers,
// marks, frames and footers but not the prepared rest of a segment file, and all of
// what is on the targets.
func meaningful(t *testing.T, dir string) (spans []span, bytes int64) {
	t.Helper()
	add := func(path string, from, to int64) {
		spans = append(spans, span{path, from, to})
		bytes += to - from
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(path, ".seg"):
			free, end := segmentEnd(t, path)
			if free {
				add(path, segment.MarkOffset, segment.FramesOffset)
			} else {
				add(path, 0, end)
			}
		case strings.Contains(rel, target.ProbePrefix):
			// what a probe that was killed left holds no data
		case strings.HasPrefix(rel, "targets/") || rel == "logsvc/cluster" || strings.HasSuffix(rel, "raft.state"):
			if info.Size() > 0 && !strings.HasSuffix(rel, ".lock") {
				add(path, 0, info.Size())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return spans, bytes
}

func segmentEnd(t *testing.T, path string) (free bool, end int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, segment.FramesOffset)
	if _, err := f.ReadAt(block, 0); err != nil {
		t.Fatal(err)
	}
	id, err := segment.Identify(block)
	if err != nil {
		t.Fatal(err)
	}
	if id.State == segment.StateFree {
		return true, 0
	}
	h := id.Header
	frames := segment.NewReader(f, h.ID, segment.Point{LSN: h.ID.First, Offset: segment.FramesOffset, Prev: h.Prev}, info.Size())
	for err == nil {
		_, _, err = frames.Next()
	}
	return false, frames.Offset()
}

// flip inverts one bit of a file; doing it again undoes it.
func flip(t *testing.T, path string, offset int64, bit int) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, info.Mode()); err != nil {
		t.Fatal(err)
	}
}

// Each of 100 random flips of one bit, anywhere in the hot log and on the targets, is
// found by verify, which names the file.
func TestVerifyFindsEveryFlip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	spans, total := meaningful(t, dir)
	for n := range 100 {
		// Half of them anywhere by size, half of them in any file: small ones get their share.
		s := spans[rng.IntN(len(spans))]
		if n%2 == 0 {
			at := rng.Int64N(total)
			for _, s = range spans {
				if at -= s.to - s.from; at < 0 {
					break
				}
			}
		}
		offset, bit := s.from+rng.Int64N(s.to-s.from), rng.IntN(8)
		if n < 3 { // header and both marks of the live segment are small: each gets one
			s.path = filepath.Join(dir, "logsvc", "shard-0", "00000001.seg")
			offset = int64(n*segment.BlockBytes) + rng.Int64N(segment.BlockBytes)
		}
		flip(t, s.path, offset, bit)
		r := cli(t, "verify", "--dir", dir, "-o", "json")
		if r.code != exit.Integrity && !strings.Contains(r.err, "unsupported") {
			t.Errorf("flip %d: bit %d of byte %d of %s: exit code %d\n%s%s", n, bit, offset, s.path, r.code, r.out, r.err)
		}
		if !strings.Contains(r.out+r.err, filepath.Base(s.path)) {
			t.Errorf("flip %d: bit %d of byte %d of %s: the file is not named\n%s%s", n, bit, offset, s.path, r.out, r.err)
		}
		flip(t, s.path, offset, bit)
	}
	cli(t, "verify", "--dir", dir).want(t, exit.OK)
}

// What is damaged and has another copy is put back.
func TestVerifyRepairs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	spans, _ := meaningful(t, dir)
	flipped := map[string]bool{}
	for _, s := range spans {
		kind := filepath.Dir(s.path)
		if filepath.Base(s.path) == "logcore-target" {
			kind = s.path
		}
		// One file of each directory and the markers. Only two targets: of everything there
		// 4 copies stay whole. The Raft state has no copy.
		archived := strings.Contains(s.path, "targets/a1") || strings.Contains(s.path, "targets/b2")
		if flipped[kind] || !archived && !strings.HasSuffix(s.path, "00000001.seg") {
			continue
		}
		flipped[kind] = true
		flip(t, s.path, (s.from+s.to)/2, 3)
	}
	cli(t, "verify", "--dir", dir).want(t, exit.Integrity)
	var found verifyResult
	r := cli(t, "verify", "--dir", dir, "--repair", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &found); err != nil {
		t.Fatalf("%v\n%s%s", err, r.out, r.err)
	}
	if r.code != exit.OK || len(found.Repaired) == 0 {
		t.Errorf("repair: exit code %d, %+v", r.code, found)
	}
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
	p := startDev(t, dir)
	cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT count(*) FROM t3; PRAGMA integrity_check").want(t, exit.OK, "2000", "ok")
	p.stop()
}
