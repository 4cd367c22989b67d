package replbench

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/loadtest/proc"
)

// usage is what processes have used since they were started. What an append costs of it depends on the load of the machine
// much less than rates and latencies do.
type usage struct {
	cpu      time.Duration // of user and system
	switches uint64        // of threads, by the kernel: each is a thread that went to sleep, or had to make room
	allocs   uint64        // objects on the heap
}

func (u usage) minus(v usage) usage {
	return usage{u.cpu - v.cpu, u.switches - v.switches, u.allocs - v.allocs}
}

func (u usage) plus(v usage) usage {
	return usage{u.cpu + v.cpu, u.switches + v.switches, u.allocs + v.allocs}
}

// served is a process that serves a contender.
type served struct {
	proc *proc.Process
	// metrics is where its metrics are served, HOST:PORT; empty: its allocations aren't known.
	metrics string
}

// ownUsage is that of this process, which is the client of every contender.
func ownUsage() (usage, error) {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return usage{}, fmt.Errorf("getrusage: %w", err)
	}
	allocs := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/tiny/allocs:objects"}}
	metrics.Read(allocs)
	return usage{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), switches: uint64(r.Nvcsw + r.Nivcsw), allocs: allocs[0].Value.Uint64() + allocs[1].Value.Uint64()}, nil
}

// usage returns what a process has used.
func (s served) usage() (u usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(s.proc.Pid()))
	if u.cpu, err = cpuOf(filepath.Join(dir, "stat")); err != nil {
		return u, err
	}
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "status"))
	if err != nil {
		return u, err
	}
	for _, path := range threads {
		n, err := switchesOf(path)
		if err != nil {
			return u, err
		}
		u.switches += n
	}
	if s.metrics != "" {
		u.allocs, err = allocsOf("http://" + s.metrics + "/metrics")
	}
	return u, err
}

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, which is the same everywhere.
const clockTick = 10 * time.Millisecond

func cpuOf(path string) (time.Duration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	const user, system = 11, 12 // behind the name, which stands in brackets
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) <= system {
		return 0, fmt.Errorf("%s: %q", path, b)
	}
	var ticks int64
	for _, f := range fields[user : system+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

func switchesOf(path string) (sum uint64, err error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) || err == nil && len(b) == 0 {
		return 0, nil // the thread ended
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasSuffix(name, "voluntary_ctxt_switches") { // and nonvoluntary ones
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			sum += n
		}
	}
	return sum, nil
}

// allocsMetric is the Go runtime's count of allocations, as every service shows it.
const allocsMetric = "go_memstats_mallocs_total "

func allocsOf(url string) (uint64, error) {
	c := http.Client{Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 16<<20))
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), allocsMetric); ok {
			f, err := strconv.ParseFloat(v, 64)
			return uint64(f), err
		}
	}
	return 0, fmt.Errorf("%s has no %s: %w", url, allocsMetric, lines.Err())
}

// meter takes what this process and those that serve a contender use meanwhile.
type meter struct {
	services []served
	own, of  usage
}

func (m *meter) read() (own, of usage, err error) {
	for _, s := range m.services {
		u, err := s.usage()
		if err != nil {
			return own, of, fmt.Errorf("usage of a service: %w", err)
		}
		of = of.plus(u)
	}
	own, err = ownUsage()
	return own, of, err
}

func (m *meter) begin() (err error) {
	m.own, m.of, err = m.read()
	return err
}

// end notes in a turn what was used for each of its operations.
func (m *meter) end(t *turn) error {
	own, of, err := m.read()
	if err != nil || t.ops == 0 {
		return err
	}
	own, of = own.minus(m.own), of.minus(m.of)
	all := own.plus(of)
	each := func(v float64) float64 { return v / t.ops }
	t.cpu, t.serviceCPU = each(float64(all.cpu.Nanoseconds())/1e3), each(float64(of.cpu.Nanoseconds())/1e3)
	t.switches, t.allocs, t.serviceAllocs = each(float64(all.switches)), each(float64(all.allocs)), each(float64(of.allocs))
	for _, s := range m.services {
		if s.metrics == "" { // a part of the allocations is no figure
			t.allocs, t.serviceAllocs = 0, 0
		}
	}
	return nil
}
