package s3api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
	"github.com/logcore/logcore/tiering/bucket/minio"
	"github.com/logcore/logcore/tiering/bucket/s3"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// openFunc opens a bucket with the client under test.
type openFunc func(s3api.Config) (bucket.Bucket, error)

// Both clients do the same, against real gateways: the conformance suite over TLS and
// over plain http, and the ways in which a provider fails. They are tested here, beside
// what they share, because a client imports no other and no server.
func TestS3Client(t *testing.T) {
	t.Parallel()
	runClient(t, func(c s3api.Config) (bucket.Bucket, error) { return s3.Open(c) })
}

func TestMinioClient(t *testing.T) {
	t.Parallel()
	runClient(t, func(c s3api.Config) (bucket.Bucket, error) { return minio.Open(c) })
}

// callTimeout bounds what a test waits for a gateway.
const callTimeout = time.Minute

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want one that is %v", what, err, want)
	}
}

// checksummer is what both S3 clients offer beside bucket.Bucket.
type checksummer interface {
	PutChecksum(ctx context.Context, key string, data []byte, sum uint32) error
}

// The buckets of every gateway of the suite.
const (
	plainBucket  = "plain"
	lockedBucket = "locked"
)

func runClient(t *testing.T, open openFunc) {
	buckets := s3test.Options{Clouds: []string{"a"}, Buckets: []string{plainBucket}, LockedBuckets: []string{lockedBucket}}
	secure := s3test.StartTest(t, buckets)
	buckets.PlainHTTP = true
	plain := s3test.StartTest(t, buckets)
	f := s3Fixture{open: open, secure: secure, plain: plain}
	inParts := f.config(t, secure, plainBucket)
	inParts.MultipartFrom, inParts.PartBytes = partBytes, partBytes
	for name, c := range map[string]s3api.Config{
		"TLS": f.config(t, secure, plainBucket), "PlainHTTP": f.config(t, plain, plainBucket), "ObjectLock": f.config(t, secure, lockedBucket), "InParts": inParts,
	} {
		t.Run("Conformance"+name, func(t *testing.T) {
			buckettest.Run(t, func(t *testing.T) bucket.Bucket { return f.mustOpen(t, c) })
		})
	}
	t.Run("ConformanceHardened", func(t *testing.T) {
		buckettest.Run(t, func(t *testing.T) bucket.Bucket {
			b, err := bucket.Harden(f.mustOpen(t, inParts), bucket.HardenOptions{Target: "t", Metrics: bucket.NewMetrics(nil), Rate: bucket.RateOptions{RequestsPerSecond: 1e5, BytesPerSecond: 1e10}})
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
	})
	t.Run("Parts", f.testParts)
	t.Run("Denied", f.testDenied)
	t.Run("Untrusted", f.testUntrusted)
	t.Run("NoBucket", f.testNoBucket)
	t.Run("BadConfig", f.testBadConfig)
	t.Run("WrongChecksum", f.testWrongChecksum)
	t.Run("Retention", f.testRetention)
	t.Run("Answers", f.testAnswers)
	t.Run("RottenAnswer", f.testRottenAnswer)
	t.Run("ShortAnswer", f.testShortAnswer)
	t.Run("RangeIgnored", f.testRangeIgnored)
	t.Run("Hang", f.testHang)
	t.Run("Killed", f.testKilled) // last: it takes the gateway away
}

type s3Fixture struct {
	open          openFunc
	secure, plain *s3test.Servers
}

func (f s3Fixture) config(t *testing.T, s *s3test.Servers, name string) s3api.Config {
	t.Helper()
	credentials, err := s3api.FindCredentials(s.CredentialsFile())
	if err != nil {
		t.Fatal(err)
	}
	c := s3api.Config{Bucket: name, Region: "us-east-1", Endpoint: s.Cloud("a").Endpoint(), Credentials: credentials}
	if s == f.secure {
		c.CAFile = s.CAFile()
	}
	return c
}

func (f s3Fixture) mustOpen(t *testing.T, c s3api.Config) bucket.Bucket {
	t.Helper()
	b, err := f.open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// everyCall returns the error of each method under its name.
func everyCall(ctx context.Context, b bucket.Bucket) map[string]error {
	_, get := b.Get(ctx, "some/key", 0, -1)
	_, ranged := b.Get(ctx, "some/key", 5, 10)
	_, head := b.Head(ctx, "some/key")
	return map[string]error{
		"PutIfAbsent": b.PutIfAbsent(ctx, "some/key", []byte("x")), "Get": get, "Get of a range": ranged, "Head": head,
		"List": b.List(ctx, "", "", func(bucket.Attributes) bool { return true }), "Delete": b.Delete(ctx, "some/key"),
	}
}

func wantMessage(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the message doesn't say %q: %v", what, part, err)
		}
	}
}

func (f s3Fixture) testDenied(t *testing.T) {
	good := f.config(t, f.secure, plainBucket)
	secret, key := good, good
	secret.Credentials.SecretKey, secret.Credentials.Source = "wrong-secret", "LOGCORE_S3_ACCESS_KEY and LOGCORE_S3_SECRET_KEY"
	key.Credentials.AccessKey, key.Credentials.Source = "nobody", "file /etc/logcore/credentials"
	for name, c := range map[string]s3api.Config{"wrong secret": secret, "unknown key": key} {
		for call, err := range everyCall(t.Context(), f.mustOpen(t, c)) {
			what := name + ": " + call
			wantErr(t, what, err, bucket.ErrDenied)
			wantMessage(t, what, err, "check "+c.Credentials.Source, c.Endpoint)
			if strings.Contains(err.Error(), c.Credentials.SecretKey) {
				t.Errorf("%s: the message gives the secret away: %v", what, err)
			}
			if !bucket.IsPermanent(err) {
				t.Errorf("%s: IsPermanent is false: %v", what, err)
			}
		}
	}
}

func (f s3Fixture) testUntrusted(t *testing.T) {
	other, err := s3test.MakeCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wrong, none := f.config(t, f.secure, plainBucket), f.config(t, f.secure, plainBucket)
	wrong.CAFile, none.CAFile = other, ""
	for call, err := range everyCall(t.Context(), f.mustOpen(t, wrong)) {
		wantErr(t, call, err, bucket.ErrUntrusted)
		wantMessage(t, call, err, other, "ca=")
		if !bucket.IsPermanent(err) {
			t.Errorf("%s: IsPermanent is false: %v", call, err)
		}
	}
	for call, err := range everyCall(t.Context(), f.mustOpen(t, none)) {
		wantErr(t, call, err, bucket.ErrUntrusted)
		wantMessage(t, call, err, "&ca=FILE")
	}
}

func (f s3Fixture) testNoBucket(t *testing.T) {
	for call, err := range everyCall(t.Context(), f.mustOpen(t, f.config(t, f.secure, "no-such-bucket"))) {
		wantErr(t, call, err, bucket.ErrGone)
		if errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("%s: a missing bucket looks like a missing object: %v", call, err)
		}
	}
}

