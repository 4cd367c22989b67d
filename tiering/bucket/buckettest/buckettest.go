// Package buckettest is the one conformance suite of bucket.Bucket: what every
// implementation and every wrapper must do.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// callTimeout bounds every call of the suite, so that a hang fails a test.
const callTimeout = time.Minute

// Run runs the suite. open returns a handle on a bucket, each time on the same one or
// on a fresh one, and is called once per subtest; the suite closes it. Keys are
// unique per subtest, so the bucket need not be empty.
func Run(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, fixture)
	}{
		{"RoundTrip", testRoundTrip},
		{"LargeObject", testLargeObject},
		{"PutIfAbsent", testPutIfAbsent},
		{"RacingWriters", testRacingWriters},
		{"RacingEqualWriters", testRacingEqualWriters},
		{"Ranges", testRanges},
		{"Head", testHead},
		{"NotFound", testNotFound},
		{"ListOrder", testListOrder},
		{"ListPages", testListPages},
		{"ListCallsBucket", testListCallsBucket},
		{"Delete", testDelete},
		{"Keys", testKeys},
		{"Context", testContext},
		{"Aliasing", testAliasing},
		{"Concurrent", testConcurrent},
		{"Close", testClose},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := open(t)
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			t.Cleanup(cancel)
			test.run(t, fixture{b, ctx, fmt.Sprintf("%s-%08x/", strings.ToLower(test.name), rand.Uint32())})
		})
	}
}

// fixture is what a subtest works with: a bucket, a deadline and a prefix of its own.
type fixture struct {
	bucket.Bucket
	ctx    context.Context
	prefix string
}

func (f fixture) key(name string) string { return f.prefix + name }

func (f fixture) put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := f.PutIfAbsent(f.ctx, f.key(name), data); err != nil {
		t.Fatalf("PutIfAbsent(%s): %v", name, err)
	}
}

func (f fixture) want(t *testing.T, name string, data []byte) {
	t.Helper()
	got, err := f.Get(f.ctx, f.key(name), 0, -1)
	if err != nil {
		t.Fatalf("Get(%s): %v", name, err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("Get(%s): %d bytes that differ from the %d put", name, len(got), len(data))
	}
}

// Bytes returns n reproducible pseudo-random bytes.
func Bytes(seed uint64, n int) []byte {
	data := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
	rand.NewChaCha8(key).Read(data) // never fails
	return data
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want one that is %v", what, err, want)
	}
}

func testRoundTrip(t *testing.T, f fixture) {
	for _, n := range []int{0, 1, 7, 4096, 100_003} {
		name := fmt.Sprintf("size/%d", n)
		data := Bytes(uint64(n), n)
		f.put(t, name, data)
		f.want(t, name, data)
	}
}

func testLargeObject(t *testing.T, f fixture) {
	data := Bytes(1, 8<<20+3)
	f.put(t, "large", data)
	f.want(t, "large", data)
	f.put(t, "large", data) // compared with what is there
	other := bytes.Clone(data)
	other[len(other)-1] ^= 1
	wantErr(t, "put with one bit changed", f.PutIfAbsent(f.ctx, f.key("large"), other), bucket.ErrExists)
	got, err := f.Get(f.ctx, f.key("large"), 8<<20, 100)
	if err != nil || !bytes.Equal(got, data[8<<20:]) {
		t.Fatalf("Get of the end: %d bytes, %v", len(got), err)
	}
}

func testPutIfAbsent(t *testing.T, f fixture) {
	f.put(t, "k", []byte("first"))
	f.put(t, "k", []byte("first"))
	for _, other := range []string{"", "fir", "fisrt", "first and more"} {
		err := f.PutIfAbsent(f.ctx, f.key("k"), []byte(other))
		wantErr(t, "put of other bytes", err, bucket.ErrExists)
		if !bucket.IsPermanent(err) {
			t.Fatalf("IsPermanent(%v) is false", err)
		}
	}
	f.want(t, "k", []byte("first"))
	f.put(t, "empty", nil)
	wantErr(t, "put over an empty object", f.PutIfAbsent(f.ctx, f.key("empty"), []byte("x")), bucket.ErrExists)
}

// race runs 16 writers at once and returns their errors.
func race(f fixture, key string, data func(i int) []byte) []error {
	errs := make([]error, 16)
	var ready, done sync.WaitGroup
	ready.Add(1)
	for i := range errs {
		done.Go(func() {
			mine := data(i)
			ready.Wait()
			errs[i] = f.PutIfAbsent(f.ctx, key, mine)
		})
	}
	ready.Done()
	done.Wait()
	return errs
}

