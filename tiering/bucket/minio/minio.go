// Package minio is a bucket at any S3-compatible store, by MinIO's client, which is
// written for the differences between them. Package s3 is for AWS.
package minio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// checksumHeader carries the CRC-32C of an object, both ways.
const checksumHeader = "X-Amz-Checksum-Crc32c"

// Bucket is one bucket, behind one connection pool.
type Bucket struct {
	config     s3api.Config
	core       minio.Core
	connection s3api.Connection
	closed     atomic.Bool
	swept      sync.Once // leftovers of uploads in parts, at the first of them
}

var (
	_ bucket.Bucket   = (*Bucket)(nil)
	_ bucket.Retainer = (*Bucket)(nil)
)

// Open returns the bucket. It sends nothing: the first call finds out whether the
// bucket is there. The endpoint is required.
func Open(config s3api.Config) (*Bucket, error) {
	b, err := open(config)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", config.URL("minio"), err)
	}
	return b, nil
}

func open(config s3api.Config) (*Bucket, error) {
	if config.Endpoint == "" {
		return nil, fmt.Errorf("%w: endpoint: required", bucket.ErrInvalid)
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.WithDefaults()
	endpoint, err := url.Parse(config.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%w: endpoint: %w", bucket.ErrInvalid, err)
	}
	connection, err := config.Connect()
	if err != nil {
		return nil, err
	}
	c := config.Credentials
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken),
		Secure:       config.Secure(),
		Region:       config.Region, // given, so that it is never asked for
		BucketLookup: minio.BucketLookupPath,
		Transport:    connection,
		MaxRetries:   1, // one try: the retry wrapper retries, in one place
		// Without it the client refuses checksum headers, even those computed beforehand.
		TrailingHeaders: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", bucket.ErrInvalid, err)
	}
	return &Bucket{config: config, core: minio.Core{Client: client}, connection: connection}, nil
}

func (b *Bucket) begin(ctx context.Context, op, key string) error {
	if err := bucket.ValidateKey(key); err != nil {
		return b.wrap(op, key, err)
	}
	return b.usable(ctx, op, key)
}

func (b *Bucket) usable(ctx context.Context, op, key string) error {
	if b.closed.Load() {
		return b.wrap(op, key, logcore.ErrClosed)
	}
	return b.wrap(op, key, ctx.Err())
}

func (b *Bucket) wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %s %s: %w", b, op, key, err)
}

// failure takes the client's error apart.
func failure(err error) s3api.Failure {
	var response minio.ErrorResponse
	errors.As(err, &response)
	return s3api.Failure{Status: response.StatusCode, Code: response.Code, Message: response.Message, Cause: err}
}

// classify returns the client's error as one of the bucket's.
func (b *Bucket) classify(err error) error { return b.config.Error(failure(err)) }

// PutIfAbsent implements bucket.Bucket: one conditional PUT with its CRC-32C, or for a
// large object parts, each with its own, and a conditional end.
func (b *Bucket) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return b.PutChecksum(ctx, key, data, s3api.Checksum(data))
}

// PutChecksum is PutIfAbsent with a CRC-32C that the caller knows. The provider
// refuses bytes of another one with bucket.ErrChecksum.
func (b *Bucket) PutChecksum(ctx context.Context, key string, data []byte, sum uint32) error {
	if err := b.begin(ctx, "put", key); err != nil {
		return err
	}
	if len(data) >= b.config.MultipartFrom {
		b.swept.Do(func() { _, _ = s3api.SweepUploads(ctx, multipart{b}, time.Now()) }) // best effort
		err := s3api.PutParts(ctx, multipart{b}, key, data, b.config.PartBytes, s3api.ChecksumHeader(sum))
		return b.settle(ctx, key, data, err)
	}
	// The checksum goes ahead of the body: sent behind it, as this client would by
	// itself, several stores refuse it over plain http.
	options := minio.PutObjectOptions{UserMetadata: map[string]string{"x-amz-checksum-crc32c": s3api.ChecksumHeader(sum)}}
	options.SetMatchETagExcept("*")
	var signed string
	signed, options.DisableContentSha256 = b.sign(data)
	_, err := b.core.PutObject(ctx, b.config.Bucket, key, bytes.NewReader(data), int64(len(data)), "", signed, options)
	return b.settle(ctx, key, data, err)
}

// sign returns the SHA-256 of a body that nothing else protects from being replaced, and
// whether it is to be signed whole, not in chunks.
func (b *Bucket) sign(data []byte) (signed string, whole bool) {
	if b.config.Secure() {
		return "", false
	}
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:]), true
}

// settle makes of a put's error what it means.
func (b *Bucket) settle(ctx context.Context, key string, data []byte, err error) error {
	if err == nil {
		return nil
	}
	err = b.config.Settle(failure(err), data, func() ([]byte, error) { return b.get(ctx, key, 0, -1) })
	return b.wrap("put", key, err)
}

// Get implements bucket.Bucket. A whole object is checked against the provider's
// CRC-32C.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := b.begin(ctx, "get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, b.wrap("get", key, fmt.Errorf("%w: offset %d", bucket.ErrInvalid, offset))
	}
	if length == 0 { // no Range header asks for nothing
		_, err := b.Head(ctx, key)
		return []byte{}, err
	}
	data, err := b.get(ctx, key, offset, length)
	if err != nil {
		return nil, b.wrap("get", key, err)
	}
	return data, nil
}