func (f s3Fixture) testBadConfig(t *testing.T) {
	_, err := f.open(s3api.Config{Endpoint: "ftp://x"})
	wantErr(t, "empty config", err, bucket.ErrInvalid)
	wantMessage(t, "empty config", err, "bucket: required", "region: required", "endpoint", "credentials: required")
	c := f.config(t, f.secure, plainBucket)
	c.CAFile = filepath.Join(t.TempDir(), "absent.pem")
	_, err = f.open(c)
	wantErr(t, "absent CA file", err, bucket.ErrInvalid)
	wantMessage(t, "absent CA file", err, c.CAFile)
	c.CAFile = f.secure.CredentialsFile()
	_, err = f.open(c)
	wantErr(t, "CA file without a certificate", err, bucket.ErrInvalid)
	wantMessage(t, "CA file without a certificate", err, c.CAFile, "no PEM certificate")
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, c.Credentials.SecretKey) {
		t.Errorf("printing a config gives the secret away: %s", s)
	}
}

func (f s3Fixture) testWrongChecksum(t *testing.T) {
	for name, s := range map[string]*s3test.Servers{"TLS": f.secure, "plain http": f.plain} {
		b := f.mustOpen(t, f.config(t, s, plainBucket))
		data := []byte("these bytes")
		err := b.(checksummer).PutChecksum(t.Context(), "wrong/checksum", data, s3api.Checksum(data)^1)
		wantErr(t, name, err, bucket.ErrChecksum)
		if bucket.IsPermanent(err) {
			t.Errorf("%s: IsPermanent is true: %v", name, err)
		}
		_, err = b.Head(t.Context(), "wrong/checksum")
		wantErr(t, name+": what was refused", err, bucket.ErrNotFound)
	}
}

