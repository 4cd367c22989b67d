//go:build root && !race

package hotlog

// What needs a kernel that fails: loop devices, mounts and memory groups. "make crash-root"
// runs it, as root.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
)

// command runs a program of the system.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// loopFS is an ext4 on a loop device over a sparse file.
type loopFS struct {
	t              *testing.T
	image, dev, at string
}

func newLoopFS(t *testing.T, image string, bytes int64) *loopFS {
	t.Helper()
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(bytes), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-F", "-b", "4096", image)
	dev, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	l := &loopFS{t, image, strings.TrimSpace(string(dev)), t.TempDir()}
	t.Cleanup(func() {
		exec.Command("umount", l.at).Run()
		command(t, "losetup", "--detach", l.dev)
	})
	// The loop driver takes a write that is cut short by a full file below for a whole one.
	// Of a single block of this size that can't be.
	queue := filepath.Join("/sys/block", filepath.Base(l.dev), "queue/max_sectors_kb")
	if err := os.WriteFile(queue, []byte("4"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.mount()
	return l
}

func (l *loopFS) mount() { l.t.Helper(); command(l.t, "mount", l.dev, l.at) }

// umount tries for a while: the kernel may still be at it.
func (l *loopFS) umount() {
	l.t.Helper()
	var err error
	for range 100 {
		if err = exec.Command("umount", l.at).Run(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	command(l.t, "umount", l.at)
}

// shutdown ends the file system as if the power failed: what is not on the device by now,
// the journal's included, never gets there.
func (l *loopFS) shutdown() {
	dir, err := os.Open(l.at)
	if err == nil {
		defer dir.Close()
		const ext4Shutdown, noLogFlush = 0x8004587d, 2
		err = unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, noLogFlush)
	}
	if err != nil {
		l.t.Errorf("shut down %s: %v", l.at, err)
	}
}

// F4: power cuts on a real kernel.
func TestRootF4PowerCut(t *testing.T) {
	for _, what := range []string{"append", "append-file"} {
		cuts := figure(t, 5, 25)
		total, err := cutRun(t, what, cuts)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		void(t, "acknowledgements", total, 20*cuts)
		t.Logf("%s: %d cuts, %d entries acknowledged, 0 lost", what, cuts, total)
	}
}

func TestRootF4FindsPlantedUnsynced(t *testing.T) {
	total, err := cutRun(t, "append-unsynced", 25)
	if err == nil {
		t.Fatalf("not found in 25 cuts, %d entries", total)
	}
	t.Log("found:", err)
}

// cutRun lets a process append to a log on an ext4 that is shut down under it.
func cutRun(t *testing.T, what string, cuts int) (total int, err error) {
	rng := rand.New(rand.NewPCG(faultSeed(t), 4))
	fs := newLoopFS(t, filepath.Join(t.TempDir(), "image"), 64<<20)
	dir := filepath.Join(fs.at, "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	acked := logcore.LSN(0)
	for cut := range cuts {
		n := fs.appendAndCut(childCommand(what, dir), time.Duration(20+rng.IntN(131))*time.Millisecond)
		if n > 0 {
			total += int(n - min(acked, n))
		}
		acked = max(acked, n)
		fs.umount()
		fs.mount()
		if err := checkKilled(dir, acked, killOptions(dir)); err != nil {
			return total, fmt.Errorf("cut %d: %w", cut, err)
		}
	}
	return total, nil
}

// appendAndCut returns the last LSN that a child acknowledged before the power failed.
func (l *loopFS) appendAndCut(cmd *exec.Cmd, after time.Duration) (acked logcore.LSN) {
	l.t.Helper()
	cmd.Stderr = nil // it says that its disk is gone
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		l.t.Fatalf("the child did not open the log: %v", cmd.Wait())
	}
	cut := make(chan struct{})
	kill := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	time.AfterFunc(after, func() { l.shutdown(); close(cut) })
	for lines.Scan() {
		var lsn logcore.LSN
		if n, _ := fmt.Sscanf(lines.Text(), "ack %d", &lsn); n == 1 {
			acked = lsn
		}
	}
	cmd.Wait()
	<-cut
	if !kill.Stop() {
		l.t.Fatal("the child went on for 10 s after its disk was gone")
	}
	return acked
}

// F5: a sync that really fails. The sparse image of the file system lies on a tmpfs that is
// full: what the log overwrites has no room below.
func TestRootF5SyncFails(t *testing.T) {
	for i := range figure(t, 4, 20) {
		medium := []string{"nvme", "file"}[i%2]
		if err := failingSync(t, medium, 20+13*i, nil); err != nil {
			t.Fatalf("run %d on %s: %v", i, medium, err)
		}
	}
}

func TestRootF5FindsPlantedRetry(t *testing.T) {
	retry := func(f media.File) media.File { return retryingFile{f} }
	for i := range 5 {
		if err := failingSync(t, "file", 50, retry); err != nil {
			t.Logf("found in run %d: %v", i, err)
			return
		}
	}
	t.Fatal("a retried sync was not found in 5 runs")
}

// retryingFile plants a bug: when a sync fails, it is tried again and believed.
type retryingFile struct{ media.File }

func (f retryingFile) WriteSync(writes []media.Write) error {
	err := f.File.WriteSync(writes)
	for try := 0; err != nil && try < 5; try++ {
		err = f.Sync()
	}
	return err
}

// failingSync appends until the disk below is full, gives it room again, and looks after a
// reboot at what of the acknowledged entries is there.
func failingSync(t *testing.T, medium string, entries int, plant func(media.File) media.File) error {
	below := t.TempDir()
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command(t, "umount", below) })
	image := filepath.Join(below, "image")
	fs := newLoopFS(t, image, 64<<20)
	opts := killOptions(filepath.Join(fs.at, "log"))
	opts.Medium = medium
	if err := os.Mkdir(opts.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(context.Background(), opts)
	if plant != nil && err == nil {
		err = l.Close()
		dir, merr := media.OpenFile(opts.Dir)
		o, oerr := opts.withDefaults()
		if err = errors.Join(err, merr, oerr); err == nil {
			l, _, err = openOn(context.Background(), wrappingDir{dir, plant}, o, openMode{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	acked := logcore.LSN(0)
	appendSome := func(n int) error {
		for range n {
			if err := l.Append(context.Background(), []logcore.Entry{killEntry(l.Last() + 1)}); err != nil {
				return err
			}
			acked = l.Last()
		}
		return nil
	}
	if err := appendSome(entries); err != nil {
		t.Fatal(err)
	}
	// Make holes of the zeros that stand ready, then take all room away.
	unix.Sync()
	command(t, "fallocate", "--dig-holes", image)
	filler := filepath.Join(below, "filler")
	if err := os.WriteFile(filler, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exec.Command("dd", "if=/dev/zero", "of="+filler, "bs=4k").Run() // ends with "no space left"
	before := acked
	err = appendSome(2000)
	if plant == nil {
		if !errors.Is(err, logcore.ErrPoisoned) {
			t.Fatalf("after a failed sync: %v", err)
		}
		if err := appendSome(1); !errors.Is(err, logcore.ErrPoisoned) {
			t.Fatalf("append to a poisoned log: %v", err)
		}
	}
	void(t, "entries before the disk below was full", int(before), entries)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := l.dir.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	fs.umount()
	fs.mount()
	return checkKilled(opts.Dir, acked, opts)
}

// F12: an ext4 of 32 MiB.
func TestRootF12Ext4(t *testing.T) {
	fs := newLoopFS(t, filepath.Join(t.TempDir(), "image"), 32<<20)
	fillAndHeal(t, filepath.Join(fs.at, "log"), 10)
}

// F14: a memory group whose limit the kernel enforces.
func TestRootF14MemoryGroup(t *testing.T) {
	for what, survives := range map[string]bool{"memory": true, "memory-hoard": false} {
		group := memoryGroup(t, memoryLimitBytes)
		cmd := childCommand(what, filepath.Join(t.TempDir(), "log"))
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "echo $$ > " + filepath.Join(group, "cgroup.procs") + " && exec " + os.Args[0]}
		out, err := cmd.Output()
		if survives != (err == nil) {
			t.Errorf("%s in a group of %d MiB: %v: %s", what, memoryLimitBytes>>20, err, out)
		}
		t.Logf("%s in a group of %d MiB: %s %v", what, memoryLimitBytes>>20, out, err)
	}
}

// memoryGroup makes a group of version 2, or 1 where there is no other.
func memoryGroup(t *testing.T, limit int64) string {
	t.Helper()
	root, file := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat(filepath.Join(root, "memory", "memory.limit_in_bytes")); err == nil {
		root, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
	}
	group, err := os.MkdirTemp(root, "logcore-test-")
	if err == nil {
		t.Cleanup(func() {
			for range 100 {
				if os.Remove(group) == nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Errorf("%s stays", group)
		})
		err = os.WriteFile(filepath.Join(group, file), fmt.Appendf(nil, "%d", limit), 0o600)
	}
	if err != nil {
		t.Fatalf("memory group: %v", err)
	}
	return group
}
