package checkpoint

import (
	"bytes"
	"testing"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// TestOnS3: stores go to real S3 servers over TLS and begin from there, blocks by range,
// through either client; nobody overwrites a manifest there, and loans are kept.
func TestOnS3(t *testing.T) {
	servers := s3test.StartTest(t, s3test.Options{Clouds: []string{"a"}, Buckets: []string{"one", "two"}, Logger: quiet()})
	for scheme, name := range map[string]string{"s3": "one", "minio": "two"} {
		t.Run(scheme, func(t *testing.T) {
			found, err := target.Open(t.Context(), servers.URL(scheme, "a", name, "home"))
			if err != nil {
				t.Fatal(err)
			}
			defer found.Bucket.Close()
			testBegins(t, found.Bucket)
			testRanges(t, found.Bucket)
			testLoanOf(t, found.Bucket)
		})
	}
}

// testRanges fetches a block in the middle of a table by its range.
func testRanges(t *testing.T, b bucket.Bucket) {
	r := repository(t, b)
	m, err := r.Newest(t.Context())
	if err != nil || len(m.Tables) == 0 {
		t.Fatalf("%v, %v", m, err)
	}
	for _, table := range m.Tables {
		whole, err := b.Get(t.Context(), r.tableKey(table), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range table.blocks() {
			off, n := table.stored(i)
			part, err := b.Get(t.Context(), r.tableKey(table), off, n)
			if err != nil || !bytes.Equal(part, whole[off:off+n]) {
				t.Fatalf("block %d of %s: %d bytes, %v", i, table.Name, len(part), err)
			}
		}
	}
}

// testLoanOf lends a checkpoint in a bucket: the holder goes on beside the borrower.
func testLoanOf(t *testing.T, b bucket.Bucket) {
	f, err := NewFamily(Options{Bucket: b, Cluster: [16]byte{1, 2, 3}, Name: "main", Keys: testKeys{7}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	borrower, err := f.Member(9, 1)
	if err != nil {
		t.Fatal(err)
	}
	lender := repository(t, b)
	h := take(t, lender)
	offers, err := f.Offers(t.Context(), wantedTested)
	if err != nil || len(offers) != 1 || offers[0].Store != "main" {
		t.Fatalf("offers %+v, %v", offers, err)
	}
	m, err := borrower.FindOrBorrow(t.Context(), wantedTested)
	if err != nil || m.Name != "main" || len(m.Tables) == 0 {
		t.Fatalf("borrowed %v, %v", m, err)
	}
	if err := h.confirm(t.Context()); err != nil || len(h.last.Loans) != 1 {
		t.Fatalf("the holder of the epoch after it has lent: %+v, %v", h.last.Loans, err)
	}
	if err := borrower.GiveBack(t.Context(), "main", m.Number); err != nil {
		t.Fatal(err)
	}
	if err := h.confirm(t.Context()); err != nil || len(h.last.Loans) != 0 {
		t.Fatalf("after it was given back: %+v, %v", h.last.Loans, err)
	}
}
