package tiering

import (
	"context"
	"errors"
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
		return Target{Name: targetName, Provider: cloud, Region: "r", Bucket: b, Prices: Prices{Storage: 0.02, Egress: 0.01}}
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
	r.until("locked", func() bool {
		poke(r.scrubWake)
		time.Sleep(20 * time.Millisecond)
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.locked) >= 3
	})
	r.until("locked everywhere", func() bool { poke(r.scrubWake); return lockedEverywhere(t, r) })
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

// lockedEverywhere reports whether no fragment of a sealed object can be deleted. One that
// could be is gone after that, and is placed anew.
func lockedEverywhere(t *testing.T, r *running) bool {
	t.Helper()
	if len(r.Status().LastError) > 0 || r.Status().Degraded > 0 {
		return false
	}
	locked := 0
	for _, o := range r.state.Load().live {
		for i, f := range o.fragments {
			remote := remoteNamed(r.all(), f.target)
			if o.kind() != KindSealed || remote == nil {
				continue
			}
			err := remote.Bucket.Delete(t.Context(), o.name().key(testCluster, 0, i))
			if !errors.Is(err, bucket.ErrRetention) {
				return false
			}
			locked++
		}
	}
	return locked >= 18
}
