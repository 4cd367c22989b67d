package s3test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// makeBuckets makes the cloud's buckets.
func (c *Cloud) makeBuckets(ctx context.Context) error {
	for _, name := range c.servers.options.Buckets {
		if err := c.MakeBucket(ctx, name, false); err != nil {
			return err
		}
	}
	for _, name := range c.servers.options.LockedBuckets {
		if err := c.MakeBucket(ctx, name, true); err != nil {
			return err
		}
	}
	return nil
}

// MakeBucket makes a bucket, with Object Lock when locked. One that exists is left.
func (c *Cloud) MakeBucket(ctx context.Context, name string, locked bool) error {
	endpoint, err := url.Parse(c.Endpoint())
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.servers.files.authority}}
	defer transport.CloseIdleConnections()
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(c.servers.accessKey, c.servers.secretKey, ""),
		Secure: endpoint.Scheme == "https", Region: region, BucketLookup: minio.BucketLookupPath, Transport: transport,
	})
	if err != nil {
		return err
	}
	found, err := client.BucketExists(ctx, name)
	if err == nil && !found {
		err = client.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: region, ObjectLocking: locked})
	}
	if err != nil {
		return fmt.Errorf("s3test: make bucket %s in cloud %s: %w", name, c.Name, err)
	}
	return nil
}
