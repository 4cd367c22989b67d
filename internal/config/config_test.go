package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logsvc.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func environ(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	path := write(t, "dir: /from/file\nlisten: 127.0.0.1:1\nsegment_bytes: 32MiB\ntargets:\n  - dir:///a\n  - dir:///b\n  - dir:///c\n  - dir:///d\n  - dir:///e\n  - dir:///f\nkey: k\n")
	cfg := DefaultLogService()
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	AddFlags(flags, cfg)
	if err := flags.Parse([]string{"--listen", "127.0.0.1:3", "--archive-max-age=500ms"}); err != nil {
		t.Fatal(err)
	}
	env := environ(map[string]string{"LOGCORE_LISTEN": "127.0.0.1:2", "LOGCORE_DIR": "/from/env"})
	if err := Load(cfg, path, env, flags); err != nil {
		t.Fatal(err)
	}
	want := DefaultLogService()
	want.Dir, want.Listen, want.SegmentBytes, want.Key = "/from/env", "127.0.0.1:3", 32<<20, "k"
	want.Targets, want.ArchiveMaxAge = []string{"dir:///a", "dir:///b", "dir:///c", "dir:///d", "dir:///e", "dir:///f"}, 500*time.Millisecond
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("loaded %+v\nwant   %+v", cfg, want)
	}
}

func TestEveryBadFieldIsReportedTogether(t *testing.T) {
	path := write(t, "dri: /x\nlisten: nowhere\nlisten: again\nsegment_bytes: many\ncache_bytes: [1]\nlog_level: loud\n")
	err := Load(DefaultLogService(), path, environ(map[string]string{"LOGCORE_ARCHIVE_MAX_AGE": "soon"}), nil)
	var cerr *Error
	if !errors.As(err, &cerr) {
		t.Fatalf("error %v, want *Error", err)
	}
	for _, want := range []string{
		"dri (" + path + " line 1): unknown key; known are dir,",
		"listen (" + path + " line 3): is set twice, first in line 2",
		`segment_bytes (` + path + ` line 4): "many" is not a size`,
		"cache_bytes (" + path + " line 5): want a size",
		`archive_max_age (LOGCORE_ARCHIVE_MAX_AGE): "soon" is not a duration`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message lacks %q:\n%v", want, err)
		}
	}
}

func TestValidationNamesFieldAndSource(t *testing.T) {
	path := write(t, "listen: nowhere\nlog_level: loud\nsegment_bytes: 5\ntargets: [dir:///a]\nentry_bytes_max: 32MiB\nqueue_bytes_max: 1MiB\n")
	err := Load(DefaultLogService(), path, environ(nil), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"dir: is required", "listen (" + path + " line 1): \"nowhere\" is not HOST:PORT",
		"log_level (" + path + " line 2)", "segment_bytes (" + path + " line 3): 5 is out of range", "key: is required", "targets (" + path + " line 4): 1 targets: want 6 at least",
		"queue_bytes_max (" + path + " line 6): 1MiB is below entry_bytes_max"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message lacks %q:\n%v", want, err)
		}
	}
}

func TestPrintIsReadBack(t *testing.T) {
	cfg := DefaultLogService()
	cfg.Dir, cfg.Key, cfg.Targets = "/d: #odd", "on", []string{"dir:///a?name=a1&provider=a", "mem://x", "dir:///c", "dir:///d", "dir:///e", "dir:///f"}
	cfg.PeerListen, cfg.Peers = "127.0.0.1:7422", []string{"127.0.0.1:1", "db-2.example:7422"}
	var b strings.Builder
	if err := Print(&b, cfg); err != nil {
		t.Fatal(err)
	}
	back := DefaultLogService()
	if err := Load(back, write(t, b.String()), environ(nil), nil); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if !reflect.DeepEqual(cfg, back) {
		t.Errorf("read back %+v\nwant %+v\n%s", back, cfg, b.String())
	}
}

func TestPageServerDefaultsNeedOnlyDir(t *testing.T) {
	cfg := DefaultPageServer()
	if err := Load(cfg, "", environ(map[string]string{"LOGCORE_DIR": "/d"}), nil); err != nil {
		t.Error(err)
	}
	if err := Load(DefaultPageServer(), "", environ(nil), nil); err == nil || !strings.Contains(err.Error(), "dir: is required") {
		t.Errorf("error %v, want dir required", err)
	}
}

func TestNotAMapping(t *testing.T) {
	for _, text := range []string{"- a\n", "just text\n", "a: 1\n---\nb: 2\n", "dir: [\n"} {
		if err := Load(DefaultLogService(), write(t, text), environ(nil), nil); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
	if err := Load(DefaultLogService(), filepath.Join(t.TempDir(), "none"), environ(nil), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "17": 17, "16MiB": 16 << 20, "2 GiB": 2 << 30, "1TiB": 1 << 40, "3KiB": 3 << 10} {
		var b Bytes
		if err := b.Set(text); err != nil || b != want {
			t.Errorf("Set(%q) = %d, %v; want %d", text, b, err, want)
		}
		var back Bytes
		if err := back.Set(b.String()); err != nil || back != b {
			t.Errorf("String of %d is %q, read back as %d, %v", b, b, back, err)
		}
	}
	for _, text := range []string{"", "-1", "1MB", "x", "9999999999TiB", "1.5MiB"} {
		if err := new(Bytes).Set(text); err == nil {
			t.Errorf("Set(%q) accepted", text)
		}
	}
}
