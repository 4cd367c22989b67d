package tiering

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
	"github.com/logcore/logcore/tiering/bucket/minio"
	"github.com/logcore/logcore/tiering/bucket/s3"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// gateways is three real S3 servers, each behind a proxy that can spoil what passes.
type gateways struct {
	t           *testing.T
	servers     *s3test.Servers
	proxies     map[string]*buckettest.Proxy
	credentials s3api.Credentials
}

func startGateways(t *testing.T) *gateways {
	t.Helper()
	clouds := []string{"a", "b", "c"}
	g := &gateways{t: t, proxies: map[string]*buckettest.Proxy{}}
	g.servers = s3test.StartTest(t, s3test.Options{Clouds: clouds, Buckets: []string{"one", "two"}, PlainHTTP: true, Logger: quiet()})
	var err error
	if g.credentials, err = s3api.FindCredentials(g.servers.CredentialsFile()); err != nil {
		t.Fatal(err)
	}
	for _, c := range clouds {
		g.proxies[c] = buckettest.StartProxy(t, g.servers.Cloud(c).Endpoint())
	}
	return g
}

// targets opens six targets as a service does, without much patience.
func (g *gateways) targets() []Target {
	g.t.Helper()
	out := make([]Target, len(targetNames))
	for i, name := range targetNames {
		config := s3api.Config{Bucket: []string{"one", "two"}[i%2], Region: "us-east-1", Endpoint: g.proxies[name[:1]].Endpoint, Credentials: g.credentials}
		var b bucket.Bucket
		var err error
		if i%2 == 0 {
			b, err = s3.Open(config)
		} else {
			b, err = minio.Open(config)
		}
		if err == nil {
			b, err = bucket.Harden(b, bucket.HardenOptions{Retry: bucket.RetryOptions{Attempts: 2, AttemptTimeout: time.Second, BackoffMax: 100 * time.Millisecond, ThrottleWaits: 2}})
		}
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { b.Close() })
		out[i] = Target{Name: name, Provider: name[:1], Region: "r", Bucket: b}
	}
	return out
}

// resign signs requests anew, as a client with another clock or for another region would.
func (g *gateways) resign(region string, skew time.Duration) buckettest.Spoil {
	return buckettest.Spoil{Request: func(w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Authorization")
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		keys := aws.Credentials{AccessKeyID: g.credentials.AccessKey, SecretAccessKey: g.credentials.SecretKey}
		if err := signer.SignHTTP(r.Context(), keys, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", region, time.Now().Add(skew)); err != nil {
			g.t.Error(err)
		}
		return false
	}}
}

// onFragments spoils the answers to gets of fragments.
func onFragments(spoil func(r *http.Response, body []byte) []byte) buckettest.Spoil {
	return buckettest.Spoil{Response: func(r *http.Response) error {
		if r.Request.Method != http.MethodGet || !strings.Contains(r.Request.URL.Path, "/fragment/") || r.StatusCode >= 300 {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(spoil(r, body)))
		return err
	}}
}

// cutPuts breaks the connection in the middle of a PUT's body.
func cutPuts(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPut {
		return false
	}
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	panic(http.ErrAbortHandler)
}

// counted counts what a spoil does.
func counted(s buckettest.Spoil, hits *atomic.Int64) buckettest.Spoil {
	out := buckettest.Spoil{}
	if s.Request != nil {
		out.Request = func(w http.ResponseWriter, r *http.Request) (answered bool) {
			defer func() {
				if aborted := recover(); aborted != nil {
					hits.Add(1)
					panic(aborted)
				}
			}()
			if answered = s.Request(w, r); answered {
				hits.Add(1)
			}
			return answered
		}
	}
	if s.Response != nil {
		out.Response = func(r *http.Response) error {
			status, body := r.StatusCode, r.Body
			err := s.Response(r)
			if r.StatusCode != status || r.Body != body {
				hits.Add(1)
			}
			return err
		}
	}
	return out
}

