package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diskDir returns an empty directory on a disk: the usual temporary directory, or one
// beside the sources where that is in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if checkFileSystem(dir, 0) == nil {
		return dir
	}
	dir, err := os.MkdirTemp(".", ".bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Every contender of every cell is printed once, with fields that can be true.
func TestEveryCellIsPrintedOnce(t *testing.T) {
	dir := diskDir(t)
	var stdout, stderr bytes.Buffer
	err := run(context.Background(), []string{"--dir", dir, "--rounds", "1", "--seconds", "0.05", "--disk-mib", "512", "--segment-mib", "16"}, &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	seen := map[string]int{}
	perfect := map[cell]int{}
	dec := json.NewDecoder(&stdout)
	dec.DisallowUnknownFields()
	for {
		var l line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		c := cell{l.Payload, l.Inflight}
		seen[fmt.Sprintf("%s %s %v", l.Peer, l.API, c)]++
		if l.Peer == l.Limit && l.LimitRatio == 1 {
			perfect[c]++
		}
		plausible(t, l)
	}
	for _, p := range allPeers(context.Background(), 0) {
		for _, a := range p.apis {
			expectOnce(t, seen, p.name, a)
		}
	}
	expectOnce(t, seen, "device-single-fdatasync", blocking)
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s printed %d times", name, n)
		}
	}
	if len(perfect) != len(payloads)*len(inflights) {
		t.Errorf("%d cells have a device limit, want %d", len(perfect), len(payloads)*len(inflights))
	}
	expectEmpty(t, dir)
	for _, want := range []string{"kernel ", "cpu ", "file system ", "device ", "go ", "verified     6 of 6", "128 B, 1 in flight"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("standard error lacks %q:\n%s", want, &stderr)
		}
	}
}

func expectOnce(t *testing.T, seen map[string]int, peer string, a api) {
	t.Helper()
	cells, err := selectCells("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		if name := fmt.Sprintf("%s %s %v", peer, a, c); seen[name] != 1 {
			t.Errorf("%s printed %d times", name, seen[name])
		}
	}
}

func plausible(t *testing.T, l line) {
	t.Helper()
	mib := l.OpsPerS * float64(l.Payload) / (1 << 20)
	if l.Bench != "hotlog" || l.OpsPerS <= 0 || l.MiBPerS < mib*0.99-0.01 || l.MiBPerS > mib*1.01+0.01 ||
		!(0 < l.P50 && l.P50 <= l.P99 && l.P99 <= l.P999) || l.LimitRatio <= 0 || l.AllocsPerOp < 0 || l.WriteAmp <= 0 ||
		l.Rounds != 1 || l.OpsPerSMin != l.OpsPerS || l.OpsPerSMax != l.OpsPerS || l.Limit == "" {
		t.Errorf("implausible: %+v", l)
	}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left behind: %s", e.Name())
	}
}

// cancelAfter cancels at the first write: the first cell is complete then.
type cancelAfter struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (c *cancelAfter) Write(p []byte) (int, error) {
	c.cancel()
	return c.Buffer.Write(p)
}

func TestInterruptLeavesNothing(t *testing.T) {
	dir := diskDir(t)
	ctx, cancel := context.WithCancel(context.Background())
	stdout := &cancelAfter{cancel: cancel}
	cells, peers := "128x1,128x16", "tidwall-wal"
	err := run(ctx, []string{"--dir", dir, "--rounds", "1", "--seconds", "0.05", "--cells", cells, "--peers", peers}, stdout, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted run: %v", err)
	}
	if !strings.Contains(stdout.String(), `"inflight":1,`) || strings.Contains(stdout.String(), `"inflight":16,`) {
		t.Errorf("want the complete cell and no other:\n%s", stdout)
	}
	expectEmpty(t, dir)

	// Ten minutes a turn: had a turn to end by itself, the test would not.
	ctx, cancel = context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	err = run(ctx, []string{"--dir", dir, "--seconds", "600", "--cells", "128x16", "--peers", peers}, io.Discard, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run interrupted in a turn: %v", err)
	}
	expectEmpty(t, dir)
}

// hog writes a mebibyte an append into its directory until told to stop.
type hog struct{ dir string }

