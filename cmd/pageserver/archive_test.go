package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering"
)

// child is a page server in a process of its own.
type child struct {
	cmd           *exec.Cmd
	addr, metrics string
	mu            sync.Mutex
	log           bytes.Buffer  // guarded by mu
	grown         chan struct{} // the log has more
}

// Write takes the process's log.
func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.grown <- struct{}{}:
	default:
	}
	return c.log.Write(p)
}

func (c *child) said(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Contains(c.log.String(), text)
}

// until waits until the process has said something.
func (c *child) until(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !c.said(text) {
		select {
		case <-c.grown:
		case <-deadline:
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Fatalf("it never said %q:\n%s", text, c.log.String())
		}
	}
}

func (c *child) stop(sig os.Signal) {
	c.cmd.Process.Signal(sig)
	c.cmd.Wait()
}

// value reads a metric.
func (c *child) value(t *testing.T, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + c.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// archiveWorld is a log service with an archive, and page servers that read it themselves.
type archiveWorld struct {
	t       *testing.T
	root    string
	key     string
	targets []string
	cfg     *config.LogService
	logs    roles.Running
	c       *client.Client
	rng     *rand.Rand
	model   map[uint32][]modelVersion
	last    logcore.LSN
}

func newArchiveWorld(t *testing.T, ctx context.Context, targets []string) *archiveWorld {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &archiveWorld{t: t, root: t.TempDir(), targets: targets, rng: rand.New(rand.NewPCG(seed, 0)), model: map[uint32][]modelVersion{}}
	w.key = filepath.Join(w.root, "key")
	if _, err := tiering.GenerateKeyFile(w.key); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"}[:6-len(targets)] {
		dir := filepath.Join(w.root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w.targets = append(w.targets, "dir://"+dir+"?name="+name+"&provider="+name[:1])
	}
	w.cfg = config.DefaultLogService()
	w.cfg.Dir, w.cfg.Listen, w.cfg.Metrics, w.cfg.SegmentBytes, w.cfg.DiskReserveBytes = filepath.Join(w.root, "lc"), "127.0.0.1:0", "", 1<<20, 1<<20
	w.cfg.Targets, w.cfg.Key, w.cfg.HotBytesKeep, w.cfg.ArchiveMaxAge = w.targets, w.key, 1, 200*time.Millisecond
	w.begin(ctx)
	t.Cleanup(w.end)
	return w
}

// begin starts the log service, the second time at the same address.
func (w *archiveWorld) begin(ctx context.Context) {
	w.t.Helper()
	var err error
	if w.logs, err = roles.StartLogService(ctx, w.cfg, "test", w.cfg.Logger(io.Discard)); err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Listen = w.logs.Addr()
	if w.c, err = client.Dial(ctx, client.Options{Addr: w.logs.Addr()}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *archiveWorld) end() {
	if w.logs == nil {
		return
	}
	w.c.Close()
	if err := w.logs.Stop(); err != nil {
		w.t.Error(err)
	}
	w.logs = nil
}

const archivedPages, archivedPageSize = 64, 4096

// write appends transactions, and returns once the archive covers them when archive is set.
func (w *archiveWorld) write(ctx context.Context, log string, transactions int, archive bool) {
	w.t.Helper()
	writer, err := w.c.OpenWriter(ctx, log, client.WriterOptions{Create: true, Takeover: true, PayloadFormat: "pages"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer writer.Close(ctx)
	for range transactions {
		n := uint32(w.rng.IntN(archivedPages))
		data := make([]byte, archivedPageSize)
		for i := range data {
			data[i] = byte(w.rng.Uint32())
		}
		parts, err := pages.Encode([]engine.Record{{Op: engine.OpImage, Page: n, PageSize: archivedPageSize, Data: data}}, writer.EntryBytesMax())
		if err != nil {
			w.t.Fatal(err)
		}
		at, err := writer.AppendTx(ctx, logcore.TxID{}, parts, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if log == "db" {
			w.model[n] = append(w.model[n], modelVersion{at.LSN, data})
			w.last = at.LSN
		}
	}
	if archive {
		if _, err := w.c.Flush(ctx, log); err != nil {
			w.t.Fatal(err)
		}
	}
}

// trimmed waits until the log service has let go of most of what is archived.
func (w *archiveWorld) trimmed(ctx context.Context) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		info, err := w.c.Info(ctx, "db")
		if err != nil {
			w.t.Fatal(err)
		}
		if info.HotFirstLSN > w.last/2 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the hot tier begins at LSN %d of %d: the run is void", info.HotFirstLSN, w.last)
		}
	}
}

// pageServer starts a page server on a directory.
func (w *archiveWorld) pageServer(dir string, more ...string) *child {
	w.t.Helper()
	c := &child{grown: make(chan struct{}, 1)}
	args := append([]string{"--dir", filepath.Join(w.root, dir), "--listen", "127.0.0.1:0", "--metrics", freeAddress(w.t), "--log-service", w.cfg.Listen,
		"--targets", strings.Join(w.targets, ","), "--key", w.key, "--archive-after-bytes", "1"}, more...)
	c.metrics = args[5]
	c.cmd = exec.Command(os.Args[0], args...)
	c.cmd.Env = append(os.Environ(), childMarker+"=1")
	c.cmd.Stderr = c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.stop(syscall.SIGKILL) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		c.cmd.Wait()
		w.t.Fatalf("%q, %v\n%s", line, err, c.log.String())
	}
	c.addr = strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// compare holds pages at random LSNs against the model: none may be different.
func (w *archiveWorld) compare(ctx context.Context, c *child, upTo logcore.LSN, reads int) {
	w.t.Helper()
	reader, err := client.Dial(ctx, client.Options{Addr: c.addr, Timeout: time.Minute})
	if err != nil {
		w.t.Fatal(err)
	}
	defer reader.Close()
	numbers := make([]uint32, archivedPages)
	for i := range numbers {
		numbers[i] = uint32(i)
	}
	for i := range reads {
		at := upTo
		if i > 0 {
			at = 1 + logcore.LSN(w.rng.Uint64N(uint64(upTo)))
		}
		set, err := reader.GetPages(ctx, "db", engine.SpaceOf(0), numbers, client.ReadAt{LSN: at, Timeout: time.Minute})
		if err != nil {
			w.t.Fatalf("at LSN %d: %v", at, err)
		}
		for n, p := range set.Pages {
			var want []byte
			for _, v := range w.model[uint32(n)] {
				if v.lsn <= at {
					want = v.data
				}
			}
			if !bytes.Equal(p.Data, want) && (want != nil || len(bytes.Trim(p.Data, "\x00")) > 0) {
				w.t.Fatalf("page %d at LSN %d differs from what was written", n, at)
			}
		}
	}
}

func (w *archiveWorld) status(ctx context.Context, c *child) client.PageLogStatus {
	w.t.Helper()
	reader, err := client.Dial(ctx, client.Options{Addr: c.addr})
	if err != nil {
		w.t.Fatal(err)
	}
	defer reader.Close()
	all, err := reader.PageStatus(ctx, "db")
	if err != nil || len(all) != 1 {
		w.t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

// statusThat waits for a status.
func (w *archiveWorld) statusThat(ctx context.Context, c *child, ok func(client.PageLogStatus) bool) client.PageLogStatus {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		st := w.status(ctx, c)
		if ok(st) {
			return st
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("it never came to that: %+v", st)
		}
	}
}

// TestStraightFromTheArchive: a page server on an empty directory reads what is archived itself, from
// directories and from buckets of an S3 server over TLS; it is killed over and over meanwhile. Then it goes
// on with the log service. With the log service down, and one of the three providers with it, another one serves
// what the archive holds.
func TestStraightFromTheArchive(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cloud := s3test.StartTest(t, s3test.Options{Clouds: []string{"s"}, Buckets: []string{"one", "two"}})
	w := newArchiveWorld(t, ctx, []string{cloud.URL("minio", "s", "one", "s1"), cloud.URL("s3", "s", "two", "s2")})
	w.write(ctx, "other", 300, false)
	w.write(ctx, "db", 3000, true)
	archivedTo := w.last
	w.trimmed(ctx)

	interrupted := 0
	const kills = 8
	for range kills {
		c := w.pageServer("pages")
		c.until(t, "entries come from the")
		time.Sleep(time.Duration(w.rng.IntN(60)) * time.Millisecond)
		c.stop(syscall.SIGKILL)
		if c.said("msg=\"pageserver: entries come from the archive\"") && !c.said("a log was read from the archive") {
			interrupted++
		}
	}
	t.Logf("%d of %d kills while the archive was read", interrupted, kills)
	c := w.pageServer("pages")
	w.compare(ctx, c, w.last, 30)
	st := w.statusThat(ctx, c, func(s client.PageLogStatus) bool { return s.State == "following" })
	if st.From != "log service" || st.BehindBytes != 0 || st.LastLSN != w.last {
		t.Errorf("%+v", st)
	}
	w.write(ctx, "db", 20, false)
	w.compare(ctx, c, w.last, 5)
	if n := c.value(t, `logcore_pageserver_source_violations_total{kind="gap"}`) + c.value(t, `logcore_pageserver_source_violations_total{kind="duplicate"}`); n != 0 {
		t.Errorf("%v gaps and duplicates", n)
	}
	c.stop(syscall.SIGTERM)

	// An empty directory, uninterrupted: all but the end comes from the archive.
	c = w.pageServer("fresh")
	w.compare(ctx, c, w.last, 10)
	if n := c.value(t, "logcore_pageserver_archived_entries_total"); n < 3000 {
		t.Errorf("%v entries from the archive", n)
	}
	c.stop(syscall.SIGKILL)
	if interrupted == 0 {
		t.Error("no kill came while the archive was read: the run is void")
	}

	// The log service and the S3 provider are gone.
	if _, err := w.c.Flush(ctx, "db"); err != nil {
		t.Fatal(err)
	}
	w.end()
	if err := cloud.Cloud("s").Kill(); err != nil {
		t.Fatal(err)
	}
	c = w.pageServer("dark")
	w.compare(ctx, c, w.last, 20)
	st = w.statusThat(ctx, c, func(s client.PageLogStatus) bool {
		return s.State == "waiting" && strings.Contains(s.Reason, "what the archive holds is served")
	})
	if st.From != "archive" || st.Ingested < archivedTo {
		t.Errorf("%+v", st)
	}
	if up, archive := c.value(t, "logcore_pageserver_log_service_up"), c.value(t, "logcore_pageserver_archive_up"); up != 0 || archive != 1 {
		t.Errorf("log service up: %v, archive up: %v", up, archive)
	}
	reader, err := client.Dial(ctx, client.Options{Addr: c.addr, RetryFor: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.GetPages(ctx, "db", engine.SpaceOf(0), []uint32{0}, client.ReadAt{Timeout: 200 * time.Millisecond}); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Errorf("the newest page, with nobody there who knows which it is: %v", err)
	}
	// A third directory more than the code bears: nothing new, what is there is served, and it says so.
	for _, name := range []string{"a1", "b1"} {
		if err := os.Rename(filepath.Join(w.root, name), filepath.Join(w.root, name+".away")); err != nil {
			t.Fatal(err)
		}
	}
	c.until(t, "the archive can't be read")
	w.compare(ctx, c, w.last, 5)
	servers, err := reader.PageSources(ctx)
	if err != nil || len(servers) != 1 || servers[0].LogService || servers[0].ArchiveError == "" || c.value(t, "logcore_pageserver_archive_up") != 0 {
		t.Errorf("%+v, %v", servers, err)
	}
	// All is back.
	for _, name := range []string{"a1", "b1"} {
		if err := os.Rename(filepath.Join(w.root, name+".away"), filepath.Join(w.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cloud.Cloud("s").Restart(ctx); err != nil {
		t.Fatal(err)
	}
	w.begin(ctx)
	w.write(ctx, "db", 50, false)
	w.compare(ctx, c, w.last, 20)
	st = w.statusThat(ctx, c, func(s client.PageLogStatus) bool { return s.State == "following" })
	if st.From != "log service" {
		t.Errorf("%+v", st)
	}
	if n := c.value(t, `logcore_pageserver_source_violations_total{kind="gap"}`); n != 0 {
		t.Errorf("%v gaps", n)
	}
}
