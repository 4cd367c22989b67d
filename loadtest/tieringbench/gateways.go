package tieringbench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
	"github.com/logcore/logcore/tiering/target"
)

// What is put at the gateways in one turn: as many fragments as the object has, of an object
// that does not compress.
const (
	gatewayObjectBytes = 15 << 20
	gatewayObjects     = 4
)

var clouds, buckets = []string{"a", "b", "c"}, []string{"one", "two"}

func (r *run) startGateways(ctx context.Context, name string, links bool) (*s3test.Servers, error) {
	return s3test.Start(ctx, s3test.Options{Dir: filepath.Join(r.Dir, name), Clouds: clouds, Buckets: buckets, Links: links, Logger: r.o.Logger})
}

func targetURLs(s *s3test.Servers) (urls []string) {
	for _, b := range buckets {
		for _, c := range clouds {
			urls = append(urls, s.URL("minio", c, b, c+b))
		}
	}
	return urls
}

// gateways compares puts through the archive's buckets, with their checksums, conditions and
// retries, with the same bytes put plainly by the same SDK, six at a time, over TLS on the
// loopback; and the whole pipeline, which reads everything back, with both.
func (r *run) gateways(ctx context.Context) error {
	servers, err := r.startGateways(ctx, "gateways", false)
	if err != nil {
		return err
	}
	defer servers.Close()
	var archived []tiering.Target
	var plain []plainBucket
	for _, u := range targetURLs(servers) {
		t, err := target.Open(ctx, u)
		if err != nil {
			return err
		}
		b, err := bucket.Harden(t.Bucket, bucket.HardenOptions{Target: t.Name})
		if err != nil {
			return err
		}
		defer b.Close()
		archived = append(archived, tiering.Target{Name: t.Name, Provider: t.Provider, Bucket: b})
		p, err := openPlain(servers, u)
		if err != nil {
			return err
		}
		plain = append(plain, p)
	}
	object := noise(4, gatewayObjectBytes)
	coded, err := erasure.Code(erasure.Meta{SegmentFirst: 1, First: 1, Last: 1, Kind: 1, K: erasure.DefaultK, M: erasure.DefaultM}, object)
	if err != nil {
		return err
	}
	s, err := newSource(noise(5, gatewayObjects*gatewayObjectBytes), gatewayObjects*gatewayObjectBytes, pipelineBytes)
	if err != nil {
		return err
	}
	defer s.close()
	turn, cluster := 0, byte(0)
	each := func(put func(i int, key string, data []byte) error) error {
		turn++
		errs := make([]error, len(coded.Fragments))
		var wg sync.WaitGroup
		for i, f := range coded.Fragments {
			wg.Go(func() {
				for n := range gatewayObjects {
					errs[i] = errors.Join(errs[i], put(i, fmt.Sprintf("turn-%d/%d", turn, n), f))
				}
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	var sent int64
	took, err := figures.Contest(ctx, r.o.Rounds, figures.Contenders(map[string]func() error{
		"archive's buckets": func() error {
			return each(func(i int, key string, data []byte) error { return archived[i].Bucket.PutIfAbsent(ctx, key, data) })
		},
		"plainly": func() error {
			return each(func(i int, key string, data []byte) error { return plain[i].put(ctx, key, data) })
		},
		"put and read back": func() error {
			return each(func(i int, key string, data []byte) error {
				if err := archived[i].Bucket.PutIfAbsent(ctx, key, data); err != nil {
					return err
				}
				back, err := archived[i].Bucket.Get(ctx, key, 0, -1)
				if err == nil && !bytes.Equal(back, data) {
					err = errors.New("read back other bytes")
				}
				return err
			})
		},
		"whole pipeline": func() error {
			cluster++
			st, err := r.archiveCluster(ctx, s, archived, cluster)
			sent = st.StoredBytes
			return err
		},
	})...)
	if err != nil {
		return err
	}
	total := float64(gatewayObjects) * float64(coded.Meta.FragmentBytes()) * float64(len(coded.Fragments))
	rate := func(name string) float64 { return total / took[name].Median / 1e6 }
	pipeline := float64(sent) / took["whole pipeline"].Median / 1e6
	detail := map[string]any{"archive MB/s": rate("archive's buckets"), "plain MB/s": rate("plainly"), "put and read back, MB/s put": rate("put and read back"),
		"whole pipeline, MB/s put": pipeline, "bytes a turn": total, "at once": len(coded.Fragments)}
	r.AtLeast("gateways: put / put plainly, per byte sent", rate("archive's buckets")/rate("plainly"), 0.8, "", detail)
	r.Add("gateways: whole pipeline / put and read back", pipeline/rate("put and read back"), "", nil)
	r.Add("gateways: whole pipeline / put plainly", pipeline/rate("plainly"), "", map[string]any{"why": "every byte is read back before it counts"})
	return nil
}

// archiveCluster archives a source as a cluster of its own.
func (r *run) archiveCluster(ctx context.Context, s *source, targets []tiering.Target, cluster byte) (tiering.Status, error) {
	return r.archiveAs(ctx, s, targets, tiering.CompressionFastest, [16]byte{2, cluster})
}

// plainBucket is a bucket as anybody's program has it.
type plainBucket struct {
	client *minio.Client
	name   string
}

// openPlain takes where a bucket is from its URL.
func openPlain(servers *s3test.Servers, rawURL string) (p plainBucket, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return p, err
	}
	endpoint, err := url.Parse(u.Query().Get("endpoint"))
	if err != nil {
		return p, err
	}
	secrets, err := os.ReadFile(servers.CredentialsFile())
	if err != nil {
		return p, err
	}
	field := map[string]string{}
	for line := range strings.Lines(string(secrets)) {
		name, value, _ := strings.Cut(line, "=")
		field[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	ca, err := os.ReadFile(servers.CAFile())
	if err != nil {
		return p, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.MaxIdleConnsPerHost = &tls.Config{RootCAs: pool}, 16
	p.client, err = minio.New(endpoint.Host, &minio.Options{Creds: credentials.NewStaticV4(field["access_key"], field["secret_key"], ""), Secure: endpoint.Scheme == "https",
		Region: u.Query().Get("region"), BucketLookup: minio.BucketLookupPath, Transport: transport})
	p.name = u.Host
	return p, err
}

func (p plainBucket) put(ctx context.Context, key string, data []byte) error {
	_, err := p.client.PutObject(ctx, p.name, "plain/"+key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{DisableMultipart: true})
	return err
}
