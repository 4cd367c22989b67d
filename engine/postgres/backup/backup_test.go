package backup_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/backup"
	"github.com/logcore/logcore/engine/postgres/pagestest"
)

// collect is a sink that writes down what it gets.
type collect struct {
	entries []string
	content bytes.Buffer
	open    bool
}

func (c *collect) Begin(e backup.Entry) error {
	if c.open {
		return errors.New("begun twice")
	}
	c.open = true
	c.content.Reset()
	c.entries = append(c.entries, fmt.Sprintf("%s %v %d", e.Path, e.Directory, e.Bytes))
	return nil
}

func (c *collect) Data(b []byte) error {
	if len(b) == 0 || !c.open {
		return errors.New("data without a file")
	}
	c.content.Write(b)
	return nil
}

func (c *collect) End() error {
	if !c.open {
		return errors.New("ended twice")
	}
	c.open = false
	c.entries = append(c.entries, fmt.Sprintf("%x", c.content.Bytes()))
	return nil
}

// An archive in pieces of any length, with the reader made anew from its state between them, holds what archive/tar reads.
func TestPiecesAndStates(t *testing.T) {
	archive := pagestest.Archive(pagestest.Files(), pagestest.Control(1, 0x2000028))
	var want []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := h.Name
		if h.Typeflag == tar.TypeDir {
			path = path[:len(path)-1]
		}
		want = append(want, fmt.Sprintf("pg_tblspc/77/%s %v %d", path, h.Typeflag == tar.TypeDir, len(b)), fmt.Sprintf("%x", b))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		var got collect
		r, err := backup.NewReader("77.tar")
		if err != nil {
			t.Fatal(err)
		}
		most := 1 + rng.IntN(20000)
		for b := archive; len(b) > 0; {
			n := min(len(b), 1+rng.IntN(most))
			if err := r.Feed(b[:n], &got); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
			state := append(r.AppendState(nil), "more"...)
			var rest []byte
			if r, rest, err = backup.NewReaderAt(state); err != nil || string(rest) != "more" {
				t.Fatalf("%v, %q left", err, rest)
			}
		}
		if !r.Complete() || got.open {
			t.Error("the archive did not end")
		}
		if fmt.Sprint(got.entries) != fmt.Sprint(want) {
			t.Fatalf("%d lines, want %d", len(got.entries), len(want))
		}
	}
}

func TestBadArchives(t *testing.T) {
	archive := pagestest.Archive(nil, pagestest.Control(1, 0x2000028))
	for name, change := range map[string]func([]byte){
		"checksum": func(b []byte) { b[0] ^= 1 },
		"size":     func(b []byte) { copy(b[124:], "9999"); sum(b) },
		"outside":  func(b []byte) { copy(b, "../../etc/passwd\x00"); sum(b) },
		"absolute": func(b []byte) { copy(b, "/etc/passwd\x00"); sum(b) },
		"extended": func(b []byte) { b[156] = 'x'; sum(b) },
	} {
		b := bytes.Clone(archive)
		change(b)
		r, err := backup.NewReader("base.tar")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Feed(b, &collect{}); !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", ".tar", "x.tar", "../1.tar", "1"} {
		if _, err := backup.NewReader(name); (err == nil) != (name == "1") {
			t.Errorf("archive %q: %v", name, err)
		}
	}
}

// sum writes the checksum of the first header.
func sum(b []byte) {
	copy(b[148:156], "        ")
	n := 0
	for _, c := range b[:512] {
		n += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", n))
}

func FuzzReader(f *testing.F) {
	f.Add(pagestest.Archive(nil, pagestest.Control(1, 0x2000028)), []byte{8}, 100)
	f.Fuzz(func(t *testing.T, archive, state []byte, cut int) {
		r, err := backup.NewReader("base.tar")
		if err != nil {
			t.Fatal(err)
		}
		cut = min(max(cut, 0), len(archive))
		var c collect
		if err := r.Feed(archive[:cut], &c); err == nil {
			_ = r.Feed(archive[cut:], &c)
		}
		if r, _, err := backup.NewReaderAt(state); err == nil {
			_ = r.Feed(archive, &collect{open: true})
		}
	})
}
