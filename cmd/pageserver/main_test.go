package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/internal/roles"
)

func none(string) string { return "" }

func TestConfiguration(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"--dir", "/srv/pages", "--print-config"}, &stdout, &stderr, none); code != exit.OK || !strings.Contains(stdout.String(), "log_service: 127.0.0.1:7420") {
		t.Errorf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("buckets: [x]\ncache_bytes: 7\nlog_service: nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr.Reset()
	if code := run(context.Background(), []string{"--config", bad}, &stdout, &stderr, none); code != exit.Usage || !strings.Contains(stderr.String(), "buckets") {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
	stderr.Reset()
	if code := run(context.Background(), []string{"--nonsense"}, &stdout, &stderr, none); code != exit.Usage {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
}

func TestNoLogService(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"--dir", t.TempDir(), "--listen", "127.0.0.1:0", "--metrics", "", "--log-service", "127.0.0.1:1"}, &stdout, &stderr, none)
	if code != exit.Connect || !strings.Contains(stderr.String(), "127.0.0.1:1") {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
}

// lines passes on what is written, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- strings.TrimSpace(string(p))
	return len(p), nil
}

// Apart from its log service it serves what is written there, at every LSN, and again
// after its directory was lost.
func TestServesPagesOfALogService(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	root := t.TempDir()
	cfg := config.DefaultLogService()
	cfg.Dir, cfg.Listen, cfg.Metrics, cfg.SegmentBytes, cfg.DiskReserveBytes = filepath.Join(root, "lc"), "127.0.0.1:0", "", 1<<20, 1<<20
	logs, err := roles.StartLogService(ctx, cfg, "test", cfg.Logger(&bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Stop()
	writer, err := client.Dial(ctx, client.Options{Addr: logs.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	w, err := writer.OpenWriter(ctx, "db", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(ctx)
	var lsns []logcore.LSN
	for _, fill := range []byte{1, 2, 3} {
		parts, err := pages.Encode([]engine.Record{{Op: engine.OpImage, Page: 7, PageSize: 4096, Data: bytes.Repeat([]byte{fill}, 4096)}}, w.EntryBytesMax())
		if err != nil {
			t.Fatal(err)
		}
		at, err := w.AppendTx(ctx, logcore.TxID{}, parts, nil)
		if err != nil {
			t.Fatal(err)
		}
		lsns = append(lsns, at.LSN)
	}
	for range 2 {
		dir := filepath.Join(root, "pages")
		run1, stop := context.WithCancel(ctx)
		ready, ended := make(lines, 1), make(chan exit.Code, 1)
		var stderr bytes.Buffer
		go func() {
			ended <- run(run1, []string{"--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-service", logs.Addr(), "--log-level", "error"}, ready, &stderr, none)
		}()
		var addr string
		select {
		case line := <-ready:
			addr = strings.TrimPrefix(line, "ready ")
		case code := <-ended:
			t.Fatalf("ended with %d before it was ready\n%s", code, stderr.String())
		}
		reader, err := client.Dial(ctx, client.Options{Addr: addr})
		if err != nil {
			t.Fatal(err)
		}
		for i, lsn := range lsns {
			set, err := reader.GetPages(ctx, "db", engine.SpaceOf(0), []uint32{7}, client.ReadAt{LSN: lsn, Timeout: 10 * time.Second})
			if err != nil || len(set.Pages) != 1 || len(set.Pages[0].Data) != 4096 || set.Pages[0].Data[0] != byte(i+1) {
				t.Fatalf("page at LSN %d: %+v, %v", lsn, set, err)
			}
		}
		reader.Close()
		stop()
		if code := patience.Receive(t, "the process ends", ended); code != exit.OK {
			t.Errorf("ended with %d\n%s", code, stderr.String())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}