func (f s3Fixture) testRetention(t *testing.T) {
	ctx := t.Context()
	b := f.mustOpen(t, f.config(t, f.secure, lockedBucket))
	retain := b.(bucket.Retainer).Retain
	data := []byte("kept")
	if err := b.PutIfAbsent(ctx, "retained", data); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(24 * time.Hour)
	if err := retain(ctx, "retained", until); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "Delete", b.Delete(ctx, "retained"), bucket.ErrRetention)
	wantErr(t, "shorter", retain(ctx, "retained", until.Add(-time.Hour)), bucket.ErrRetention)
	if err := retain(ctx, "retained", until.Add(time.Hour)); err != nil {
		t.Errorf("longer: %v", err)
	}
	if got, err := b.Get(ctx, "retained", 0, -1); err != nil || string(got) != "kept" {
		t.Errorf("Get of what couldn't be deleted: %q, %v", got, err)
	}
	wantErr(t, "put over it", b.PutIfAbsent(ctx, "retained", []byte("other")), bucket.ErrExists)
	wantErr(t, "absent object", retain(ctx, "absent", until), bucket.ErrNotFound)

	unlocked := f.mustOpen(t, f.config(t, f.secure, plainBucket))
	if err := unlocked.PutIfAbsent(ctx, "retained", data); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "bucket without Object Lock", unlocked.(bucket.Retainer).Retain(ctx, "retained", until), bucket.ErrInvalid)
}

func (f s3Fixture) testAnswers(t *testing.T) {
	proxy := buckettest.StartProxy(t, f.plain.Cloud("a").Endpoint())
	c := f.config(t, f.plain, plainBucket)
	c.Endpoint = proxy.Endpoint
	b := f.mustOpen(t, c)
	for _, test := range []struct {
		status    int
		code      string
		want      error // nil: no condition of its own
		permanent bool
	}{
		{503, "SlowDown", bucket.ErrThrottled, false}, {429, "TooManyRequests", bucket.ErrThrottled, false}, {429, "", bucket.ErrThrottled, false},
		{503, "ServiceUnavailable", nil, false}, {500, "InternalError", nil, false}, {502, "", nil, false}, {504, "", nil, false},
		{507, "InsufficientStorage", bucket.ErrFull, true}, {507, "", bucket.ErrFull, true}, {403, "QuotaExceeded", bucket.ErrFull, true},
		{403, "AccessDenied", bucket.ErrDenied, true}, {401, "", bucket.ErrDenied, true}, {403, "RequestTimeTooSkewed", bucket.ErrDenied, true},
		{400, "ExpiredToken", bucket.ErrDenied, true}, {400, "BadDigest", bucket.ErrChecksum, false},
		{301, "PermanentRedirect", bucket.ErrInvalid, true}, {400, "AuthorizationHeaderMalformed", bucket.ErrInvalid, true},
		{501, "NotImplemented", bucket.ErrInvalid, true}, {404, "NoSuchBucket", bucket.ErrGone, true},
	} {
		proxy.Set(buckettest.Answer(test.status, test.code))
		proxy.Requests()
		err := b.PutIfAbsent(t.Context(), "some/key", []byte("x"))
		if n := proxy.Requests(); n != 1 {
			t.Errorf("%d %s: %d requests, want exactly one: only the retry wrapper retries", test.status, test.code, n)
		}
		_, getErr := b.Get(t.Context(), "some/key", 0, -1)
		for _, err := range []error{err, getErr} {
			if err == nil || test.want != nil && !errors.Is(err, test.want) || bucket.IsPermanent(err) != test.permanent {
				t.Errorf("%d %s: %v, want %v, permanent %v", test.status, test.code, err, test.want, test.permanent)
			}
		}
	}
}