// TestGatewaysGoingWrong is TestAProviderGoingWrongForAWhile with real servers, whose
// answers are their own wherever they can be made to give them.
func TestGatewaysGoingWrong(t *testing.T) {
	t.Parallel()
	g := startGateways(t)
	var first atomic.Pointer[[]byte] // an object, to be returned for every other one
	for _, c := range []struct {
		name  string
		spoil buckettest.Spoil
		begin func(ctx context.Context, cloud *s3test.Cloud) error // in place of a spoil
		end   func(ctx context.Context, cloud *s3test.Cloud) error
		says  []string // in the targets' status; none where the provider lies and nothing shows
	}{
		{name: "credentials expire", begin: func(ctx context.Context, c *s3test.Cloud) error { return c.SetSecret(ctx, "another-secret") },
			end: func(ctx context.Context, c *s3test.Cloud) error { return c.SetSecret(ctx, "") }, says: []string{"denied", "check "}},
		{name: "session expires", spoil: buckettest.Answer(400, "ExpiredToken"), says: []string{"denied", "ExpiredToken"}},
		{name: "clock skew", spoil: g.resign("us-east-1", -time.Hour), says: []string{"denied", "clock"}},
		{name: "another region", spoil: g.resign("eu-west-1", 0), says: []string{"region"}},
		{name: "503 storm", spoil: buckettest.Answer(503, "SlowDown"), says: []string{"throttled"}},
		{name: "500", spoil: buckettest.Answer(500, "InternalError"), says: []string{"500"}},
		{name: "full", spoil: buckettest.Spoil{Request: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodPut && buckettest.Answer(507, "InsufficientStorage").Request(w, r)
		}}},
		{name: "half a put", spoil: buckettest.Spoil{Request: cutPuts}},
		{name: "put stored but reported failed", spoil: buckettest.Spoil{Response: func(r *http.Response) error {
			if r.Request.Method == http.MethodPut {
				r.StatusCode, r.Status = 500, "500 Internal Server Error"
			}
			return nil
		}}},
		{name: "another object", spoil: onFragments(func(r *http.Response, body []byte) []byte {
			mine := bytes.Clone(body)
			first.CompareAndSwap(nil, &mine)
			r.Header.Del("X-Amz-Checksum-Crc32c")
			return append(bytes.Clone(*first.Load()), body...)[:len(body)]
		})},
		{name: "stale bytes, checksum as sent", spoil: onFragments(func(_ *http.Response, body []byte) []byte { clear(body[:len(body)/2]); return body })},
		{name: "killed", begin: func(_ context.Context, c *s3test.Cloud) error { return c.Kill() },
			end: func(ctx context.Context, c *s3test.Cloud) error { return c.Restart(ctx) }},
	} {
		t.Run(c.name, func(t *testing.T) { g.goWrong(t, c.spoil, c.begin, c.end, c.says) })
	}
}

func (g *gateways) goWrong(t *testing.T, spoil buckettest.Spoil, begin, end func(context.Context, *s3test.Cloud) error, says []string) {
	w := newWorld(t, 50)
	cluster := testCluster
	copy(cluster[:], t.Name()[len("TestGatewaysGoingWrong/"):]) // an archive of its own in the same buckets
	targets := g.targets()
	w.change = func(o *Options) {
		o.Cluster, o.Targets, o.MaxAge, o.OpTimeout = cluster, targets, 20*time.Millisecond, 3*time.Second
	}
	a := w.start(nil)
	w.hot.append(3, 4000)
	a.flushAll()
	cloud, proxy := g.servers.Cloud("a"), g.proxies["a"]
	var hits atomic.Int64
	proxy.Set(counted(spoil, &hits))
	if begin != nil {
		if err := begin(t.Context(), cloud); err != nil {
			t.Fatal(err)
		}
	}
	proxy.Requests()
	began := time.Now()
	for range 3 {
		w.hot.append(2, 4000)
		a.flushAll()
	}
	covered := a.Covered()
	if len(says) > 0 {
		a.until(fmt.Sprintf("the status says %q", says), func() bool {
			st := a.TargetStatus() // the two share a provider: while that is broken one of them probes
			said := !st[0].Healthy && !st[1].Healthy
			for _, text := range says {
				said = said && strings.Contains(st[0].LastError+st[1].LastError, text)
			}
			return said
		})
	}
	r, err := OpenReader(t.Context(), ReaderOptions{Targets: targets, Keys: w.keys, Cluster: cluster, OpTimeout: 2 * time.Second, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	got, _, last, err := readBack(t.Context(), r)
	if err != nil || last < covered || !bytes.Equal(got, w.hot.content(1, last)) {
		t.Errorf("meanwhile: %d bytes to LSN %d, covered %d: %v", len(got), last, covered, err)
	}
	if rate := float64(proxy.Requests()) / max(1, time.Since(began).Seconds()); rate > 300 {
		t.Errorf("%.0f requests a second went to a provider that is broken", rate)
	}
	proxy.Set(buckettest.Spoil{})
	if hits.Load() == 0 && len(says) == 0 && begin == nil {
		t.Errorf("the fault hit nothing; targets %+v", a.TargetStatus()[:2])
	}
	if end != nil {
		if err := end(t.Context(), cloud); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	a.until("every fragment is in place", func() bool {
		report, err := Verify(t.Context(), targets, w.keys, nil)
		for _, p := range report.Problems {
			if strings.Contains(p.Key, fmt.Sprintf("%x", cluster[:])) && (!p.Notice() || p.Kind == ProblemDegraded) {
				return false
			}
		}
		return err == nil
	})
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
}
