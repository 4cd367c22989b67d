// Package s3 is a bucket at AWS S3, by Amazon's own client. Package minio is for
// every other S3-compatible store; this one speaks to them as well.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// Bucket is one bucket, behind one connection pool.
type Bucket struct {
	config     s3api.Config
	client     *s3.Client
	connection s3api.Connection
	closed     atomic.Bool
	swept      sync.Once // leftovers of uploads in parts, at the first of them
}

var (
	_ bucket.Bucket   = (*Bucket)(nil)
	_ bucket.Retainer = (*Bucket)(nil)
)

// Open returns the bucket. It sends nothing: the first call finds out whether the
// bucket is there.
func Open(config s3api.Config) (*Bucket, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("open %s: %w", config.URL("s3"), err)
	}
	config = config.WithDefaults()
	connection, err := config.Connect()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", config.URL("s3"), err)
	}
	c := config.Credentials
	options := s3.Options{
		Region:       config.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken),
		UsePathStyle: config.Endpoint != "" || strings.Contains(config.Bucket, "."),
		// A redirect of a signed request can't be followed; its status says more.
		HTTPClient: &http.Client{Transport: connection, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Retryer:    aws.NopRetryer{}, // the retry wrapper retries, in one place
		// Checksums are given and verified here, as one value end to end.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if config.Endpoint != "" {
		options.BaseEndpoint = aws.String(config.Endpoint)
	}
	return &Bucket{config: config, client: s3.New(options), connection: connection}, nil
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
	f := s3api.Failure{Cause: err}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		f.Status = response.HTTPStatusCode()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		f.Code, f.Message = api.ErrorCode(), api.ErrorMessage()
	}
	return f
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
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.config.Bucket, Key: &key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		IfNoneMatch: aws.String("*"), ChecksumCRC32C: aws.String(s3api.ChecksumHeader(sum)),
	}, b.payload)
	return b.settle(ctx, key, data, err)
}

// settle makes of a put's error what it means.
func (b *Bucket) settle(ctx context.Context, key string, data []byte, err error) error {
	if err == nil {
		return nil
	}
	err = b.config.Settle(failure(err), data, func() ([]byte, error) { return b.get(ctx, key, 0, -1) })
	return b.wrap("put", key, err)
}

// payload leaves the body out of the signature where TLS and the signed checksum
// header protect it: SHA-256 would be the slowest step of an upload.
func (b *Bucket) payload(o *s3.Options) {
	if b.config.Secure() {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
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
	input := &s3.GetObjectInput{Bucket: &b.config.Bucket, Key: &key}
	if r := s3api.Range(offset, length); r != "" {
		input.Range = &r
	} else {
		input.ChecksumMode = types.ChecksumModeEnabled
	}
	out, err := b.client.GetObject(ctx, input)
	if err != nil {
		f := failure(err)
		if f.Status == http.StatusRequestedRangeNotSatisfiable { // it is there, but shorter
			return []byte{}, nil
		}
		return nil, b.config.Error(f)
	}
	defer out.Body.Close()
	if input.Range != nil && out.ContentRange == nil {
		return nil, s3api.ErrRangeIgnored
	}
	data, err := s3api.ReadBody(out.Body, aws.ToInt64(out.ContentLength), length)
	if err != nil {
		return nil, b.classify(err)
	}
	if input.Range == nil {
		err = s3api.Verify(data, aws.ToString(out.ChecksumCRC32C))
	}
	return data, err
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Attributes, error) {
	if err := b.begin(ctx, "head", key); err != nil {
		return bucket.Attributes{}, err
	}
	out, err := b.head(ctx, key)
	if err != nil {
		return bucket.Attributes{}, b.wrap("head", key, err)
	}
	return bucket.Attributes{Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified)}, nil
}

// head asks for an object. The answer to HEAD has no body, so on 404 a read of one byte
// tells a missing bucket from a missing object.
func (b *Bucket) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	if err == nil {
		return out, nil
	}
	err = b.classify(err)
	if errors.Is(err, bucket.ErrNotFound) {
		if _, berr := b.get(ctx, key, 0, 1); berr != nil {
			err = berr
		}
	}
	return nil, err
}

// List implements bucket.Bucket. Keys that are none of ours are skipped.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string, yield func(bucket.Attributes) bool) error {
	if err := b.usable(ctx, "list", prefix); err != nil {
		return err
	}
	input := &s3.ListObjectsV2Input{Bucket: &b.config.Bucket, Prefix: &prefix}
	if startAfter != "" {
		input.StartAfter = &startAfter
	}
	for {
		page, err := b.client.ListObjectsV2(ctx, input)
		if err != nil {
			return b.wrap("list", prefix, b.classify(err))
		}
		for _, o := range page.Contents {
			a := bucket.Attributes{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}
			if bucket.ValidateKey(a.Key) != nil {
				continue
			}
			if !yield(a) {
				return nil
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		input.ContinuationToken = page.NextContinuationToken
		if aws.ToString(input.ContinuationToken) == "" {
			return b.wrap("list", prefix, errors.New("the provider cut its answer short without saying how to go on"))
		}
	}
}

// Delete implements bucket.Bucket. In a bucket with versions it removes the version
// itself: a plain DELETE would only hide it behind a marker, even one under retention.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "delete", key); err != nil {
		return err
	}
	for range s3api.VersionsMax {
		out, err := b.head(ctx, key)
		if errors.Is(err, bucket.ErrNotFound) {
			return nil
		}
		if err != nil {
			return b.wrap("delete", key, err)
		}
		_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.config.Bucket, Key: &key, VersionId: out.VersionId})
		if err = b.classify(err); errors.Is(err, bucket.ErrDenied) && aws.ToTime(out.ObjectLockRetainUntilDate).After(time.Now()) {
			err = fmt.Errorf("%w (%v)", bucket.ErrRetention, err)
		}
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return b.wrap("delete", key, err)
		}
		if aws.ToString(out.VersionId) == "" {
			return nil
		}
	}
	return b.wrap("delete", key, fmt.Errorf("more than %d versions: another program writes it", s3api.VersionsMax))
}

// Retain implements bucket.Retainer by Object Lock in compliance mode. A bucket
// without Object Lock is bucket.ErrInvalid.
func (b *Bucket) Retain(ctx context.Context, key string, until time.Time) error {
	if err := b.begin(ctx, "retain", key); err != nil {
		return err
	}
	_, err := b.client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
		Bucket: &b.config.Bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: &until},
	})
	if err == nil {
		return nil
	}
	err = b.classify(err)
	if errors.Is(err, bucket.ErrDenied) {
		if out, herr := b.head(ctx, key); herr == nil && aws.ToTime(out.ObjectLockRetainUntilDate).After(until) {
			err = fmt.Errorf("%w: it can't be shortened", bucket.ErrRetention)
		}
	}
	return b.wrap("retain", key, err)
}

// String returns the bucket's URL, without credentials.
func (b *Bucket) String() string { return b.config.URL("s3") }

// Close drops the connections and makes every later call fail with logcore.ErrClosed.
func (b *Bucket) Close() error {
	b.closed.Store(true)
	b.connection.CloseIdleConnections()
	return nil
}