func testRacingWriters(t *testing.T, f fixture) {
	for round := range 8 {
		name := fmt.Sprintf("race/%d", round)
		content := func(i int) []byte { return Bytes(uint64(i), 20_000) }
		winner := -1
		for i, err := range race(f, f.key(name), content) {
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
		f.want(t, name, content(winner))
	}
}

func testRacingEqualWriters(t *testing.T, f fixture) {
	for round := range 4 {
		name := fmt.Sprintf("race/%d", round)
		data := Bytes(99, 20_000)
		for _, err := range race(f, f.key(name), func(int) []byte { return data }) {
			if err != nil {
				t.Fatalf("writer of equal bytes: %v", err)
			}
		}
		f.want(t, name, data)
	}
}

func testRanges(t *testing.T, f fixture) {
	data := Bytes(5, 1000)
	f.put(t, "r", data)
	for _, r := range []struct{ offset, length, start, end int64 }{
		{0, -1, 0, 1000}, {0, 1000, 0, 1000}, {0, 1, 0, 1}, {999, 1, 999, 1000}, {999, 5, 999, 1000},
		{100, 200, 100, 300}, {100, -1, 100, 1000}, {0, 5000, 0, 1000}, {1000, 1, 0, 0}, {1000, -1, 0, 0},
		{5000, 10, 0, 0}, {5000, -1, 0, 0}, {10, 0, 0, 0}, {0, 0, 0, 0}, {1, 1<<63 - 1, 1, 1000},
	} {
		got, err := f.Get(f.ctx, f.key("r"), r.offset, r.length)
		if err != nil || !bytes.Equal(got, data[r.start:r.end]) {
			t.Errorf("Get(%d, %d): %d bytes, %v; want [%d, %d)", r.offset, r.length, len(got), err, r.start, r.end)
		}
	}
	_, err := f.Get(f.ctx, f.key("r"), -1, 5)
	wantErr(t, "negative offset", err, bucket.ErrInvalid)
	f.put(t, "empty", nil)
	for _, length := range []int64{-1, 0, 10} {
		if got, err := f.Get(f.ctx, f.key("empty"), 0, length); err != nil || len(got) != 0 {
			t.Errorf("Get(0, %d) of an empty object: %d bytes, %v", length, len(got), err)
		}
	}
}

func testHead(t *testing.T, f fixture) {
	before := time.Now().Add(-2 * time.Second) // providers keep whole seconds
	f.put(t, "a/b", []byte("hello"))
	a, err := f.Head(f.ctx, f.key("a/b"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Key != f.key("a/b") || a.Size != 5 || a.Modified.Before(before) || a.Modified.After(time.Now().Add(2*time.Second)) {
		t.Fatalf("Head: %+v", a)
	}
}

func testNotFound(t *testing.T, f fixture) {
	f.put(t, "there/x", []byte("x"))
	for _, name := range []string{"absent", "no/such/dir", "there", "there/x/below"} {
		_, err := f.Get(f.ctx, f.key(name), 0, -1)
		wantErr(t, "Get "+name, err, bucket.ErrNotFound)
		if !bucket.IsPermanent(err) {
			t.Fatalf("IsPermanent(%v) is false", err)
		}
		for _, r := range [][2]int64{{0, 10}, {3, -1}, {0, 0}} {
			_, err = f.Get(f.ctx, f.key(name), r[0], r[1])
			wantErr(t, "Get of a range of "+name, err, bucket.ErrNotFound)
		}
		_, err = f.Head(f.ctx, f.key(name))
		wantErr(t, "Head "+name, err, bucket.ErrNotFound)
	}
}

func testDelete(t *testing.T, f fixture) {
	f.put(t, "d/k", []byte("old"))
	f.put(t, "d/other", []byte("stays"))
	for range 2 {
		if err := f.Delete(f.ctx, f.key("d/k")); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
	for _, absent := range []string{"never", "no/such/dir", "d"} {
		if err := f.Delete(f.ctx, f.key(absent)); err != nil {
			t.Fatalf("Delete of the absent %s: %v", absent, err)
		}
	}
	_, err := f.Get(f.ctx, f.key("d/k"), 0, -1)
	wantErr(t, "Get after Delete", err, bucket.ErrNotFound)
	f.want(t, "d/other", []byte("stays"))
	f.put(t, "d/k", []byte("new"))
	f.want(t, "d/k", []byte("new"))
}

func testKeys(t *testing.T, f fixture) {
	bad := []string{"", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "../a", "a b", "a\x00b", "a~b", "ä", "a\\b",
		strings.Repeat("a", 256), strings.Repeat("a/", 256) + "b"}
	for _, key := range bad {
		wantErr(t, fmt.Sprintf("PutIfAbsent(%q)", key), f.PutIfAbsent(f.ctx, key, []byte("x")), bucket.ErrInvalid)
		_, err := f.Get(f.ctx, key, 0, -1)
		wantErr(t, fmt.Sprintf("Get(%q)", key), err, bucket.ErrInvalid)
		_, err = f.Head(f.ctx, key)
		wantErr(t, fmt.Sprintf("Head(%q)", key), err, bucket.ErrInvalid)
		wantErr(t, fmt.Sprintf("Delete(%q)", key), f.Delete(f.ctx, key), bucket.ErrInvalid)
	}
	longest := f.prefix + strings.Repeat("b", 255) + "/" + strings.Repeat("c", 511-255-len(f.prefix))
	for _, key := range []string{longest, f.key(".hidden"), f.key("..."), f.key("-x"), f.key("A/a.B_c-9")} {
		data := []byte(key)
		if err := f.PutIfAbsent(f.ctx, key, data); err != nil {
			t.Fatalf("PutIfAbsent(%q): %v", key, err)
		}
		if got, err := f.Get(f.ctx, key, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("Get(%q): %q, %v", key, got, err)
		}
	}
}

func testContext(t *testing.T, f fixture) {
	f.put(t, "k", []byte("x"))
	canceled, cancel := context.WithCancel(f.ctx)
	cancel()
	late, cancelLate := context.WithTimeout(f.ctx, -time.Second)
	defer cancelLate()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{canceled, context.Canceled}, {late, context.DeadlineExceeded}} {
		wantErr(t, "PutIfAbsent", f.PutIfAbsent(c.ctx, f.key("new"), []byte("y")), c.want)
		_, err := f.Get(c.ctx, f.key("k"), 0, -1)
		wantErr(t, "Get", err, c.want)
		_, err = f.Head(c.ctx, f.key("k"))
		wantErr(t, "Head", err, c.want)
		wantErr(t, "List", f.List(c.ctx, f.prefix, "", func(bucket.Attributes) bool { return true }), c.want)
		wantErr(t, "Delete", f.Delete(c.ctx, f.key("k")), c.want)
	}
	f.want(t, "k", []byte("x"))
	_, err := f.Head(f.ctx, f.key("new"))
	wantErr(t, "Head of what a canceled put named", err, bucket.ErrNotFound)
}

func testAliasing(t *testing.T, f fixture) {
	data := []byte("original")
	f.put(t, "k", data)
	copy(data, "CHANGED!")
	got, err := f.Get(f.ctx, f.key("k"), 0, -1)
	if err != nil || string(got) != "original" {
		t.Fatalf("after the caller changed its slice: %q, %v", got, err)
	}
	copy(got, "CHANGED!")
	_ = append(got, "and more"...)
	f.want(t, "k", []byte("original"))
}

func testConcurrent(t *testing.T, f fixture) {
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	for worker := range 8 {
		// A store over a file system removes directories that become empty, and a put into
		// one at that moment fails once, to be tried again. This suite has no retries.
		f.put(t, fmt.Sprintf("w%d/keeps-the-directory", worker), nil)
		group.Go(func() {
			for i := range 12 {
				if err := f.cycle(fmt.Sprintf("w%d/%d", worker, i), Bytes(uint64(worker*100+i), 3000)); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	if left, err := f.listAll(f.prefix, ""); err != nil || len(left) != 8 {
		t.Fatalf("left after every worker deleted its own: %v, %v", left, err)
	}
}

// cycle puts, reads, lists and deletes one object.
func (f fixture) cycle(name string, data []byte) error {
	key := f.key(name)
	if err := f.PutIfAbsent(f.ctx, key, data); err != nil {
		return err
	}
	got, err := f.Get(f.ctx, key, 100, 200)
	if err != nil || !bytes.Equal(got, data[100:300]) {
		return fmt.Errorf("get %s: %d bytes, %w", key, len(got), err)
	}
	keys, err := f.listAll(key, "")
	if err != nil || len(keys) == 0 || keys[0] != key {
		return fmt.Errorf("list %s: %v, %w", key, keys, err)
	}
	return f.Delete(f.ctx, key)
}

func testClose(t *testing.T, f fixture) {
	f.put(t, "k", []byte("x"))
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	wantErr(t, "PutIfAbsent", f.PutIfAbsent(f.ctx, f.key("k"), []byte("x")), logcore.ErrClosed)
	_, err := f.Get(f.ctx, f.key("k"), 0, -1)
	wantErr(t, "Get", err, logcore.ErrClosed)
	_, err = f.Head(f.ctx, f.key("k"))
	wantErr(t, "Head", err, logcore.ErrClosed)
	wantErr(t, "List", f.List(f.ctx, "", "", func(bucket.Attributes) bool { return true }), logcore.ErrClosed)
	wantErr(t, "Delete", f.Delete(f.ctx, f.key("k")), logcore.ErrClosed)
	if f.String() == "" {
		t.Fatal("String is empty")
	}
}