func (b *Bucket) get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	var options minio.GetObjectOptions
	asked := s3api.Range(offset, length)
	if asked != "" {
		options.Set("Range", asked)
	} else {
		options.Set("x-amz-checksum-mode", "ENABLED")
	}
	body, info, header, err := b.core.GetObject(ctx, b.config.Bucket, key, options)
	if err != nil {
		f := failure(err)
		if f.Status == http.StatusRequestedRangeNotSatisfiable { // it is there, but shorter
			return []byte{}, nil
		}
		return nil, b.config.Error(f)
	}
	defer body.Close()
	if asked != "" && header.Get("Content-Range") == "" {
		return nil, s3api.ErrRangeIgnored
	}
	data, err := s3api.ReadBody(body, info.Size, length)
	if err != nil {
		return nil, b.classify(err)
	}
	if asked == "" {
		err = s3api.Verify(data, header.Get(checksumHeader))
	}
	return data, err
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Attributes, error) {
	if err := b.begin(ctx, "head", key); err != nil {
		return bucket.Attributes{}, err
	}
	info, err := b.head(ctx, key)
	if err != nil {
		return bucket.Attributes{}, b.wrap("head", key, err)
	}
	return bucket.Attributes{Key: key, Size: info.Size, Modified: info.LastModified}, nil
}

// head asks for an object. The answer to HEAD has no body, so on 404 a read of one byte
// tells a missing bucket from a missing object.
func (b *Bucket) head(ctx context.Context, key string) (minio.ObjectInfo, error) {
	info, err := b.core.StatObject(ctx, b.config.Bucket, key, minio.StatObjectOptions{})
	if err == nil {
		return info, nil
	}
	err = b.classify(err)
	if errors.Is(err, bucket.ErrNotFound) {
		if _, berr := b.get(ctx, key, 0, 1); berr != nil {
			err = berr
		}
	}
	return minio.ObjectInfo{}, err
}

// List implements bucket.Bucket. Keys that are none of ours are skipped.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string, yield func(bucket.Attributes) bool) error {
	if err := b.usable(ctx, "list", prefix); err != nil {
		return err
	}
	owner := false
	options := minio.ListObjectsOptions{Prefix: prefix, StartAfter: startAfter, Recursive: true, FetchOwner: &owner}
	for o := range b.core.ListObjectsIter(ctx, b.config.Bucket, options) {
		if o.Err != nil {
			return b.wrap("list", prefix, b.classify(o.Err))
		}
		if bucket.ValidateKey(o.Key) != nil {
			continue
		}
		if !yield(bucket.Attributes{Key: o.Key, Size: o.Size, Modified: o.LastModified}) {
			return nil
		}
	}
	return b.wrap("list", prefix, ctx.Err()) // a canceled listing just ends
}

// Delete implements bucket.Bucket. In a bucket with versions it removes the version
// itself: a plain DELETE would only hide it behind a marker, even one under retention.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "delete", key); err != nil {
		return err
	}
	for range s3api.VersionsMax {
		info, err := b.head(ctx, key)
		if errors.Is(err, bucket.ErrNotFound) {
			return nil
		}
		if err != nil {
			return b.wrap("delete", key, err)
		}
		err = b.classify(b.core.RemoveObject(ctx, b.config.Bucket, key, minio.RemoveObjectOptions{VersionID: info.VersionID}))
		if errors.Is(err, bucket.ErrDenied) && retainedUntil(info).After(time.Now()) {
			err = fmt.Errorf("%w (%v)", bucket.ErrRetention, err)
		}
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return b.wrap("delete", key, err)
		}
		if info.VersionID == "" {
			return nil
		}
	}
	return b.wrap("delete", key, fmt.Errorf("more than %d versions: another program writes it", s3api.VersionsMax))
}

// retainedUntil returns until when an object is retained by its own setting, the zero
// time when it isn't. (Asking for the retention itself fails at stores that name the
// answer's element otherwise than this client expects.)
func retainedUntil(info minio.ObjectInfo) time.Time {
	until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		return time.Time{}
	}
	return until
}

// Retain implements bucket.Retainer by Object Lock in compliance mode. A bucket
// without Object Lock is bucket.ErrInvalid.
func (b *Bucket) Retain(ctx context.Context, key string, until time.Time) error {
	if err := b.begin(ctx, "retain", key); err != nil {
		return err
	}
	mode := minio.Compliance
	err := b.classify(b.core.PutObjectRetention(ctx, b.config.Bucket, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until}))
	if errors.Is(err, bucket.ErrDenied) {
		if info, herr := b.head(ctx, key); herr == nil && retainedUntil(info).After(until) {
			err = fmt.Errorf("%w: it can't be shortened", bucket.ErrRetention)
		}
	}
	return b.wrap("retain", key, err)
}

// String returns the bucket's URL, without credentials.
func (b *Bucket) String() string { return b.config.URL("minio") }

// Close drops the connections and makes every later call fail with logcore.ErrClosed.
func (b *Bucket) Close() error {
	b.closed.Store(true)
	b.connection.CloseIdleConnections()
	return nil
}
