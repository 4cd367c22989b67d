package s3

import (
	"bytes"
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// multipart is how this client does uploads in parts.
type multipart struct{ *Bucket }

var _ s3api.Multiparter = multipart{}

// Begin implements s3api.Multiparter. The checksum is declared to be one of the whole
// object, which a provider can tell from those of the parts.
func (m multipart) Begin(ctx context.Context, key string) (string, error) {
	out, err := m.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &m.config.Bucket, Key: &key,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumType: types.ChecksumTypeFullObject})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.UploadId), nil
}

// PutPart implements s3api.Multiparter.
func (m multipart) PutPart(ctx context.Context, key, id string, number int, data []byte, checksum string) (string, error) {
	out, err := m.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &m.config.Bucket, Key: &key, UploadId: &id,
		PartNumber: aws.Int32(int32(number)), Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumCRC32C: &checksum}, m.payload)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

// Complete implements s3api.Multiparter.
func (m multipart) Complete(ctx context.Context, key, id string, parts []s3api.Part, checksum string) error {
	done := make([]types.CompletedPart, len(parts))
	for i := range parts {
		done[i] = types.CompletedPart{PartNumber: aws.Int32(int32(parts[i].Number)), ETag: &parts[i].ETag, ChecksumCRC32C: &parts[i].Checksum}
	}
	_, err := m.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &m.config.Bucket, Key: &key, UploadId: &id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done}, IfNoneMatch: aws.String("*"),
		ChecksumCRC32C: &checksum, ChecksumType: types.ChecksumTypeFullObject})
	return err
}

// Abort implements s3api.Multiparter.
func (m multipart) Abort(ctx context.Context, key, id string) error {
	_, err := m.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &m.config.Bucket, Key: &key, UploadId: &id})
	return err
}

// Uploads implements s3api.Multiparter with the first page of them.
func (m multipart) Uploads(ctx context.Context) ([]s3api.Upload, error) {
	page, err := m.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &m.config.Bucket})
	if err != nil {
		return nil, err
	}
	out := make([]s3api.Upload, len(page.Uploads))
	for i, u := range page.Uploads {
		out[i] = s3api.Upload{Key: aws.ToString(u.Key), ID: aws.ToString(u.UploadId), Began: aws.ToTime(u.Initiated)}
	}
	return out, nil
}

// Multipart returns the upload in parts, for tests.
func (b *Bucket) Multipart() s3api.Multiparter { return multipart{b} }
