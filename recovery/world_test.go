package recovery_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/target"
)

// world is a log service with an archive on six directories.
type world struct {
	t       *testing.T
	root    string
	dir     string // of the service; the hot log is in dir/logsvc/shard-0
	key     string
	urls    []string
	running roles.Running
	client  *client.Client
	written []written // what was acknowledged, in order
	maxAge  time.Duration
	hotKeep int64 // 0 = the default
	shards  int   // 0 = those that there are, or one
}

// written is an acknowledged transaction.
type written struct {
	log   string
	at    client.Appended
	parts [][]byte
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir()}
	w.dir, w.key = filepath.Join(w.root, "lc"), filepath.Join(w.root, "key")
	if _, err := tiering.GenerateKeyFile(w.key); err != nil {
		t.Fatal(err)
	}
	w.urls = w.newTargets("targets")
	return w
}

func (w *world) newTargets(name string) []string {
	w.t.Helper()
	var urls []string
	for _, n := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		url := fmt.Sprintf("dir://%s?name=%s&provider=%s", filepath.Join(w.root, name, n), n, n[:1])
		opened, err := target.Init(context.Background(), url)
		if err != nil {
			w.t.Fatal(err)
		}
		opened.Bucket.Close()
		urls = append(urls, url)
	}
	return urls
}

// start starts the service on a directory.
func (w *world) start(dir string, urls []string) {
	w.t.Helper()
	cfg := config.DefaultLogService()
	cfg.Dir, cfg.Key, cfg.Targets = filepath.Join(dir, "logsvc"), w.key, urls
	cfg.Listen, cfg.Metrics, cfg.SegmentBytes, cfg.DiskReserveBytes = "127.0.0.1:0", "", 1<<20, 1<<20
	cfg.Shards = w.shards
	if w.maxAge != 0 {
		cfg.ArchiveMaxAge = w.maxAge
	}
	if w.hotKeep != 0 {
		cfg.HotBytesKeep = config.Bytes(w.hotKeep)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if w.running, err = roles.StartLogService(ctx, cfg, "test", quiet()); err != nil {
		w.t.Fatal(err)
	}
	if w.client, err = client.Dial(ctx, client.Options{Addr: w.running.Addr(), Logger: quiet()}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.stop)
}

func (w *world) stop() {
	w.t.Helper()
	if w.running == nil {
		return
	}
	w.client.Close()
	if err := w.running.Stop(); err != nil {
		w.t.Error(err)
	}
	w.running = nil
}

// write appends count transactions of about size bytes to a log, every fifth in parts.
func (w *world) write(log string, count, size int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	wr, err := w.client.OpenWriter(ctx, log, client.WriterOptions{Create: true, Takeover: true})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range count {
		parts := [][]byte{payload(size)}
		if i%5 == 4 {
			parts = [][]byte{payload(size / 3), payload(size / 3), payload(size / 3)}
		}
		at, err := wr.AppendTx(ctx, logcore.TxID{}, parts, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.written = append(w.written, written{log, at, parts})
	}
	if err := wr.Close(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func payload(size int) []byte {
	b := make([]byte, size/2+rand.IntN(size))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// flush waits until everything is archived, the last entries included.
func (w *world) flush() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := w.client.Flush(ctx, w.written[0].log); err != nil {
		w.t.Fatal(err)
	}
}

// check reads every log and compares it with what was acknowledged up to an LSN.
func (w *world) check(upTo logcore.LSN) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := map[string][]client.LogEntry{}
	for _, want := range w.written {
		if want.at.LSN > upTo {
			continue
		}
		if _, done := got[want.log]; !done {
			got[want.log] = []client.LogEntry{}
			for b, err := range w.client.Read(ctx, want.log, client.ReadOptions{}) {
				if err != nil {
					w.t.Fatal(err)
				}
				got[want.log] = append(got[want.log], b.Entries...)
			}
		}
		entries := got[want.log]
		for i, part := range want.parts {
			if len(entries) == 0 || !bytes.Equal(entries[0].Payload, part) {
				w.t.Fatalf("log %s: part %d of the transaction of LSN %d is missing or different", want.log, i, want.at.LSN)
			}
			if last := i == len(want.parts)-1; last && (entries[0].LSN != want.at.LSN || entries[0].Time != want.at.Time) {
				w.t.Fatalf("log %s: LSN %d is at %d", want.log, want.at.LSN, entries[0].LSN)
			}
			entries = entries[1:]
		}
		got[want.log] = entries
	}
	for log, rest := range got {
		for _, e := range rest {
			if e.Kind != logcore.KindPart {
				w.t.Fatalf("log %s: LSN %d was never acknowledged up to %d", log, e.LSN, upTo)
			}
		}
	}
}

// options are those of a restore of everything into root/name.
func (w *world) options(name string) recovery.Options {
	w.t.Helper()
	targets, err := roles.OpenTargets(context.Background(), w.urls, quiet())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { targets.Close() })
	keys, err := tiering.LoadKeyFile(w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return recovery.Options{Targets: targets.All, Keys: keys, To: filepath.Join(w.root, name), Logger: quiet()}
}

// lose removes targets for good.
func (w *world) lose(names ...string) {
	w.t.Helper()
	for _, n := range names {
		if err := os.RemoveAll(filepath.Join(w.root, "targets", n)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// dump returns a line for every entry of a hot log, without the lines about files and footers.
func dump(t *testing.T, dir string) []string { return dumpLines(t, dir, " offset=") }

// dumpLines returns the lines of a dump that hold a text.
func dumpLines(t *testing.T, dir, text string) []string {
	t.Helper()
	var b bytes.Buffer
	if err := inspect.Dump(context.Background(), dir, func(d fmt.Stringer) error { _, err := fmt.Fprintln(&b, d); return err }); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}
