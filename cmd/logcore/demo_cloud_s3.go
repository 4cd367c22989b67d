package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/logcore/logcore/internal/s3test"
)

// s3Cloud is six buckets at three S3 servers, each a process of its own, over TLS.
// The targets of one cloud are reached through the AWS client, those of the others
// through minio's.
type s3Cloud struct{ servers *s3test.Servers }

func openS3Cloud(ctx context.Context, dir string, log *slog.Logger) (demoCloud, error) {
	servers, err := s3test.Start(ctx, s3test.Options{Logger: log, Dir: filepath.Join(dir, "s3"), Clouds: []string{"a", "b", "c"}, Buckets: []string{"logcore-1", "logcore-2"}})
	if err != nil {
		return nil, err
	}
	return s3Cloud{servers}, nil
}

func (s3Cloud) describe() string  { return "6 buckets at 3 S3 servers" }
func (s3Cloud) environ() []string { return nil }
func (c s3Cloud) close() error    { return c.servers.Close() }

func (c s3Cloud) urls() []string {
	var urls []string
	for _, cloud := range []string{"a", "b", "c"} {
		scheme := "minio"
		if cloud == "a" {
			scheme = "s3"
		}
		for _, n := range []string{"1", "2"} {
			urls = append(urls, c.servers.URL(scheme, cloud, "logcore-"+n, cloud+n))
		}
	}
	return urls
}

func (c s3Cloud) lose() (string, error) { return "b", c.servers.Cloud("b").Kill() }
