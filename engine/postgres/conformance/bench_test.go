//go:build postgres

package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/postgres/compute"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/pageserver"
)

const benchRounds = 5

// figures collects what was measured: JSON lines in the file that LOGCORE_FIGURES names, a table in the test's output.
type figures struct {
	b    *testing.B
	file *os.File
}

func newFigures(b *testing.B) *figures {
	f := &figures{b: b}
	if path := os.Getenv("LOGCORE_FIGURES"); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { file.Close() })
		f.file = file
	}
	return f
}

func (f *figures) add(name string, value float64, unit string, more map[string]any) {
	f.b.Logf("%-60s %12.3f %s %v", name, value, unit, more)
	if f.file == nil {
		return
	}
	line := map[string]any{"figure": "postgres." + name, "value": value, "unit": unit}
	for k, v := range more {
		line[k] = v
	}
	if err := json.NewEncoder(f.file).Encode(line); err != nil {
		f.b.Fatal(err)
	}
}

// BenchmarkFigures measures what docs/postgres.md publishes, part by part; -bench '^BenchmarkFigures$/^start$' does one of them. It goes once through;
// -benchtime 1x.
func BenchmarkFigures(b *testing.B) {
	f := newFigures(b)
	returns := time.Duration(0)
	for _, mib := range returnWAL(b) {
		returns += time.Duration(mib) * 60 * time.Millisecond // both sides write that much and read it again
	}
	for _, part := range []struct {
		name     string
		expected time.Duration // on two cores that have nothing else to do
		measure  func(*testing.B, *figures)
	}{
		{"tps", 4 * time.Minute, benchCommit}, {"sustained", 4 * time.Minute, benchSustained}, {"wal", time.Minute, benchWALPerTransaction}, {"ingest", 3 * time.Minute, benchIngest}, {"decode", 2 * time.Minute, benchDecode},
		{"pages", 90 * time.Second, benchPages},
		{"redo", time.Minute, benchRedo}, {"start", time.Minute + returns, benchReturn},
	} {
		b.Run(part.name, func(b *testing.B) {
			const patience = 4
			began, limit := time.Now(), patience*part.expected+time.Minute
			fmt.Fprintf(os.Stderr, "%s: %s, expected: about %v, at most %v\n", time.Now().Format(time.TimeOnly), part.name, part.expected.Round(time.Second), limit.Round(time.Second))
			stop := time.AfterFunc(limit, func() { panic(fmt.Sprintf("%s is not done after %v", part.name, limit)) })
			defer stop.Stop()
			part.measure(b, f)
			fmt.Fprintf(os.Stderr, "%s: %s, took %v\n", time.Now().Format(time.TimeOnly), part.name, time.Since(began).Round(time.Second))
		})
	}
}

// pair is a server as it comes, and a compute node made from a log that began as its copy.
type pair struct {
	local   *server
	node    *process
	dir     string
	port    int
	service *service
}

func newPair(b *testing.B, prepare func(*server), settings ...string) *pair {
	b.Helper()
	p := &pair{service: newService(b), local: newServer(b, append(settings, "fsync=on")...), dir: workDir(b), port: freePort(b)}
	prepare(p.local)
	attach := p.service.attach(b, "bench", p.local)
	query(b, connect(b, p.local.connString()), "alter system reset synchronous_standby_names")
	p.local.stop(b)
	attach.stop()
	p.local.start(b)
	queryOne(b, p.conn(0), "select pg_drop_replication_slot('logcore')") // it would keep the WAL for ever
	p.node = p.service.background(b, "postgres", "run", "bench", "--dir", p.dir, "--port", strconv.Itoa(p.port), "--socket-dir", p.dir, "--addr", p.service.addr,
		"-c", "max_wal_size=20GB", "-c", "checkpoint_timeout=1h")
	p.node.waitFor(b, "ready:", 1)
	return p
}

func (p *pair) conn(which int) string {
	if which == 0 {
		return p.local.connString()
	}
	return connString(p.dir, p.port)
}

var sides = [2]string{"local, fsync=on", "LogCore, fsync=off"}

