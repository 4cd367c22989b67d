package s3api_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// multiparted is what both S3 clients offer for these tests.
type multiparted interface {
	Multipart() s3api.Multiparter
}

const partBytes = 5 << 20

// uploads returns the uploads in parts under way of keys of this test.
func uploads(t *testing.T, b bucket.Bucket, key string) (found []s3api.Upload) {
	t.Helper()
	all, err := b.(multiparted).Multipart().Uploads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range all {
		if u.Key == key {
			found = append(found, u)
		}
	}
	return found
}

// testParts uploads in parts, also against others and against trouble.
func (f s3Fixture) testParts(t *testing.T) {
	c := f.config(t, f.plain, plainBucket)
	c.MultipartFrom, c.PartBytes = partBytes, partBytes
	proxy := buckettest.StartProxy(t, c.Endpoint)
	c.Endpoint = proxy.Endpoint
	b := f.mustOpen(t, c)
	data := buckettest.Bytes(8, 2*partBytes+12345)

	var parts atomic.Int64
	proxy.Set(buckettest.Spoil{Request: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") != "" {
			parts.Add(1)
		}
		return false
	}})
	if err := b.PutIfAbsent(t.Context(), "parts/one", data); err != nil {
		t.Fatal(err)
	}
	if parts.Load() != 3 {
		t.Fatalf("it went up in %d parts, want 3", parts.Load())
	}
	got, err := b.Get(t.Context(), "parts/one", 0, -1)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := b.PutIfAbsent(t.Context(), "parts/one", data); err != nil {
		t.Errorf("equal bytes once more: %v", err)
	}
	other := bytes.Clone(data)
	other[partBytes+1] ^= 1
	wantErr(t, "other bytes", b.PutIfAbsent(t.Context(), "parts/one", other), bucket.ErrExists)
	if got, err := b.Get(t.Context(), "parts/one", 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("after the refused put: %d bytes, %v", len(got), err)
	}
	if left := uploads(t, b, "parts/one"); len(left) > 0 {
		t.Errorf("uploads that were refused are still there: %v", left)
	}
	f.racingParts(t, b)
	f.failingParts(t, b, proxy, data)
	f.leftParts(t, b)
}

// racingParts has several writers of one key: one wins.
func (f s3Fixture) racingParts(t *testing.T, b bucket.Bucket) {
	errs := make([]error, 4)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			errs[i] = b.PutIfAbsent(t.Context(), "parts/race", buckettest.Bytes(uint64(i), partBytes+100))
			for try := 0; try < 20 && errs[i] != nil && !bucket.IsPermanent(errs[i]); try++ { // another one is in between: what Retry is for
				time.Sleep(20 * time.Millisecond)
				errs[i] = b.PutIfAbsent(t.Context(), "parts/race", buckettest.Bytes(uint64(i), partBytes+100))
			}
		})
	}
	group.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("writers %d and %d both won", winner, i)
		case err == nil:
			winner = i
		default:
			wantErr(t, "a writer that lost", err, bucket.ErrExists)
		}
	}
	if winner < 0 {
		t.Fatal("no writer won")
	}
	got, err := b.Get(t.Context(), "parts/race", 0, -1)
	if err != nil || !bytes.Equal(got, buckettest.Bytes(uint64(winner), partBytes+100)) {
		t.Errorf("not the winner's bytes: %v", err)
	}
}

// failingParts has each request of an upload fail, one at a time: nothing is left, and the
// next try succeeds.
func (f s3Fixture) failingParts(t *testing.T, b bucket.Bucket, proxy *buckettest.Proxy, data []byte) {
	for n, at := range []string{"uploads", "partNumber=2", "partNumber=3", "complete"} {
		key := fmt.Sprintf("parts/failing/%d", n)
		hit := false
		proxy.Set(buckettest.Spoil{Request: func(w http.ResponseWriter, r *http.Request) bool {
			q := r.URL.Query()
			_, begins := q["uploads"]
			is := at == "uploads" && begins && r.Method == http.MethodPost || at == "partNumber="+q.Get("partNumber") || at == "complete" && r.Method == http.MethodPost && q.Get("uploadId") != ""
			if !is {
				return false
			}
			hit = true
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}})
		err := b.PutIfAbsent(t.Context(), key, data)
		proxy.Set(buckettest.Spoil{})
		if err == nil || bucket.IsPermanent(err) || !hit {
			t.Errorf("%s: %v, hit: %v", at, err, hit)
		}
		_, err = b.Head(t.Context(), key)
		wantErr(t, at+": half an upload", err, bucket.ErrNotFound)
		if left := uploads(t, b, key); len(left) > 0 {
			t.Errorf("%s: parts are left: %v", at, left)
		}
		if err := b.PutIfAbsent(t.Context(), key, data); err != nil {
			t.Errorf("%s: the next try: %v", at, err)
		}
	}
	// A part that arrives damaged is refused by its checksum.
	m := b.(multiparted).Multipart()
	id, err := m.Begin(t.Context(), "parts/damaged")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = m.PutPart(t.Context(), "parts/damaged", id, 1, data[:partBytes], s3api.ChecksumHeader(s3api.Checksum(data[:partBytes])^1)); err == nil {
		t.Error("a part with a wrong checksum was taken")
	}
	if err := m.Abort(t.Context(), "parts/damaged", id); err != nil {
		t.Error(err)
	}
}

// leftParts sweeps what a killed program has left, and nothing younger.
func (f s3Fixture) leftParts(t *testing.T, b bucket.Bucket) {
	m := b.(multiparted).Multipart()
	id, err := m.Begin(t.Context(), "parts/left")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := m.Uploads(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v: %v", all, err)
	}
	if n, err := s3api.SweepUploads(t.Context(), m, time.Now()); err != nil || n > 0 || len(uploads(t, b, "parts/left")) != 1 {
		t.Errorf("an upload that has just begun: %d swept, %v", n, err)
	}
	if n, err := s3api.SweepUploads(t.Context(), m, time.Now().Add(2*time.Hour)); err != nil || n != 1 || len(uploads(t, b, "parts/left")) != 0 {
		t.Errorf("an old upload: %d swept, %v", n, err)
	}
	if _, err := m.PutPart(t.Context(), "parts/left", id, 1, []byte("late"), s3api.ChecksumHeader(s3api.Checksum([]byte("late")))); err == nil {
		t.Error("a part of an aborted upload was taken")
	} else if errors.Is(err, bucket.ErrExists) {
		t.Error(err)
	}
}
