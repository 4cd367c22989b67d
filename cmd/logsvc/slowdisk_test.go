//go:build root && !race

package main

// What needs a kernel that slows a process's disk down: a blkio group. "make crash-root" runs it, as root.

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// blkio is the hierarchy of groups that bound what processes write to block devices.
const blkio = "/sys/fs/cgroup/blkio"

// slowDisk lets the process of a server write so many times a second to the disk of its directory, until the function it returns
// is called.
func slowDisk(t *testing.T, s *server, perSecond int) (lift func()) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil {
		t.Fatal(err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	sys, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", device))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil { // the bound is the whole disk's
		whole, err := os.ReadFile(filepath.Join(filepath.Dir(sys), "dev"))
		if err != nil {
			t.Fatal(err)
		}
		device = strings.TrimSpace(string(whole))
	}
	group, err := os.MkdirTemp(blkio, "logcore-test-")
	if err != nil {
		t.Fatal(err)
	}
	set := func(dir, file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	bound := func(n int) { set(group, "blkio.throttle.write_iops_device", fmt.Sprintf("%s %d", device, n)) }
	pid := s.cmd.Process.Pid
	lifted := false
	lift = func() {
		if !lifted {
			lifted = true
			bound(0)
			set(blkio, "cgroup.procs", strconv.Itoa(pid))
			if err := os.Remove(group); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(lift) // before the process is killed: it ends when what it writes is written
	bound(perSecond)
	set(group, "cgroup.procs", strconv.Itoa(pid))
	return lift
}

// TestRootClusterSlowDisk (F8): the disk of the leader becomes slow, those of the others do not. It hands over by itself, appends go on
// where they are fast, and when its disk is well again it has everything.
func TestRootClusterSlowDisk(t *testing.T) {
	servers := formCluster(t)
	addrs := addrsOf(servers)
	w := write(t, addrs)
	waitFor(t, w, 100)
	leader := inContact(t, servers)
	id := nodeOf(t, leader)
	lift := slowDisk(t, leader, 1)
	var others []*server
	for _, s := range servers {
		if s != leader {
			others = append(others, s)
		}
	}
	until(t, "another one leads", func() bool {
		now := clusterStatus(t, others[0]).Leader
		return now != 0 && now != id
	})
	if said := leader.out.String(); !strings.Contains(said, "this member's disk lags behind those of the others") {
		t.Errorf("void: it did not hand over for its disk: %s", said)
	}
	n, _, _ := w.count()
	waitFor(t, w, n+1000) // while its disk is as slow
	if now := clusterStatus(t, others[0]).Leader; now == id {
		t.Error("the slow one leads again")
	}
	lift()
	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatalf("an append failed: %v", err)
	}
	inContact(t, servers)
	level(t, servers)
	verifyAcked(t, addrs, w.acked)
	for _, s := range servers {
		s.stop()
	}
	compareSegments(t, servers, w.acked)
}
