package hotlog

import (
	"context"
	"fmt"
	"testing"

	"github.com/logcore/logcore"
)

func testOptions(dir string) Options {
	return Options{Dir: dir, SegmentBytes: 64 << 10, DiskReserveBytes: 1 << 20}
}

func entry(lsn logcore.LSN, size int) logcore.Entry {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(int(lsn)*7 + i)
	}
	return logcore.Entry{LSN: lsn, Term: 1 + uint64(lsn)/100, Kind: logcore.KindData, Time: logcore.HLC(lsn) << 16, Tx: logcore.TxID{byte(lsn)}, Payload: p}
}

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	lsn := logcore.LSN(0)
	for round := range 4 {
		l, r, err := Open(ctx, testOptions(dir))
		if err != nil {
			t.Fatal(err)
		}
		if l.Last() != lsn {
			t.Fatalf("round %d: last %d want %d (%+v)", round, l.Last(), lsn, r)
		}
		for range 300 {
			lsn++
			e := entry(lsn, 500)
			if l.SealDue() {
				e.Kind = logcore.KindSeal
			}
			if err := l.Append(ctx, []logcore.Entry{e}); err != nil {
				t.Fatal(err)
			}
		}
		for at := logcore.LSN(1); at <= lsn; at++ {
			es, err := l.Entries(at, at+1, 0)
			if err != nil || len(es) != 1 || es[0].LSN != at || string(es[0].Payload) != string(entry(at, 500).Payload) {
				t.Fatalf("entry %d: %v %v", at, es, err)
			}
		}
		fmt.Println(r, l.Segments())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
