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
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/patience"
)

func runIt(t *testing.T, env map[string]string, args ...string) (exit.Code, string, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, &stdout, &stderr, func(name string) string { return env[name] })
	return code, stdout.String(), stderr.String()
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logsvc.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfiguration(t *testing.T) {
	path := writeConfig(t, "dir: /srv/lc\nlisten: 127.0.0.1:1\nsegment_bytes: 32MiB\n")
	code, out, _ := runIt(t, map[string]string{"LOGCORE_LISTEN": "127.0.0.1:2", "LOGCORE_LOG_LEVEL": "debug"}, "--config", path, "--listen", "127.0.0.1:3", "--print-config")
	if code != exit.OK {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	for _, want := range []string{"dir: /srv/lc", "listen: 127.0.0.1:3", "segment_bytes: 32MiB", "log_level: debug", "# size at which a segment is sealed"} {
		if !strings.Contains(out, want) {
			t.Errorf("--print-config lacks %q:\n%s", want, out)
		}
	}
	// What it prints, it reads.
	if code, again, stderr := runIt(t, nil, "--config", writeConfig(t, out), "--print-config"); code != exit.OK || again != out {
		t.Errorf("read back: exit code %d, %s\n%s", code, again, stderr)
	}
}

func TestBadInput(t *testing.T) {
	bad := writeConfig(t, "dri: /x\nlisten: nowhere\nsegment_bytes: many\n")
	for _, tc := range []struct {
		args  []string
		texts []string
	}{
		{[]string{"--config", bad}, []string{"dri", "unknown key", "segment_bytes", "not a size"}},
		{[]string{}, []string{"dir: is required"}},
		{[]string{"--dir", "/x", "--listen", "nowhere"}, []string{"listen (--listen)", "HOST:PORT"}},
		{[]string{"--nonsense"}, []string{"unknown flag: --nonsense"}},
		{[]string{"extra"}, []string{`unknown argument "extra"`}},
		{[]string{"--dir", "/x", "--targets", "dir:///a"}, []string{"key: is required"}},
	} {
		code, _, stderr := runIt(t, nil, tc.args...)
		if code != exit.Usage || !strings.Contains(stderr, "--help") {
			t.Errorf("%v: exit code %d\n%s", tc.args, code, stderr)
		}
		for _, want := range tc.texts {
			if !strings.Contains(stderr, want) {
				t.Errorf("%v: nothing says %q:\n%s", tc.args, want, stderr)
			}
		}
	}
	if code, _, stderr := runIt(t, nil, "--config", "/nonexistent.yaml"); code != exit.Failure || !strings.Contains(stderr, "/nonexistent.yaml") {
		t.Errorf("missing file: exit code %d\n%s", code, stderr)
	}
}

// lines passes on what is written, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- strings.TrimSpace(string(p))
	return len(p), nil
}

// It serves until its context ends, and keeps what it acknowledged.
func TestServesAndStops(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	for round := range 2 {
		ctx, stop := context.WithCancel(context.Background())
		ready := make(lines, 1)
		ended := make(chan exit.Code, 1)
		var stderr bytes.Buffer
		go func() {
			ended <- run(ctx, []string{"--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "", "--log-level", "error", "--segment-bytes", "1MiB", "--disk-reserve-bytes", "1MiB"}, ready, &stderr, func(string) string { return "" })
		}()
		var addr string
		select {
		case line := <-ready:
			addr = strings.TrimPrefix(line, "ready ")
		case code := <-ended:
			t.Fatalf("ended with %d before it was ready\n%s", code, stderr.String())
		}
		c, err := client.Dial(ctx, client.Options{Addr: addr})
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.OpenWriter(ctx, "l", client.WriterOptions{Create: true, Takeover: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil); err != nil {
			t.Fatal(err)
		}
		if i, err := c.Info(ctx, "l"); err != nil || i.Entries != uint64(round+1) {
			t.Errorf("round %d: %+v, %v", round, i, err)
		}
		w.Close(ctx)
		c.Close()
		stop()
		if code := patience.Receive(t, "the process ends", ended); code != exit.OK {
			t.Errorf("ended with %d\n%s", code, stderr.String())
		}
	}
}
