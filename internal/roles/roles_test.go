package roles

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// dev starts both roles on a directory and returns a client.
func dev(t *testing.T, d DevDir, set ...func(*config.LogService)) (*role, *client.Client) {
	t.Helper()
	ctx := testContext(t)
	cfg := config.DefaultLogService()
	cfg.SegmentBytes, cfg.DiskReserveBytes = 1<<20, 1<<20
	for _, f := range set {
		f(cfg)
	}
	r, err := StartDev(ctx, DevOptions{Dir: d, Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0", Config: *cfg, Version: "test", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(ctx, client.Options{Addr: r.Addr(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r.(*role), c
}

func prepare(t *testing.T, dir string, targets ...string) DevDir {
	t.Helper()
	d, err := PrepareDevDir(testContext(t), dir, targets)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func appendOne(t *testing.T, c *client.Client, log, text string) logcore.LSN {
	t.Helper()
	ctx := testContext(t)
	w, err := c.OpenWriter(ctx, log, client.WriterOptions{Create: true, Takeover: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(ctx)
	at, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte(text)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return at.LSN
}

func TestGroupStopsInReverse(t *testing.T) {
	g := newGroup(quiet())
	var order []string
	for _, name := range []string{"a", "b", "c"} {
		g.add(name, func(context.Context) error {
			order = append(order, name)
			if name == "b" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	err := g.stop()
	if !slices.Equal(order, []string{"c", "b", "a"}) || err == nil || !strings.Contains(err.Error(), "stopping b: stuck") {
		t.Errorf("stopped %v, %v", order, err)
	}
	if err := g.stop(); err != nil || len(order) != 3 {
		t.Errorf("a second stop: %v, %v", order, err)
	}
	g.fail("x", errors.New("first"))
	g.fail("y", errors.New("second")) // must not block
	if err := <-g.failed; err.Error() != "x: first" {
		t.Errorf("failed with %v", err)
	}
}

func TestRequireLoopback(t *testing.T) {
	for addr, want := range map[string]exit.Code{"127.0.0.1:7420": exit.OK, "127.9.9.9:0": exit.OK, "[::1]:80": exit.OK, "localhost:1": exit.OK,
		"0.0.0.0:7420": exit.Usage, ":7420": exit.Usage, "[::]:1": exit.Usage, "10.0.0.1:1": exit.Usage, "example.com:1": exit.Usage, "nonsense": exit.Usage} {
		if err := requireLoopback("--listen", addr); exit.Of(err) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// A start that fails half way leaves nothing behind that would hinder the next one.
func TestFailedStartStopsWhatWasStarted(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	if err := os.WriteFile(d.PageServerDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.DefaultLogService()
	cfg.SegmentBytes, cfg.DiskReserveBytes = 1<<20, 1<<20
	_, err := StartDev(testContext(t), DevOptions{Dir: d, Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0", Config: *cfg, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "page server: ") {
		t.Fatalf("started with a file in the place of the page server's directory: %v", err)
	}
	if err := os.Remove(d.PageServerDir()); err != nil {
		t.Fatal(err)
	}
	_, c := dev(t, d)
	appendOne(t, c, "l", "x")
}

func TestMetricsAndHealth(t *testing.T) {
	r, c := dev(t, prepare(t, filepath.Join(t.TempDir(), "lc")))
	appendOne(t, c, "l", "x")
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + r.MetricsAddr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	code, body := get("/metrics")
	for _, want := range []string{`logcore_corruption_total{component="hotlog"} 0`, `logcore_corruption_total{component="fragment"} 0`, `logcore_corruption_total{component="pageserver"} 0`,
		"logcore_commit_latency_seconds_count 1", "logcore_bucket_requests_total{", "logcore_archive_rpo_seconds", "go_goroutines", "process_open_fds"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d, lacks %s", code, want)
		}
	}
	rules, err := os.ReadFile("../../deploy/alerts/service.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`logcore_\w+`).FindAllString(string(rules), -1)
	for _, metric := range asked {
		if !strings.Contains(body, "\n"+metric+"{") && !strings.Contains(body, "\n"+metric+" ") {
			t.Errorf("an alert asks for %s, which is no metric of the service", metric)
		}
	}
	if len(asked) < 8 {
		t.Errorf("%d metrics in the rules", len(asked))
	}
}

func TestDevDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	if _, err := OpenDevDir(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened nothing: %v", err)
	}
	first := prepare(t, dir)
	if !first.Fresh || len(first.Targets) != 6 || first.Key != filepath.Join(dir, "key") {
		t.Errorf("new directory: %+v", first)
	}
	lost := filepath.Join(dir, "targets", "b1")
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	again := prepare(t, dir)
	if again.Fresh || !slices.Equal(again.Targets, first.Targets) || again.Key != first.Key {
		t.Errorf("again: %+v", again)
	}
	if _, err := os.Stat(lost); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lost target was made again: %v", err)
	}
	// One that was cut short before the configuration was written is completed, under the same key.
	key, err := os.ReadFile(first.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, config.DevFile)); err != nil {
		t.Fatal(err)
	}
	completed := prepare(t, dir)
	if after, err := os.ReadFile(completed.Key); !completed.Fresh || err != nil || !slices.Equal(after, key) {
		t.Errorf("completed: %+v, %v", completed, err)
	}
}

// A lost target costs nothing but its name in the status; what is written meanwhile is
// archived on the others.
func TestLostTarget(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	r, c := dev(t, d)
	appendOne(t, c, "l", "x")
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	place, away := filepath.Join(d.Path, "targets", "c2"), filepath.Join(t.TempDir(), "c2")
	if err := os.Rename(place, away); err != nil {
		t.Fatal(err)
	}
	_, c = dev(t, d)
	lsn := appendOne(t, c, "l", "y")
	ctx := testContext(t)
	if archived, err := c.Flush(ctx, "l"); err != nil || archived < lsn {
		t.Fatalf("flushed to %d, %v", archived, err)
	}
	st, err := c.Status(ctx)
	if err != nil || st.Healthy || !strings.Contains(strings.Join(st.Problems, "\n"), "c2") {
		t.Errorf("status %+v, %v: want unhealthy, c2 named", st, err)
	}
	// An empty directory in its place is not the target.
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	lsn = appendOne(t, c, "l", "z")
	if archived, err := c.Flush(ctx, "l"); err != nil || archived < lsn {
		t.Fatalf("flushed to %d, %v", archived, err)
	}
	if left, err := os.ReadDir(place); err != nil || len(left) != 0 {
		t.Errorf("%d files were written to a stranger, %v", len(left), err)
	}
	// It comes back, and gets what it lacks without a restart.
	if err := errors.Join(os.RemoveAll(place), os.Rename(away, place)); err != nil {
		t.Fatal(err)
	}
	for st.Healthy = false; !st.Healthy; {
		if st, err = c.Status(ctx); err != nil {
			t.Fatalf("%v; the last status was %+v", err, st)
		}
		time.Sleep(50 * time.Millisecond) // until ctx ends
	}
}

// mountTmpfs mounts a file system of its own on a new directory. It needs root.
func mountTmpfs(t *testing.T, at, options string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, options); err != nil {
		t.Fatalf("this test mounts a tmpfs and so must run as root (uid is %d): %v", os.Getuid(), err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", at, err)
		}
	})
}

// Two targets that fill up, and two that turn read-only: the service goes on, says so
// with their names, and nothing is lost.
func TestFullAndReadOnlyTargets(t *testing.T) {
	for name, option := range map[string]string{"full": "size=64k", "read-only": "size=4m"} {
		root := filepath.Join(t.TempDir(), "lc")
		for _, target := range []string{"a1", "a2"} {
			mountTmpfs(t, filepath.Join(root, "targets", target), option)
		}
		d := prepare(t, root)
		_, c := dev(t, d)
		appendOne(t, c, "l", "first")
		ctx := testContext(t)
		if _, err := c.Flush(ctx, "l"); err != nil {
			t.Fatal(err)
		}
		if name == "read-only" {
			for _, target := range []string{"a1", "a2"} {
				if err := unix.Mount("", filepath.Join(root, "targets", target), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		random := make([]byte, 600<<10) // incompressible enough
		for i := range random {
			random[i] = byte(i*i>>3) ^ byte(i>>7) ^ byte(i*7919>>11)
		}
		lsn := appendOne(t, c, "l", string(random))
		if archived, err := c.Flush(ctx, "l"); err != nil || archived < lsn {
			t.Fatalf("%s: flushed to %d, want %d: %v", name, archived, lsn, err)
		}
		st, err := c.Status(ctx)
		if problems := strings.Join(st.Problems, "\n"); err != nil || st.Healthy || !strings.Contains(problems, "a1") || !strings.Contains(problems, "a2") {
			t.Errorf("%s: status %+v, %v: want unhealthy, a1 and a2 named", name, st, err)
		}
		n := 0
		for b, err := range c.Read(ctx, "l", client.ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			n += len(b.Entries)
		}
		if n != 2 {
			t.Errorf("%s: %d entries, want 2", name, n)
		}
	}
}

// What the hot tier let go of is read from the archive, by readers and by a page server
// that begins afresh, also after a restart on a hot log that begins later.
func TestReadsReachIntoTheArchive(t *testing.T) {
	ctx := testContext(t)
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	small := func(c *config.LogService) { c.HotBytesKeep, c.CacheBytes = 1, 1<<20 }
	r, c := dev(t, d, small)
	w, err := c.OpenWriter(ctx, "l", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 120 {
		payload, err := pages.Encode([]engine.Record{{Op: engine.OpImage, Page: uint32(i), PageSize: 65536, Data: slices.Repeat([]byte{byte(i + 1)}, 65536)}}, w.EntryBytesMax())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.AppendTx(ctx, logcore.TxID{}, payload, nil); err != nil {
			t.Fatal(err)
		}
		want = append(want, string(payload[0]))
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Flush(ctx, "l"); err != nil {
		t.Fatal(err)
	}
	for {
		i, err := c.Info(ctx, "l")
		if err != nil {
			t.Fatal(err)
		}
		if i.HotFirstLSN > i.LastLSN/2 {
			break
		}
		time.Sleep(50 * time.Millisecond) // until ctx ends
	}
	check := func() {
		t.Helper()
		var got []string
		for b, err := range c.Read(ctx, "l", client.ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range b.Entries {
				got = append(got, string(e.Payload))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d entries read, want %d, or they differ", len(got), len(want))
		}
	}
	check()
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(d.PageServerDir()); err != nil {
		t.Fatal(err)
	}
	_, c = dev(t, d, small)
	check()
	set, err := c.GetPages(ctx, "l", engine.SpaceOf(0), []uint32{0, 119}, client.ReadAt{Timeout: 30 * time.Second})
	for err == nil && len(set.Pages[1].Data) == 0 { // it is on its way there
		set, err = c.GetPages(ctx, "l", engine.SpaceOf(0), []uint32{0, 119}, client.ReadAt{Timeout: 30 * time.Second})
	}
	if err != nil || set.Pages[0].Data[0] != 1 || set.Pages[1].Data[0] != 120 {
		t.Errorf("pages %v", err)
	}
}

// A bit rots in the hot log of a running service: no reader gets the bytes, and the
// segment is repaired from the archive while the service runs.
func TestRotWhileRunning(t *testing.T) {
	ctx := testContext(t)
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	small := func(c *config.LogService) { c.CacheBytes = 1 << 20 }
	r, c := dev(t, d, small)
	for range 60 {
		appendOne(t, c, "l", strings.Repeat("0123456789", 10000))
	}
	if _, err := c.Flush(ctx, "l"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.ShardDir(0), "00000001.seg")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const at = 500 << 10
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	read := func() (n int, err error) {
		for batch, err := range c.Read(ctx, "l", client.ReadOptions{}) {
			if err != nil {
				return n, err
			}
			for _, e := range batch.Entries {
				if string(e.Payload) != strings.Repeat("0123456789", 10000) {
					t.Fatalf("LSN %d: wrong bytes reached a reader", e.LSN)
				}
				n++
			}
		}
		return n, nil
	}
	if n, err := read(); exit.Of(err) != exit.Integrity {
		t.Fatalf("%d entries, %v: want an integrity failure", n, err)
	}
	// The segment is sealed and archived: it is repaired while the service runs.
	for {
		n, err := read()
		if err != nil && exit.Of(err) != exit.Integrity {
			t.Fatal(err)
		}
		if st, serr := c.Status(ctx); err == nil && serr == nil && n == 60 && st.Healthy && st.Corruptions > 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%d entries, %v: want all of them once they are repaired", n, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

// Bits rot while the service is stopped. In a sealed segment the check in the background
// finds it, though nobody reads there; where the log can't be opened, it is repaired first.
func TestRotWhileStopped(t *testing.T) {
	ctx := testContext(t)
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	r, c := dev(t, d)
	for range 40 {
		appendOne(t, c, "l", strings.Repeat("0123456789", 10000))
	}
	if _, err := c.Flush(ctx, "l"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.ShardDir(0), "00000001.seg")
	for _, at := range []int64{300 << 10, 50} { // a frame, the header
		c.Close()
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[at] ^= 4
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, c = dev(t, d)
		for {
			st, err := c.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if st.Healthy && st.Corruptions > 0 && now[at] == good[at] {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		n := 0
		for batch, err := range c.Read(ctx, "l", client.ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			n += len(batch.Entries)
		}
		if n != 40 {
			t.Errorf("byte %d: %d entries after the repair", at, n)
		}
	}
}

// The targets of one cluster are no place for another.
func TestTargetsOfAnotherCluster(t *testing.T) {
	root := t.TempDir()
	d := prepare(t, filepath.Join(root, "one"))
	r, c := dev(t, d)
	appendOne(t, c, "l", "x")
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	other := d
	other.Path = filepath.Join(root, "two")
	cfg := config.DefaultLogService()
	_, err := StartDev(testContext(t), DevOptions{Dir: other, Listen: "127.0.0.1:0", Config: *cfg, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "target a1 belongs to cluster") || !strings.Contains(err.Error(), "logcore restore") {
		t.Errorf("a new directory on an old archive: %v", err)
	}
	// An established one as well.
	second := prepare(t, filepath.Join(root, "three"))
	r, c = dev(t, second)
	appendOne(t, c, "l", "x")
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	second.Targets = d.Targets
	if _, err = StartDev(testContext(t), DevOptions{Dir: second, Listen: "127.0.0.1:0", Config: *cfg, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Errorf("an old directory on another's archive: %v", err)
	}
}

// Other targets for an existing directory: refused when they are another cluster's,
// and then the directory still names its own.
func TestReplacedTargets(t *testing.T) {
	root := t.TempDir()
	one, two := prepare(t, filepath.Join(root, "one")), prepare(t, filepath.Join(root, "two"))
	for _, d := range []DevDir{one, two} {
		r, c := dev(t, d)
		appendOne(t, c, "l", "x")
		c.Close()
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := PrepareDevDir(testContext(t), one.Path, two.Targets); err == nil || !strings.Contains(err.Error(), "target a1 belongs to cluster") {
		t.Errorf("another's targets were taken: %v", err)
	}
	if d, err := OpenDevDir(one.Path); err != nil || !slices.Equal(d.Targets, one.Targets) {
		t.Errorf("the directory says %+v, %v", d, err)
	}
	if err := os.RemoveAll(filepath.Join(one.Path, "targets", "c1")); err != nil {
		t.Fatal(err)
	}
	if d, err := PrepareDevDir(testContext(t), one.Path, one.Targets); err != nil || !slices.Equal(d.Targets, one.Targets) {
		t.Errorf("its own targets, one lost: %+v, %v", d, err)
	}
}

func TestOpenTargetsReportsEveryBadURL(t *testing.T) {
	_, err := OpenTargets(testContext(t), []string{"ftp://x", "dir:///a/b?name=n", "dir:///a/c?name=n", "dir:///a/d?colour=blue"}, quiet())
	var bad *config.Error
	if !errors.As(err, &bad) || len(bad.Problems) != 3 {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"item 1", "item 3", `two targets are named "n"`, "item 4", "colour"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q: %v", want, err)
		}
	}
}

// Spans that the archiver gets hold whole frames and respect its memory.
func TestReadSpanRespectsTheLimit(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	ctx := testContext(t)
	p := newProcess(quiet(), "test")
	cfg := config.DefaultLogService()
	cfg.Dir, cfg.SegmentBytes, cfg.DiskReserveBytes = d.LogServiceDir(), 1<<20, 1<<20
	s, err := buildLogService(ctx, p, cfg, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.group.stop()
	l, err := listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newTestServer(s)
	serve(p.group, srv, l)
	c, err := client.Dial(ctx, client.Options{Addr: l.Addr().String(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 30 {
		appendOne(t, c, "l", strings.Repeat("x", 5000))
	}
	source := &hotSource{group: s.parts[0].group}
	last := source.Committed()
	for _, limit := range []int64{1, 6000, 20000, 1 << 20} {
		next := logcore.LSN(1)
		for next <= last {
			span, err := source.ReadSpan(ctx, next, last, limit)
			if err != nil || span.First != next || span.Last < next {
				t.Fatalf("limit %d from %d: [%d,%d], %v", limit, next, span.First, span.Last, err)
			}
			if int64(len(span.Frames)) > limit && span.Last > span.First {
				t.Errorf("limit %d: %d bytes in [%d,%d]", limit, len(span.Frames), span.First, span.Last)
			}
			next = span.Last + 1
		}
	}
}