var (
	tpsLine     = regexp.MustCompile(`tps = ([0-9.]+)`)
	latencyLine = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
)

// pgbench runs TPC-B and returns transactions a second and milliseconds a transaction.
func (p *pair) pgbench(b *testing.B, which int, flags ...string) (tps, ms float64) {
	b.Helper()
	socket, port := p.local.socket, p.local.port
	if which == 1 {
		socket, port = p.dir, p.port
	}
	out := run(b, binaries+"pgbench", append([]string{"-n", "-h", socket, "-p", strconv.Itoa(port), "-U", "postgres", "postgres"}, flags...)...)
	for re, v := range map[*regexp.Regexp]*float64{tpsLine: &tps, latencyLine: &ms} {
		m := re.FindStringSubmatch(out)
		if m == nil {
			b.Fatalf("pgbench says no %v:\n%s", re, out)
		}
		var err error
		if *v, err = strconv.ParseFloat(m[1], 64); err != nil {
			b.Fatal(err)
		}
	}
	return tps, ms
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// walBytes is where a server's WAL is, in bytes.
func walBytes(b *testing.B, conn string) float64 {
	b.Helper()
	v, err := strconv.ParseFloat(queryOne(b, conn, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"), 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

func prepareTPCB(b *testing.B, s *server) { pgbenchInit(b, s, 20, 100) }

// benchCommit: TPC-B on a server as it comes and on a node, in turn, with what each process spends on it.
func benchCommit(b *testing.B, f *figures) {
	p := newPair(b, func(s *server) { prepareTPCB(b, s) })
	for which := range sides { // both warm
		p.pgbench(b, which, "-c", "8", "-T", "3")
	}
	p.awaitQuiet(b) // the base backup was taken in just now
	for _, clients := range []int{1, 8} {
		var tps, ms [2][]float64
		var cpu [2]map[string]float64 // seconds
		var transactions [2]float64
		for round := range benchRounds {
			for i := range sides {
				which := (i + round) % 2
				before, began := p.cpu(b, which), time.Now()
				x, y := p.pgbench(b, which, "-c", strconv.Itoa(clients), "-j", "2", "-T", "5")
				transactions[which] += x * 5
				cpu[which] = spent(cpu[which], before, p.cpu(b, which))
				tps[which], ms[which] = append(tps[which], x), append(ms[which], y)
				f.b.Logf("%s, %d clients, round %d: %.0f transactions/s, %.2f ms, in %v", sides[which], clients, round, x, y, time.Since(began).Round(time.Millisecond))
			}
		}
		for which, side := range sides {
			more := map[string]any{"side": side, "clients": clients, "rounds": benchRounds}
			f.add("tpcb.tps", median(tps[which]), "transactions/s", more)
			f.add("tpcb.latency", median(ms[which]), "ms", more)
			for process, seconds := range cpu[which] {
				f.add("tpcb.cpu", seconds/transactions[which]*1e6, "µs of CPU a transaction", map[string]any{"side": side, "clients": clients, "process": process})
			}
		}
		more := map[string]any{"clients": clients, "rounds": benchRounds}
		if clients > 1 {
			more["goal"] = 0.8
		}
		f.add("tpcb.tps_ratio", median(tps[1])/median(tps[0]), "LogCore/local", more)
	}
}

// cpu returns the CPU seconds of a side's processes so far.
func (p *pair) cpu(b *testing.B, which int) map[string]float64 {
	b.Helper()
	if which == 0 {
		return map[string]float64{"postgres": cpuBelow(b, postmaster(p.local.data))}
	}
	return map[string]float64{"postgres": cpuBelow(b, postmaster(filepath.Join(p.dir, "pgdata"))), "run": cpuOfProcess(b, p.node.cmd.Process.Pid),
		"logcore": cpuOfProcess(b, p.service.process.cmd.Process.Pid)}
}

func spent(sum, before, after map[string]float64) map[string]float64 {
	if sum == nil {
		sum = map[string]float64{}
	}
	for process, v := range after {
		sum[process] += v - before[process]
	}
	return sum
}

// ticks is in how many parts of a second Linux counts the time of processes.
const ticks = 100

// statOf returns the fields of /proc/PID/stat behind the command, which may hold anything; none when the process is gone.
func statOf(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
}

// times adds up fields of a process's stat, in seconds: 11 and 12 are its own time, 13 and 14 that of its children that ended.
func times(b *testing.B, stat []string, fields ...int) (sum float64) {
	b.Helper()
	for _, f := range fields {
		v, err := strconv.ParseFloat(stat[f], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += v / ticks
	}
	return sum
}

func cpuOfProcess(b *testing.B, pid int) float64 {
	b.Helper()
	stat := statOf(pid)
	if stat == nil {
		b.Fatalf("process %d is gone", pid)
	}
	return times(b, stat, 11, 12)
}

// cpuBelow is that of a process and its children, also those that have ended. One that ends meanwhile is in neither part: then all
// is read again.
func cpuBelow(b *testing.B, pid int) float64 {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		ended := times(b, statOf(pid), 13, 14)
		sum := cpuNow(b, pid)
		if times(b, statOf(pid), 13, 14) == ended {
			return ended + sum
		}
		if time.Now().After(deadline) {
			b.Fatalf("processes below %d end all the time", pid)
		}
	}
}

// cpuNow is that of a process and its children that have not ended.
func cpuNow(b *testing.B, pid int) float64 {
	b.Helper()
	sum := times(b, statOf(pid), 11, 12)
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range all {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if stat := statOf(child); err == nil && stat != nil && stat[1] == strconv.Itoa(pid) {
			sum += times(b, stat, 11, 12)
		}
	}
	return sum
}

// benchWALPerTransaction: how much WAL a transaction makes just after a checkpoint.
func benchWALPerTransaction(b *testing.B, f *figures) {
	p := newPair(b, func(s *server) { prepareTPCB(b, s) })
	const transactions = 6000
	var perTx [2]float64
	for which, side := range sides {
		query(b, connect(b, p.conn(which)), "checkpoint")
		before := walBytes(b, p.conn(which))
		p.pgbench(b, which, "-c", "8", "-j", "2", "-t", strconv.Itoa(transactions/8))
		perTx[which] = (walBytes(b, p.conn(which)) - before) / transactions
		f.add("wal_per_transaction", perTx[which], "bytes", map[string]any{"side": side, "after": "a checkpoint"})
	}
	f.add("wal_per_transaction_ratio", perTx[1]/perTx[0], "LogCore/local", map[string]any{"goal": 0.15})
}

// load writes about so many bytes of WAL: rows that are inserted, and updated with their indexes.
func load(b *testing.B, conn string, bytes float64) {
	b.Helper()
	c := connect(b, conn)
	query(b, c, "create table if not exists filler(i bigint generated always as identity primary key, k int, v text)")
	query(b, c, "create index if not exists filler_k on filler(k)")
	for end := walBytes(b, conn) + bytes; walBytes(b, conn) < end; {
		query(b, c, `with new as (insert into filler(k, v) select (random() * 1000000)::int, repeat(md5(g::text), 4) from generate_series(1, 20000) g returning i)
			select count(*) from new`)
		query(b, c, "update filler set k = k + 1 where i > (select max(i) from filler) - 10000")
	}
}

// benchIngest: how fast an attach catches up with WAL that waits, and what that costs it.
func benchIngest(b *testing.B, f *figures) {
	const bytes = 128 << 20
	service, s := newService(b), newServer(b, "max_wal_size=20GB", "checkpoint_timeout=1h")
	var wall, cpu []float64
	for round := range benchRounds {
		if round == 0 {
			service.attach(b, "ingest", s).stop()
			query(b, connect(b, s.connString()), "alter system reset synchronous_standby_names")
			query(b, connect(b, s.connString()), "select pg_reload_conf()")
		}
		from := walBytes(b, s.connString())
		load(b, s.connString(), bytes)
		to := walBytes(b, s.connString())
		c := connect(b, s.connString())
		began := time.Now()
		p := service.background(b, "postgres", "attach", "ingest", "--server", s.connString(), "--addr", service.addr)
		for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if rows := query(b, c, fmt.Sprintf("select 1 from pg_stat_replication where flush_lsn - '0/0'::pg_lsn >= %.0f", to)); len(rows) == 1 {
				break
			}
			if time.Now().After(deadline) {
				b.Fatalf("not caught up:\n%s", p.output.String())
			}
		}
		wall = append(wall, (to-from)/1e6/time.Since(began).Seconds())
		p.stop()
		use := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
		cpu = append(cpu, (to-from)/1e6/(time.Duration(use.Utime.Nano()+use.Stime.Nano())).Seconds())
	}
	f.add("ingest.attach_cpu", median(cpu), "MB per CPU second of attach", map[string]any{"goal": 150, "rounds": benchRounds})
	f.add("ingest.wall", median(wall), "MB/s, server, attach and LogCore on this machine", map[string]any{"rounds": benchRounds})
}

// benchDecode: what a page server's ingest costs: the WAL of TPC-B and of bulk changes, from a log's entries in memory: decoding alone, and decoding into a
// store.
func benchDecode(b *testing.B, f *figures) {
	service, s := newService(b), newServer(b, "max_wal_size=20GB", "checkpoint_timeout=1h")
	pgbenchInit(b, s, 5, 100)
	attach := service.attach(b, "decode", s)
	run(b, binaries+"pgbench", "-n", "-c", "8", "-j", "2", "-T", "10", "-h", s.socket, "-p", strconv.Itoa(s.port), "-U", "postgres", "postgres")
	load(b, s.connString(), 64<<20)
	attach.stop()
	log, err := client.Dial(b.Context(), client.Options{Addr: service.addr})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	source := enginetest.NewSource(1)
	source.Create("decode")
	var payloads [][]byte
	bytes := 0.0
	for e, err := range compute.EntriesOf(log, "decode")(b.Context(), 0, 0) {
		if err != nil {
			b.Fatal(err)
		}
		source.Append("decode", e.Kind, e.Tx, e.Payload)
		p, err := payload.Decode(e.Payload)
		if err != nil {
			b.Fatal(err)
		}
		bytes += float64(len(p.Content)) / 1e6
		payloads = append(payloads, e.Payload)
	}
	var decode, ingest []float64
	for range benchRounds {
		decode = append(decode, bytes/cpuOf(b, func() { decodeAll(b, payloads) }))
		ingest = append(ingest, bytes/cpuOf(b, func() { ingestAll(b, source) }))
	}
	more := map[string]any{"mb": bytes, "entries": len(payloads), "rounds": benchRounds, "goal": 150}
	f.add("pages.decode_cpu", median(decode), "MB of base backup and WAL per CPU second", more)
	f.add("pages.ingest_cpu", median(ingest), "MB of base backup and WAL per CPU second, decoded into a store", more)
}

// cpuOf returns the CPU seconds that this process spends on something.
func cpuOf(b *testing.B, work func()) float64 {
	b.Helper()
	spent := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	before := spent()
	work()
	return spent() - before
}

func decodeAll(b *testing.B, payloads [][]byte) {
	var state []byte
	for _, p := range payloads {
		_, next, err := pages.Decoder{}.Decode(state, p)
		if err != nil {
			b.Fatal(err)
		}
		state = next
	}
}

func ingestAll(b *testing.B, source *enginetest.Source) {
	s := enginetest.Start(b, pageserver.Options{Dir: b.TempDir(), Source: source, Formats: engine.Only(pages.Decoder{}), Logger: slog.New(slog.DiscardHandler)})
	for deadline := time.Now().Add(10 * time.Minute); ; {
		_, err := s.WaitLSN(b.Context(), "decode", pageserver.ReadAt{LSN: source.Last(), Wait: time.Minute})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
	s.Stop(b)
}

var goBenchLine = regexp.MustCompile(`(?m)^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// benchRedo: one record on a page in memory: as the replay on files does it, and from the data of a redo record, as the page server does.
func benchRedo(b *testing.B, f *figures) {
	for _, p := range []struct{ name, pkg, bench string }{{"redo.", "redo", "."}, {"pages.", "pages", "^BenchmarkRedo"}} {
		out, err := exec.CommandContext(b.Context(), "go", "test", "-run", "^$", "-bench", p.bench, "-count", strconv.Itoa(benchRounds), "-benchtime", "0.5s",
			"github.com/logcore/logcore/engine/postgres/"+p.pkg).CombinedOutput()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		values := map[string][]float64{}
		for _, m := range goBenchLine.FindAllStringSubmatch(string(out), -1) {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				b.Fatal(err)
			}
			values[m[1]] = append(values[m[1]], v/1000)
		}
		if len(values) < 2 {
			b.Fatalf("no figures in\n%s", out)
		}
		for name, v := range values {
			f.add(p.name+strings.ToLower(name), median(v), "µs", map[string]any{"goal": 3})
		}
	}
}

// What the return is measured with: pgbench's data, which keeps its size, and rows beside it that are overwritten again and again, which makes much WAL.
const (
	returnScale  = 10
	returnRows   = 20000
	returnRounds = 5 // of the node; the server's recovery ends with a checkpoint, so there it is one
)

// returnWAL is how much WAL there is, in MiB: LOGCORE_RETURN_MIB, or 1, 2 and 4 GiB.
func returnWAL(b *testing.B) (mib []float64) {
	text := cmp.Or(os.Getenv("LOGCORE_RETURN_MIB"), "1024,2048,4096")
	for _, s := range strings.Split(text, ",") {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			b.Fatal(err)
		}
		mib = append(mib, v)
	}
	return mib
}

func prepareReturn(b *testing.B, s *server) {
	pgbenchInit(b, s, returnScale, 50)
	c := connect(b, s.connString())
	query(b, c, "create table wide(i int primary key, v text) with (fillfactor = 45)")
	query(b, c, "alter table wide alter v set storage plain")
	query(b, c, fmt.Sprintf("insert into wide select g, repeat('x', 1600) from generate_series(1, %d) g", returnRows))
	query(b, c, "vacuum analyze")
}

// overwrite writes about so many bytes of WAL without making the data larger.
func overwrite(b *testing.B, conn string, bytes float64) {
	b.Helper()
	c := connect(b, conn)
	const step = 2000
	from := 0
	for end := walBytes(b, conn) + bytes; walBytes(b, conn) < end; from = (from + step) % returnRows {
		query(b, c, fmt.Sprintf("update wide set v = repeat(md5(random()::text || i), 50) where i between %d and %d", from+1, from+step))
	}
}

// benchReturn: from SIGKILL to the first answer, of a server that recovers from its own disk and of a node
// that is made again, with so much WAL since the last checkpoint, and since the base backup.
func benchReturn(b *testing.B, f *figures) {
	p := newPair(b, func(s *server) { prepareReturn(b, s) }, "max_wal_size=40GB", "checkpoint_timeout=1h", "autovacuum=off")
	log, err := client.Dial(b.Context(), client.Options{Addr: p.service.addr})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	written, ready := 0.0, 1
	var nodes, cpus []float64
	for _, mib := range returnWAL(b) {
		size, more := mib*(1<<20), map[string]any{"wal_mib": mib}
		local := p.recovery(b, size)
		f.add("return.local", local, "s, crash recovery", more)

		began := time.Now()
		overwrite(b, p.conn(1), size-written)
		wrote := time.Since(began)
		awaitIngest(b, log, "bench")
		f.add("return.ingest", time.Since(began).Seconds(), "s, to write the WAL and to ingest it", map[string]any{"wal_mib": mib, "more_mib": (size - written) / (1 << 20), "behind_s": (time.Since(began) - wrote).Seconds()})
		written = size
		p.awaitQuiet(b)
		var took, cpu []float64
		var parts [2][]float64
		for range returnRounds {
			ready++
			before := p.ownCPU(b)
			took = append(took, p.comesBack(b, ready))
			cpu = append(cpu, p.ownCPU(b)-before)
			build, start := lastStart(b, p.node.output.String())
			parts[0], parts[1] = append(parts[0], build), append(parts[1], start)
		}
		node := median(took)
		nodes, cpus = append(nodes, node), append(cpus, median(cpu))
		more["rounds"] = returnRounds
		f.add("return.logcore", node, "s, made from the page server's pages", more)
		f.add("return.logcore.cpu", median(cpu), "CPU seconds of run and LogCore", more)
		f.add("return.logcore.build", median(parts[0]), "s of it, to make the data directory", more)
		f.add("return.logcore.start", median(parts[1]), "s of it, until the server took connections", more)
		f.add("return.ratio", node/local, "LogCore/local", more)
	}
	f.add("return.flat_cpu", cpus[len(cpus)-1]/cpus[0], "CPU seconds with the most WAL/with the least", map[string]any{"goal": 1.2})
	f.add("return.flat", nodes[len(nodes)-1]/nodes[0], "with the most WAL/with the least", map[string]any{"goal": 1.2})
	if out := p.node.output.String(); strings.Count(out, fromPages) != ready {
		b.Errorf("not every node was made from pages:\n%s", tail([]byte(out)))
	}
}

// ownCPU returns the CPU seconds of LogCore and of run so far.
func (p *pair) ownCPU(b *testing.B) float64 {
	b.Helper()
	return cpuOfProcess(b, p.node.cmd.Process.Pid) + cpuOfProcess(b, p.service.process.cmd.Process.Pid)
}

// awaitQuiet waits until LogCore has done what it does in the background after much was written, or for long enough: it is not what is measured.
func (p *pair) awaitQuiet(b *testing.B) {
	b.Helper()
	const enough, quiet = 90 * time.Second, 0.1 // of a core
	for deadline := time.Now().Add(enough); time.Now().Before(deadline); {
		before := p.ownCPU(b)
		time.Sleep(2 * time.Second)
		if p.ownCPU(b)-before < 2*quiet {
			return
		}
	}
	b.Log("LogCore is still busy in the background")
}

// returnQuery is answered when a node, or a server, is there again.
const returnQuery = "select count(*) from pgbench_accounts where aid < 100"

// recovery has the local server write so much WAL since a checkpoint, kills it, and returns the seconds until it answers again.
func (p *pair) recovery(b *testing.B, bytes float64) float64 {
	b.Helper()
	query(b, connect(b, p.conn(0)), "checkpoint")
	overwrite(b, p.conn(0), bytes)
	if !killPostmaster(p.local.data) {
		b.Fatal("the server is not there")
	}
	awaitGone(b, p.local) // in its favour: until then it can't be started
	killed := time.Now()
	p.local.start(b)
	queryOne(b, p.conn(0), returnQuery)
	return time.Since(killed).Seconds()
}

// comesBack kills the node and returns the seconds until the next one, the ready-th, answers.
func (p *pair) comesBack(b *testing.B, ready int) float64 {
	b.Helper()
	killed := time.Now()
	if !killPostmaster(filepath.Join(p.dir, "pgdata")) {
		b.Fatal("the node is not there")
	}
	p.node.waitFor(b, "ready:", ready)
	queryOne(b, p.conn(1), returnQuery)
	return time.Since(killed).Seconds()
}

var startLine = regexp.MustCompile(`data directory in (\S+) \(.*\), start in (\S+)`)

// lastStart returns how long the last node took to be made, and to start, in seconds.
func lastStart(b *testing.B, out string) (build, start float64) {
	b.Helper()
	all := startLine.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		b.Fatalf("no node says how long it took:\n%s", tail([]byte(out)))
	}
	last := all[len(all)-1]
	x, err1 := time.ParseDuration(last[1])
	y, err2 := time.ParseDuration(last[2])
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return x.Seconds(), y.Seconds()
}

// awaitIngest waits until the page server has the log's end.
func awaitIngest(b *testing.B, c *client.Client, log string) {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Minute); ; {
		info, err := c.Info(b.Context(), log)
		if err != nil {
			b.Fatal(err)
		}
		if _, err = c.WaitLSN(b.Context(), log, info.LastLSN, 30*time.Second); err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("the page server does not catch up: %v", err)
		}
	}
}
