package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
)

func TestLazyConforms(t *testing.T) {
	n := 0
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		n++
		url := fmt.Sprintf("mem://lazy-%d", n)
		made, err := Init(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		want := Marker{clusterA, made.Name}
		if err := WriteMarker(t.Context(), made.Bucket, want); err != nil {
			t.Fatal(err)
		}
		lazy, err := OpenLazy(url, want)
		if err != nil {
			t.Fatal(err)
		}
		if lazy.Bucket.String() != made.Bucket.String() {
			t.Errorf("called %v before it is open, %v then", lazy.Bucket, made.Bucket)
		}
		return lazy.Bucket
	})
}

// A directory is missing at the start, comes, goes, and is replaced by others.
func TestLazyDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		root := t.TempDir() + "/a1"
		url, want := "dir://"+root, Marker{clusterA, "a1"}
		lazy, err := OpenLazy(url, want)
		if err != nil {
			t.Fatal(err)
		}
		b := lazy.Bucket
		put := func(key string) error {
			time.Sleep(retryOpenAfter)
			return b.PutIfAbsent(ctx, key, []byte("v"))
		}
		wantErr(t, "missing", put("k"), bucket.ErrGone, root, "target a1")
		claim := func(m Marker) {
			t.Helper()
			made, err := Init(ctx, url)
			if err == nil {
				err = WriteMarker(ctx, made.Bucket, m)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		claim(want)
		if err := b.PutIfAbsent(ctx, "k", nil); !errors.Is(err, bucket.ErrGone) {
			t.Errorf("right after a failure it isn't left alone: %v", err)
		}
		if err := put("k"); err != nil {
			t.Fatalf("once it is there: %v", err)
		}
		if err := os.Rename(root, root+".away"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "gone", put("k"), bucket.ErrGone)
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "an empty directory in its place", put("k"), bucket.ErrGone, "marker")
		if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
			t.Errorf("written into the wrong directory: %v, %v", entries, err)
		}
		claim(Marker{clusterB, "a1"})
		wantErr(t, "another cluster's in its place", put("k"), bucket.ErrGone, clusterB.String())
		if err := errors.Join(os.RemoveAll(root), os.Rename(root+".away", root)); err != nil {
			t.Fatal(err)
		}
		if err := put("l"); err != nil {
			t.Errorf("once it is back: %v", err)
		}
		if got, err := b.Get(ctx, "k", 0, -1); err != nil || string(got) != "v" {
			t.Errorf("what it held: %q, %v", got, err)
		}
		// Removed and claimed again under the same name it is the cluster's, empty.
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		claim(want)
		if err := put("k"); err != nil && !errors.Is(err, bucket.ErrGone) {
			t.Error(err)
		}
		if err := put("k"); err != nil {
			t.Errorf("once it was claimed again: %v", err)
		}
	})
}

func TestLazyCloudComesBack(t *testing.T) {
	clouds := s3test.StartTest(t, s3test.Options{Clouds: []string{"a"}, Buckets: []string{"one"}})
	for _, scheme := range []string{"s3", "minio"} {
		url, want := clouds.URL(scheme, "a", "one", "a1"), Marker{clusterA, "a1"}
		made, err := Init(t.Context(), url)
		if err == nil {
			err = WriteMarker(t.Context(), made.Bucket, want)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := clouds.Cloud("a").Kill(); err != nil {
			t.Fatal(err)
		}
		lazy, err := OpenLazy(url, want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lazy.Bucket.Head(t.Context(), "k"); err == nil || bucket.IsPermanent(err) {
			t.Errorf("down: %v, want an error to try again", err)
		}
		if err := clouds.Cloud("a").Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if err = lazy.Bucket.PutIfAbsent(t.Context(), "k", nil); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			t.Errorf("back: %v", err)
		}
		lazy.Bucket.Close()
	}
}

func TestLazyRefuses(t *testing.T) {
	for url, m := range map[string]Marker{"ftp://x": {clusterA, "x"}, "mem://x": {clusterA, "y"}, "mem://z": {Name: "z"}} {
		_, err := OpenLazy(url, m)
		wantErr(t, url, err, bucket.ErrInvalid)
	}
}