func (h hog) run(m *meter) error {
	f, err := os.Create(filepath.Join(h.dir, "hog"))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk, l := make([]byte, 1<<20), m.lane()
	defer l.flush()
	for at := int64(0); !m.stop.Load(); at += int64(len(chunk)) {
		start := l.begun()
		if _, err := f.WriteAt(chunk, at%(512<<20)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		l.ended(start, 1)
	}
	return nil
}

func (h hog) Close() error { return nil }

// A turn of ten minutes that would fill the disk ends at its budget instead.
func TestDiskBudgetEndsTurn(t *testing.T) {
	parent := diskDir(t)
	written, err := newCounter(parent)
	if err != nil {
		t.Fatal(err)
	}
	c := contender{open: func(dir string, _ cell) (load, error) { return hog{dir}, nil }}
	f, err := takeTurn(context.Background(), c, cell{1 << 20, 1}, filepath.Join(parent, "turn"),
		timing{seconds: 10 * time.Minute, diskBytes: 32 << 20, written: written})
	if err != nil || f.opsPerS <= 0 {
		t.Errorf("got %+v, %v", f, err)
	}
	expectEmpty(t, parent)
}

func TestFileSystemsInMemoryAreRefused(t *testing.T) {
	for _, c := range []struct {
		fsType, free int64
		want         string
	}{
		{unix.EXT4_SUPER_MAGIC, 200, ""},
		{unix.XFS_SUPER_MAGIC, 199, "free"},
		{unix.TMPFS_MAGIC, 200, "tmpfs"},
		{unix.RAMFS_MAGIC, 200, "ramfs"},
	} {
		err := judgeFileSystem("dir", c.fsType, c.free, 100)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("type %x, %d free: got %v, want %q", c.fsType, c.free, err, c.want)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for m := range strings.Lines(string(mounts)) {
		fields := strings.Fields(m)
		if len(fields) < 3 || fields[2] != "tmpfs" {
			continue
		}
		if fsType, _ := mountOf(fields[1]); fsType != "tmpfs" {
			t.Errorf("mountOf(%s) says %s", fields[1], fsType)
		}
		if err := run(context.Background(), []string{"--dir", fields[1]}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "tmpfs") {
			t.Errorf("a run on the tmpfs at %s: %v", fields[1], err)
		}
	}
}

func TestEveryBadFlagIsReported(t *testing.T) {
	err := run(context.Background(), []string{"--rounds", "0", "--seconds", "-1", "--minutes", "0", "--disk-mib", "1", "--segment-mib", "-1", "stray"}, io.Discard, io.Discard)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"--dir", "--rounds", "--seconds", "--minutes", "--disk-mib", "--segment-mib", "stray"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not about %s", err, want)
		}
	}
	dir := diskDir(t)
	for _, args := range [][]string{{"--cells", "1x1"}, {"--peers", "nobody"}} {
		if err := run(context.Background(), append([]string{"--dir", dir}, args...), io.Discard, io.Discard); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// What the counter counts must be at least what was synced.
func TestCounterSeesWrites(t *testing.T) {
	dir := diskDir(t)
	device, err := newCounter(dir)
	if err != nil {
		t.Fatal(err)
	}
	process := counter{file: "/proc/self/io", field: writeBytes, unit: 1}
	for _, c := range []counter{device, process} {
		before, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(payloadOf(1<<20, 7)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		after, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if after-before < 1<<20 {
			t.Errorf("%s counted %d of %d bytes", c.file, after-before, 1<<20)
		}
	}
	for _, text := range []string{"", "1 2 3", "write_bytes 12\n"} {
		if _, ok := sectorsWritten([]byte(text)); ok {
			t.Errorf("sectors in %q", text)
		}
		if _, ok := writeBytes([]byte(text)); ok {
			t.Errorf("write_bytes in %q", text)
		}
	}
	if v, _ := sectorsWritten([]byte(" 1 2 3 4 5 6 77 8 9\n")); string(v) != "77" {
		t.Errorf("sectors written: %q", v)
	}
	if v, _ := writeBytes([]byte("rchar: 1\nwrite_bytes: 42\ncancelled_write_bytes: 7\n")); string(v) != "42" {
		t.Errorf("write_bytes: %q", v)
	}
}
