package tiering

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/minio"
	"github.com/logcore/logcore/tiering/bucket/s3"
	"github.com/logcore/logcore/tiering/bucket/s3api"
	"github.com/logcore/logcore/tiering/target"
)

// Care of an archive on three real S3 servers with Object Lock: sealed fragments are locked
// and can't be deleted by who has the credentials; a target is evacuated and removed,
// everything re-coded and scrubbed; what is locked stays, and holds nothing up.
func TestCareOnGateways(t *testing.T) {
	t.Parallel()
	servers := s3test.StartTest(t, s3test.Options{Clouds: []string{"a", "b", "c"}, LockedBuckets: []string{"one", "two", "three"}, PlainHTTP: true, Logger: quiet()})
	credentials, err := s3api.FindCredentials(servers.CredentialsFile())
	if err != nil {
		t.Fatal(err)
	}
	watch := &lockWatch{}
	open := func(cloud, name, targetName string, withMinio bool) Target {
		config := s3api.Config{Bucket: name, Region: "us-east-1", Endpoint: servers.Cloud(cloud).Endpoint(), Credentials: credentials}
		var b bucket.Bucket
		var err error
		if withMinio {
			b, err = minio.Open(config)
		} else {
			b, err = s3.Open(config)
		}
		if err == nil {
			b, err = bucket.Harden(b, bucket.HardenOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return Target{Name: targetName, Provider: cloud, Region: "r", Bucket: watch.over(b), Prices: Prices{Storage: 0.02, Egress: 0.01}}
	}
	var targets []Target
	for i, cloud := range []string{"a", "b", "c"} {
		targets = append(targets, open(cloud, "one", cloud+"1", i%2 == 0), open(cloud, "two", cloud+"2", i%2 == 1))
	}
	w := newWorld(t, 141)
	w.change = func(o *Options) {
		o.Targets, o.Grace, o.MaxAge = targets, time.Millisecond, 50*time.Millisecond
		o.ProbeLock = func(ctx context.Context, b bucket.Bucket) (bool, error) {
			found, err := target.ProbeRetention(ctx, b)
			return found.Has(target.CapRetention), err
		}
	}
	r := w.start(nil)
	w.busy(r)
	if err := r.SetHold(t.Context(), 0, "case 17"); err != nil {
		t.Fatal(err)
	}
	r.until("locked everywhere", func() bool {
		poke(r.scrubWake)
		return r.Status().LastError == "" && r.Status().Degraded == 0 && watch.all(sealedKeys(r))
	})
	triedToDelete(t, r)
	extra := open("c", "three", "c3", true)
	if err := r.AddTarget(t.Context(), extra); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveTarget(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetCode(t.Context(), 3, 2); err != nil {
		t.Fatal(err)
	}
	r.until("re-coded", func() bool { time.Sleep(20 * time.Millisecond); return r.Recoding() == 0 && r.Status().Degraded == 0 })
	report, err := r.Scrub(t.Context(), ScrubOptions{})
	if err != nil || report.Damaged != 0 || report.Unread != 0 || report.Money <= 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	left := append(without(targets, 4), extra)
	w.readable(left)
	w.readable(without(left, 1, 3))
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	verified, err := Verify(t.Context(), left, w.keys, nil)
	if err != nil || !verified.OK() {
		t.Fatalf("%v, %v", verified.Problems, err)
	}
}

// sealedKeys are the keys of the fragments of sealed objects.
func sealedKeys(r *running) (keys []string) {
	for _, o := range r.state.Load().live {
		for i, f := range o.fragments {
			if o.kind() == KindSealed && f.target != "" {
				keys = append(keys, o.name().key(testCluster, 0, i))
			}
		}
	}
	return keys
}

// triedToDelete tries to delete every fragment of a sealed object, with the credentials
// that the archiver has: all of it is refused.
func triedToDelete(t *testing.T, r *running) {
	t.Helper()
	tried := 0
	for _, o := range r.state.Load().live {
		for i, f := range o.fragments {
			if o.kind() != KindSealed || f.target == "" {
				continue
			}
			tried++
			if err := remoteNamed(r.all(), f.target).Bucket.Delete(t.Context(), o.name().key(testCluster, 0, i)); !errors.Is(err, bucket.ErrRetention) {
				t.Fatalf("fragment %d of %s on %s could be deleted: %v", i, o.describe(), f.target, err)
			}
		}
	}
	if tried < 18 {
		t.Fatalf("only %d fragments are of sealed objects", tried)
	}
}

// lockWatch notes which objects were locked since they were last put: trying it out would
// take those away that are not.
type lockWatch struct {
	mu     sync.Mutex
	locked map[string]bool // guarded by mu: by key, which names the fragment's index too
}

func (w *lockWatch) over(b bucket.Bucket) bucket.Bucket { return watchedLocks{b, w} }

func (w *lockWatch) note(key string, locked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.locked == nil {
		w.locked = map[string]bool{}
	}
	w.locked[key] = locked
}

// all reports whether all keys are locked, three sealed objects' at least.
func (w *lockWatch) all(keys []string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(keys) >= 18 && !slices.ContainsFunc(keys, func(key string) bool { return !w.locked[key] })
}

// watchedLocks is a bucket with Object Lock whose locks are noted.
type watchedLocks struct {
	bucket.Bucket
	watch *lockWatch
}

func (b watchedLocks) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	err := b.Bucket.PutIfAbsent(ctx, key, data)
	if !errors.Is(err, bucket.ErrExists) {
		b.watch.note(key, false)
	}
	return err
}

func (b watchedLocks) Retain(ctx context.Context, key string, until time.Time) error {
	err := b.Bucket.(bucket.Retainer).Retain(ctx, key, until)
	if err == nil {
		b.watch.note(key, true)
	}
	return err
}
