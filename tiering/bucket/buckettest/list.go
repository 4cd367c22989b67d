package buckettest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/logcore/logcore/tiering/bucket"
)

// listAll returns the keys of one List, and fails when they don't ascend.
func (f fixture) listAll(prefix, startAfter string) ([]string, error) {
	var keys []string
	err := f.List(f.ctx, prefix, startAfter, func(a bucket.Attributes) bool {
		keys = append(keys, a.Key)
		return true
	})
	if err == nil && !slices.IsSorted(keys) {
		err = fmt.Errorf("keys don't ascend: %v", keys)
	}
	return keys, err
}

// The names are chosen so that the order of directories differs from that of keys:
// '-' and '.' sort before '/', '0' after.
var listNames = []string{"a-b", "a.b", "a/0", "a/b-c", "a/b.c/d", "a/b/c", "a/b0", "a0", "ab/c", "b", "c/d/e/f", "c/d/e0", "c/d0/e", "d"}

func testListOrder(t *testing.T, f fixture) {
	shuffled := slices.Clone(listNames)
	slices.SortFunc(shuffled, func(x, y string) int { return strings.Compare(x[1:], y[1:]) })
	for _, name := range shuffled {
		f.put(t, name, []byte(name))
	}
	sorted := slices.Sorted(slices.Values(listNames))
	prefixes := []string{"", "a", "a-", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/d", "c/d", "c/d/e", "e", "z/"}
	for _, prefix := range prefixes {
		for _, after := range append([]string{"", "a", "a/", "a/b", "a/b/", "a/zz", "c/d/", "c/d/zz", "zz"}, sorted...) {
			f.checkList(t, sorted, prefix, after)
		}
	}
	f.checkEarlyStop(t, sorted)
	var sizes int64
	if err := f.List(f.ctx, f.prefix, "", func(a bucket.Attributes) bool { sizes += a.Size; return !a.Modified.IsZero() }); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(strings.Join(listNames, ""))); sizes != want {
		t.Fatalf("sizes listed add up to %d, want %d", sizes, want)
	}
}

func (f fixture) checkList(t *testing.T, sorted []string, prefix, after string) {
	t.Helper()
	var want []string
	for _, name := range sorted {
		if strings.HasPrefix(name, prefix) && name > after {
			want = append(want, f.key(name))
		}
	}
	startAfter := ""
	if after != "" {
		startAfter = f.key(after)
	}
	got, err := f.listAll(f.key(prefix), startAfter)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("List(%q, after %q): %v, %v; want %v", prefix, after, got, err, want)
	}
}

func (f fixture) checkEarlyStop(t *testing.T, sorted []string) {
	t.Helper()
	for stop := 1; stop <= len(sorted); stop++ {
		calls := 0
		err := f.List(f.ctx, f.prefix, "", func(bucket.Attributes) bool { calls++; return calls < stop })
		if err != nil || calls != stop {
			t.Fatalf("List that stops at %d: %d calls, %v", stop, calls, err)
		}
	}
}

// testListPages lists more keys than a provider returns in one answer.
func testListPages(t *testing.T, f fixture) {
	const keys, workers = 1040, 16
	var group sync.WaitGroup
	errs := make([]error, workers)
	for worker := range workers {
		group.Go(func() {
			for i := worker; i < keys && errs[worker] == nil; i += workers {
				errs[worker] = f.PutIfAbsent(f.ctx, f.key(fmt.Sprintf("%05d", i)), nil)
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []int{-1, 0, 38, 39, 40, 1000, keys - 1} {
		startAfter := ""
		if after >= 0 {
			startAfter = f.key(fmt.Sprintf("%05d", after))
		}
		got, err := f.listAll(f.prefix, startAfter)
		if err != nil || len(got) != keys-1-after {
			t.Fatalf("List after %d: %d keys, %v", after, len(got), err)
		}
		if len(got) > 0 && (got[0] != f.key(fmt.Sprintf("%05d", after+1)) || got[len(got)-1] != f.key(fmt.Sprintf("%05d", keys-1))) {
			t.Fatalf("List after %d: from %s to %s", after, got[0], got[len(got)-1])
		}
	}
	f.checkListCanceled(t)
}

// checkListCanceled: a listing that is canceled in the middle must not look complete.
func (f fixture) checkListCanceled(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	seen := 0
	err := f.List(ctx, f.prefix, "", func(bucket.Attributes) bool {
		cancel()
		seen++
		return true
	})
	wantErr(t, fmt.Sprintf("List canceled at its first key, after %d keys", seen), err, context.Canceled)
}

// testListCallsBucket calls the bucket from inside List, as a collector does.
func testListCallsBucket(t *testing.T, f fixture) {
	for i := range 20 {
		f.put(t, fmt.Sprintf("%02d", i), nil)
	}
	seen := 0
	err := f.List(f.ctx, f.prefix, "", func(a bucket.Attributes) bool {
		seen++
		if err := f.Delete(f.ctx, a.Key); err != nil {
			t.Errorf("Delete(%s): %v", a.Key, err)
		}
		return true
	})
	if err != nil || seen != 20 {
		t.Fatalf("%d keys seen, %v", seen, err)
	}
	if left, err := f.listAll(f.prefix, ""); err != nil || len(left) != 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
}
