package receiver

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// whole returns the consistency sample up to the end of its last record.
func whole(t testing.TB) []byte {
	t.Helper()
	return wholeOf(t, walsample.Consistency)
}

func wholeOf(t testing.TB, s walsample.Sample) []byte {
	t.Helper()
	log, err := s.Log()
	if err != nil {
		t.Fatal(err)
	}
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	d.Feed(log)
	var r wal.Record
	end := wal.Position(walsample.Start)
	for d.Next(&r) == nil {
		end = r.End
	}
	return log[:end-walsample.Start]
}

func newTestBatch(t testing.TB, partBytes, bytesMax int) *batch {
	t.Helper()
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	return &batch{header: payload.Payload{Kind: payload.KindWAL, SystemID: 1, Timeline: 1, SegmentBytes: walsample.SegmentBytes},
		decoder: d, start: walsample.Start, fed: walsample.Start, partBytesMax: partBytes, bytesMax: bytesMax}
}

func TestBatchesTileTheLog(t *testing.T) {
	log := whole(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const partBytes = 40_000
	b := newTestBatch(t, partBytes, 64<<20)
	check, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for rest := log; len(rest) > 0; {
		n := min(1+rng.IntN(100_000), len(rest))
		if err := b.add(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
		parts, end := b.take()
		for _, raw := range parts {
			p, err := payload.Decode(raw)
			if err != nil || len(raw) > partBytes || p.Start != walsample.Start+wal.Position(len(got)) {
				t.Fatalf("part of %d bytes from %v after %d bytes: %v", len(raw), p.Start, len(got), err)
			}
			got = append(got, p.Content...)
			check.Feed(p.Content)
		}
		var r wal.Record
		for err = check.Next(&r); err == nil; err = check.Next(&r) {
		}
		if parts != nil && (!errors.Is(err, wal.ErrMore) || check.Boundary() != end) {
			t.Fatalf("a batch ends at %v, the last record before it at %v: %v", end, check.Boundary(), err)
		}
	}
	if !bytes.Equal(got, log) {
		t.Errorf("%d bytes came out, %d went in", len(got), len(log))
	}
}

// A record that was damaged on its way never gets into the log.
func TestADamagedRecordIsRefused(t *testing.T) {
	log := whole(t)
	at := wal.Position(0)
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	d.Feed(log)
	var r wal.Record
	for at < wal.Position(len(log))/2 {
		if err := d.Next(&r); err != nil {
			t.Fatal(err)
		}
		at = r.Start - walsample.Start
	}
	log[at+20] ^= 0x10 // its checksum
	b := newTestBatch(t, 1<<20, 64<<20)
	reached := wal.Position(0)
	for i := 0; i < len(log) && err == nil; i += 1000 {
		if err = b.add(log[i:min(i+1000, len(log))]); err != nil {
			break
		}
		if _, end := b.take(); end > 0 {
			reached = end
		}
	}
	if !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
	if reached > walsample.Start+at || reached < walsample.Start+at/2 {
		t.Errorf("batches reached %v, the damage is at %v", reached, wal.Position(walsample.Start+at))
	}
}

func TestARecordLongerThanTheLimitIsRefused(t *testing.T) {
	b := newTestBatch(t, 1<<20, 1000)
	if err := b.add(whole(t)[:5000]); !errors.Is(err, logcore.ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
}

func TestListed(t *testing.T) {
	for names, want := range map[string]bool{"": false, "logcore": true, "*": true, "other": false, "LogCore": true, `FIRST 1 (a, "logcore")`: true,
		"ANY 2 (a, b, logcore)": true, "logcore2, alogcore": false} {
		if got := listed(names, "logcore"); got != want {
			t.Errorf("%q: %t, want %t", names, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint32{"16MB": 16 << 20, "1MB": 1 << 20, "1GB": 1 << 30, "64kB": 0, "2GB": 0, "16": 0, "": 0, "99999999MB": 0} {
		if got, err := parseSize(s); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}

// BenchmarkIngest checks WAL and cuts it into payloads, as it comes from a server: 128 KiB at a time.
func BenchmarkIngest(b *testing.B) {
	log := whole(b)
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		t := newTestBatch(b, 1<<20, 64<<20)
		for i := 0; i < len(log); i += 128 << 10 {
			if err := t.add(log[i:min(i+128<<10, len(log))]); err != nil {
				b.Fatal(err)
			}
			t.take()
		}
	}
}
