package importer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/importer"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/segment"
)

func testOptions(dir string) hotlog.Options {
	return hotlog.Options{Dir: dir, Shard: 3, SegmentBytes: 64 << 10, DiskReserveBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
}

func mustOpen(t *testing.T, o hotlog.Options) *hotlog.Log {
	t.Helper()
	l, _, err := hotlog.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// fill appends up to LSN last, with a SEAL at every multiple of sealEvery.
func fill(t *testing.T, l *hotlog.Log, last, sealEvery logcore.LSN, size int) {
	t.Helper()
	for lsn := l.Last() + 1; lsn <= last; lsn++ {
		e := logcore.Entry{LSN: lsn, Term: 1, Kind: logcore.KindData, Time: logcore.HLC(lsn), Payload: bytes.Repeat([]byte{byte(lsn)}, size)}
		if lsn%sealEvery == 0 {
			e.Kind, e.Payload = logcore.KindSeal, nil
		}
		if err := l.Append(context.Background(), []logcore.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// frames are the raw frames of a segment.
func frames(t *testing.T, l *hotlog.Log, s hotlog.SegmentInfo) []byte {
	t.Helper()
	span, err := l.Span(s.First, s.Last)
	if err != nil {
		t.Fatal(err)
	}
	return span.Frames
}

func spansOf(t *testing.T, l *hotlog.Log, step logcore.LSN) iter.Seq2[segment.Span, error] {
	return func(yield func(segment.Span, error) bool) {
		for _, s := range l.Segments() {
			for first := s.First; first <= s.Last; first += step {
				if !yield(l.Span(first, min(first+step-1, s.Last))) {
					return
				}
			}
		}
	}
}

// footers returns what the footers of a closed log say.
func footers(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := inspect.Dump(context.Background(), dir, func(d fmt.Stringer) error {
		if f, ok := d.(inspect.DumpedFooter); ok {
			f.File = ""
			out = append(out, f.String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Import gives the same segments and bytes, and the log goes on from there.
func TestImport(t *testing.T) {
	ctx := context.Background()
	srcDir := filepath.Join(t.TempDir(), "src")
	src := mustOpen(t, testOptions(srcDir))
	fill(t, src, 230, 40, 7)
	if err := src.TrimHead(40); err != nil {
		t.Fatal(err)
	}
	var imported [][]string
	for _, step := range []logcore.LSN{1000, 13} {
		o := testOptions(filepath.Join(t.TempDir(), "dst"))
		if err := importer.Import(ctx, o, spansOf(t, src, step)); err != nil {
			t.Fatal(err)
		}
		dst := mustOpen(t, o)
		if fmt.Sprint(dst.Segments()) != fmt.Sprint(src.Segments()) {
			t.Fatalf("segments %+v; want %+v", dst.Segments(), src.Segments())
		}
		for _, s := range src.Segments() {
			if s.Sealed && !bytes.Equal(frames(t, dst, s), frames(t, src, s)) {
				t.Fatalf("segment %d differs", s.First)
			}
		}
		fill(t, dst, 300, 40, 7)
		if err := importer.Import(ctx, testOptions(o.Dir), spansOf(t, src, step)); !errors.Is(err, logcore.ErrInUse) {
			t.Fatalf("import into an open log: %v", err)
		}
		if err := dst.Close(); err != nil {
			t.Fatal(err)
		}
		imported = append(imported, footers(t, o.Dir))
		if err := importer.Import(ctx, o, spansOf(t, src, step)); !errors.Is(err, logcore.ErrInvalid) {
			t.Fatalf("import over a log: %v", err)
		}
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	want := footers(t, srcDir)
	for _, got := range imported {
		if len(want) < 3 || len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("footers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// What does not fit, or is damaged, ends the import, and the half is never opened.
func TestImportRefuses(t *testing.T) {
	ctx := context.Background()
	src := mustOpen(t, testOptions(filepath.Join(t.TempDir(), "src")))
	fill(t, src, 100, 40, 7)
	var good []segment.Span
	for s, err := range spansOf(t, src, 1000) {
		if err != nil {
			t.Fatal(err)
		}
		good = append(good, s)
	}
	for name, change := range map[string]func(s []segment.Span) error{
		"gap":   func(s []segment.Span) error { s[1] = s[2]; return logcore.ErrInvalid },
		"twice": func(s []segment.Span) error { s[2] = s[1]; return logcore.ErrInvalid },
		"flip": func(s []segment.Span) error {
			s[1].Frames = bytes.Clone(s[1].Frames)
			s[1].Frames[999] ^= 1
			return logcore.ErrCorrupt
		},
		"shard":  func(s []segment.Span) error { s[0].ID.Shard = 4; return logcore.ErrInvalid },
		"middle": func(s []segment.Span) error { s[0].First++; return logcore.ErrInvalid },
	} {
		spans := append([]segment.Span{}, good...)
		want := change(spans)
		o := testOptions(filepath.Join(t.TempDir(), "dst"))
		err := importer.Import(ctx, o, func(yield func(segment.Span, error) bool) {
			for _, s := range spans {
				if !yield(s, nil) {
					return
				}
			}
		})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", name, err, want)
		}
		if _, _, err := hotlog.Open(ctx, o); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "import") {
			t.Errorf("%s: opened a half import: %v", name, err)
		}
	}
}
