package page_test

import (
	"compress/gzip"
	"io"
	"os"
	"testing"

	"github.com/logcore/logcore/engine/postgres/page"
)

// A page that PostgreSQL 15.18 wrote with its checksum: page 3 of pg_type after initdb --data-checksums.
func TestChecksum(t *testing.T) {
	f, err := os.Open("testdata/pg_type-page3.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	p := page.Page(b)
	want := p.Checksum()
	if got := p.ComputeChecksum(3); got != want || want == 0 {
		t.Errorf("checksum %04X, the server's is %04X", got, want)
	}
	if p.ComputeChecksum(4) == want {
		t.Error("the page's number does not count")
	}
	p.SetChecksum(1)
	if p.ComputeChecksum(3) != want {
		t.Error("the checksum counts itself")
	}
	p[page.Bytes-1] ^= 1
	if p.ComputeChecksum(3) == want {
		t.Error("a changed bit does not count")
	}
}

func BenchmarkChecksum(b *testing.B) {
	p := make(page.Page, page.Bytes)
	b.SetBytes(page.Bytes)
	for b.Loop() {
		p.ComputeChecksum(1)
	}
}
