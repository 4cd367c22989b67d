package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// inMemory names the file systems that have no device below, by their f_type: a sync
// there costs nothing and a figure would mean nothing.
var inMemory = map[int64]string{unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.HUGETLBFS_MAGIC: "hugetlbfs"}

// checkFileSystem refuses a directory whose file system is in memory, or that has
// not twice the disk budget free.
func checkFileSystem(dir string, budget int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return judgeFileSystem(dir, int64(s.Type), int64(s.Bavail)*int64(s.Bsize), budget)
}

func judgeFileSystem(dir string, fsType, free, budget int64) error {
	if name, ok := inMemory[fsType]; ok {
		return fmt.Errorf("%s is on %s, which has no sync to measure: give --dir on a disk", dir, name)
	}
	if free < 2*budget {
		return fmt.Errorf("%s has %d MiB free: want %d, or lower --disk-mib", dir, free>>20, 2*budget>>20)
	}
	return nil
}

// machineFacts prints what a reader needs to compare figures.
func machineFacts(w io.Writer, dir string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	fsType, source := mountOf(dir)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	fmt.Fprintf(w, "kernel       %s %s\n", unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	fmt.Fprintf(w, "cpu          %s; %d cores, GOMAXPROCS %d\n", field("/proc/cpuinfo", "model name"), runtime.NumCPU(), runtime.GOMAXPROCS(0))
	fmt.Fprintf(w, "memory       %s\n", field("/proc/meminfo", "MemTotal"))
	fmt.Fprintf(w, "file system  %s on %s\n", fsType, source)
	fmt.Fprintf(w, "device       %s\n", deviceFacts(unix.Major(st.Dev), unix.Minor(st.Dev)))
	_, err := fmt.Fprintf(w, "go           %s\n", runtime.Version())
	return err
}

// field returns the value of "name : value" in a file under /proc, "unknown" when it
// is not there.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// mountOf returns the type and the source of the mount that dir is on.
func mountOf(dir string) (fsType, source string) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "unknown", "unknown"
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "unknown", "unknown"
	}
	defer f.Close()
	longest := -1
	for s := bufio.NewScanner(f); s.Scan(); {
		m := strings.Fields(s.Text())
		if len(m) < 3 || !within(abs, m[1]) || len(m[1]) < longest {
			continue
		}
		longest, source, fsType = len(m[1]), m[0], m[2]
	}
	return fsType, source
}

func within(path, mount string) bool {
	return mount == "/" || path == mount || strings.HasPrefix(path, mount+"/")
}

// deviceFacts describes a block device as the kernel's queue attributes do. A
// partition's queue is its disk's.
func deviceFacts(major, minor uint32) string {
	link := fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return fmt.Sprintf("%d:%d, no block device", major, minor)
	}
	disk := dir
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		disk = filepath.Dir(dir)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(disk, name))
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s; model %s; sectors %s/%s B; cache %s; rotational %s; scheduler %s", filepath.Base(dir), read("device/model"),
		read("queue/logical_block_size"), read("queue/physical_block_size"), read("queue/write_cache"), read("queue/rotational"), read("queue/scheduler"))
}
