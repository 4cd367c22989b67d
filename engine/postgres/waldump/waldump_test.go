package waldump_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/waldump"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// Timestamps are local; the sample's were printed in UTC.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

func TestTheSampleIsDescribedAsPgWaldumpDoes(t *testing.T) {
	dir := t.TempDir()
	if err := walsample.Various.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	dump, err := walsample.VariousDump()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Split(bytes.TrimSuffix(dump, []byte("\n")), []byte("\n"))
	var line []byte
	n, different := 0, 0
	err = wal.ReadDir(context.Background(), wal.DirOptions{Dir: dir}, func(r *wal.Record) bool {
		line = waldump.Append(line[:0], r)
		if n >= len(want) || !bytes.Equal(line, want[n]) {
			if different++; different <= 5 {
				t.Errorf("record %d:\n got %s\nwant %s", n, line, want[min(n, len(want)-1)])
			}
		}
		n++
		return true
	})
	var invalid *wal.InvalidError
	if !errors.As(err, &invalid) || !invalid.NothingWritten() {
		t.Errorf("the log ends with %v, want an InvalidError for zeros", err)
	}
	if n != walsample.Various.Records || n != len(want) {
		t.Errorf("%d records, want %d and as many as pg_waldump's %d", n, walsample.Various.Records, len(want))
	}
}

// A record cut short, whatever its kind, is described with question marks, never with a panic.
func TestShortRecords(t *testing.T) {
	dir := t.TempDir()
	if err := walsample.Various.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	marks := 0
	seen := map[string]int{}
	err := wal.ReadDir(context.Background(), wal.DirOptions{Dir: dir}, func(r *wal.Record) bool {
		if name := r.Manager.String() + waldump.Name(r.Manager, r.Op()); seen[name] < 3 {
			seen[name]++
			data := r.Data
			for n := range data {
				r.Data = data[:n]
				if bytes.Contains(waldump.AppendDescription(nil, r), []byte("?")) {
					marks++
				}
			}
			r.Data = data
			for i := range r.Blocks {
				r.Blocks[i].Data, r.Blocks[i].HasImage = nil, false
			}
			waldump.AppendDescription(nil, r)
		}
		return true
	})
	if !errors.Is(err, os.ErrNotExist) && marks < 100 {
		t.Errorf("%d descriptions of cut records had a question mark, want 100: %v", marks, err)
	}
	if len(seen) < 70 {
		t.Errorf("the sample has %d kinds of records, want 70", len(seen))
	}
}

func TestUnknownOperationsHaveANumber(t *testing.T) {
	got := string(waldump.AppendDescription(nil, &wal.Record{Manager: 200, Info: 0x30}))
	if want := "UNKNOWN (30) rmid: 200"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
