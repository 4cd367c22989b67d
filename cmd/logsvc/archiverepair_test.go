package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// rot flips a bit of a file in its place, as a disk does, and returns the file as it is then.
func rot(t *testing.T, path string, at int64) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	_, err = f.WriteAt(b[at:at+1], at)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestArchiveRepairs (F6): a process that is alone finds bits of its sealed segments rotten: while it serves, under its readers,
// and after it was killed, when it starts. It gets the segments from its archive: the file is written anew, the corruption is
// counted, and no reader ever gets anything but what was written.
func TestArchiveRepairs(t *testing.T) {
	root := t.TempDir()
	s := newServer(t)
	s.targets = append(archiveFlags(t, root), "--archive-max-age", "200ms", "--cache-bytes", "1MiB")
	s.start()
	w := write(t, []string{s.addr})
	waitFor(t, w, 1500)
	w.stop()
	<-w.done
	covered(t, []*server{s}, s)
	status := func() (st *logcorev1.StatusResponse) {
		t.Helper()
		err := s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) (err error) {
			st, err = c.Status(ctx, &logcorev1.StatusRequest{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := status(); st.Corruptions != 0 || st.Shards[0].FirstLsn != 1 {
		t.Fatalf("void: %+v", st)
	}
	path := filepath.Join(s.dir, "shard-0", "00000001.seg")
	repaired := func(rotten []byte) {
		t.Helper()
		until(t, "the segment is repaired", func() bool {
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			st := status()
			return !bytes.Equal(now, rotten) && st.Healthy && st.Corruptions > 0
		})
		verifyAcked(t, []string{s.addr}, w.acked)
	}

	// Under its readers. What they get before it is repaired is an error.
	rotten := rot(t, path, 500<<10)
	refused := 0
	until(t, "the whole log can be read", func() bool {
		err := readAll(t, s, w.acked)
		if err == nil {
			return refused > 0
		}
		if refused++; !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("a reader was told %v", err)
		}
		return false
	})
	repaired(rotten)

	// While it is not there: a frame of a sealed segment, its header.
	for _, at := range []int64{300 << 10, 50} {
		s.kill()
		compareSegments(t, []*server{s}, w.acked) // the hot log by itself has every entry
		rotten := rot(t, path, at)
		s.start()
		repaired(rotten)
	}
	s.stop()
	if sealed := compareSegments(t, []*server{s}, w.acked); sealed < 3 {
		t.Fatalf("void: %d sealed segments", sealed)
	}
}

// readAll reads the log and holds every entry that comes against what was acknowledged under its LSN.
func readAll(t *testing.T, s *server, acked map[logcore.LSN]string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Addrs: []string{s.addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for batch, err := range c.Read(ctx, "orders", client.ReadOptions{}) {
		if err != nil {
			return err
		}
		for _, e := range batch.Entries {
			if body, ok := acked[e.LSN]; ok && body != string(e.Payload) {
				t.Fatalf("LSN %d: wrong bytes reached a reader", e.LSN)
			}
		}
	}
	return nil
}