// testRottenAnswer flips one bit in a body on its way back.
func (f s3Fixture) testRottenAnswer(t *testing.T) {
	proxy := buckettest.StartProxy(t, f.plain.Cloud("a").Endpoint())
	c := f.config(t, f.plain, plainBucket)
	c.Endpoint = proxy.Endpoint
	b := f.mustOpen(t, c)
	data := buckettest.Bytes(3, 50_000)
	if err := b.PutIfAbsent(t.Context(), "rotten", data); err != nil {
		t.Fatal(err)
	}
	proxy.Set(buckettest.Spoil{Response: func(r *http.Response) error {
		body, err := io.ReadAll(r.Body)
		if len(body) > 100 {
			body[100] ^= 4
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		return err
	}})
	_, err := b.Get(t.Context(), "rotten", 0, -1)
	wantErr(t, "Get", err, bucket.ErrChecksum)
	if bucket.IsPermanent(err) {
		t.Errorf("IsPermanent is true: %v", err)
	}
	// A conditional put that is refused compares: rotten bytes must not look like others.
	wantErr(t, "PutIfAbsent", b.PutIfAbsent(t.Context(), "rotten", data), bucket.ErrChecksum)
}

// testShortAnswer cuts the connection in the middle of a body.
func (f s3Fixture) testShortAnswer(t *testing.T) {
	proxy := buckettest.StartProxy(t, f.plain.Cloud("a").Endpoint())
	c := f.config(t, f.plain, plainBucket)
	c.Endpoint = proxy.Endpoint
	b := f.mustOpen(t, c)
	if err := b.PutIfAbsent(t.Context(), "short", buckettest.Bytes(4, 50_000)); err != nil {
		t.Fatal(err)
	}
	proxy.Set(buckettest.Spoil{Response: func(r *http.Response) error {
		r.Body = io.NopCloser(io.LimitReader(r.Body, 1000))
		return nil
	}})
	for _, length := range []int64{-1, 20_000} {
		data, err := b.Get(t.Context(), "short", 0, length)
		if err == nil || bucket.IsPermanent(err) {
			t.Errorf("Get(0, %d) of half an answer: %d bytes, %v", length, len(data), err)
		}
	}
}

func (f s3Fixture) testRangeIgnored(t *testing.T) {
	proxy := buckettest.StartProxy(t, f.plain.Cloud("a").Endpoint())
	c := f.config(t, f.plain, plainBucket)
	c.Endpoint = proxy.Endpoint
	b := f.mustOpen(t, c)
	if err := b.PutIfAbsent(t.Context(), "ranged", buckettest.Bytes(4, 5000)); err != nil {
		t.Fatal(err)
	}
	proxy.Set(buckettest.Spoil{Response: func(r *http.Response) error {
		r.Header.Del("Content-Range")
		r.StatusCode = http.StatusOK
		return nil
	}})
	if data, err := b.Get(t.Context(), "ranged", 1000, 10); err == nil {
		t.Errorf("a provider that ignores the range went unnoticed: %d bytes", len(data))
	}
}

// testHang: a provider that never answers holds nobody longer than the deadline.
func (f s3Fixture) testHang(t *testing.T) {
	proxy := buckettest.StartProxy(t, f.plain.Cloud("a").Endpoint())
	c := f.config(t, f.plain, plainBucket)
	c.Endpoint = proxy.Endpoint
	b := f.mustOpen(t, c)
	release := make(chan struct{})
	defer close(release)
	proxy.Set(buckettest.Spoil{Request: func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for call, err := range everyCall(ctx, b) {
		wantErr(t, call, err, context.DeadlineExceeded)
		if bucket.IsPermanent(err) {
			t.Errorf("%s: IsPermanent is true: %v", call, err)
		}
	}
	canceled, stop := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, stop)
	_, err := b.Get(canceled, "some/key", 0, -1)
	wantErr(t, "Get canceled while it waits", err, context.Canceled)
}

// testKilled kills the gateway under running writers, and brings it back.
func (f s3Fixture) testKilled(t *testing.T) {
	b := f.mustOpen(t, f.config(t, f.secure, plainBucket))
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	cloud := f.secure.Cloud("a")
	var writers sync.WaitGroup
	failed := make([]error, 8)
	acknowledged := make([]int, len(failed))
	for w := range failed {
		writers.Go(func() {
			for ; ctx.Err() == nil; acknowledged[w]++ {
				if failed[w] = b.PutIfAbsent(ctx, fmt.Sprintf("killed/%d/%d", w, acknowledged[w]), buckettest.Bytes(uint64(w), 30_000)); failed[w] != nil {
					return
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	if err := cloud.Kill(); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	for w, err := range failed {
		if err == nil || bucket.IsPermanent(err) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("writer %d, after %d puts: %v; want an error to try again", w, acknowledged[w], err)
		}
	}
	if err := cloud.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	for w, n := range acknowledged {
		data := buckettest.Bytes(uint64(w), 30_000)
		for i := range n + 1 { // the one that failed may or may not be there: put it again
			if err := b.PutIfAbsent(ctx, fmt.Sprintf("killed/%d/%d", w, i), data); err != nil {
				t.Fatalf("writer %d, object %d: %v", w, i, err)
			}
		}
	}
}
