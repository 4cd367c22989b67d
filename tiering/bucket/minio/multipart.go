package minio

import (
	"bytes"
	"context"
	"net/http"

	"github.com/minio/minio-go/v7"

	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// multipart is how this client does uploads in parts.
type multipart struct{ *Bucket }

var _ s3api.Multiparter = multipart{}

// uploadsMax is how many uploads are looked at in one sweep.
const uploadsMax = 1000

// Begin implements s3api.Multiparter. The checksum is declared to be one of the whole
// object, which a provider can tell from those of the parts.
func (m multipart) Begin(ctx context.Context, key string) (string, error) {
	return m.core.NewMultipartUpload(ctx, m.config.Bucket, key, minio.PutObjectOptions{
		UserMetadata: map[string]string{"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"}})
}

// PutPart implements s3api.Multiparter.
func (m multipart) PutPart(ctx context.Context, key, id string, number int, data []byte, checksum string) (string, error) {
	options := minio.PutObjectPartOptions{CustomHeader: http.Header{}}
	options.CustomHeader.Set(checksumHeader, checksum)
	options.Sha256Hex, options.DisableContentSha256 = m.sign(data)
	part, err := m.core.PutObjectPart(ctx, m.config.Bucket, key, id, number, bytes.NewReader(data), int64(len(data)), options)
	return part.ETag, err
}

// Complete implements s3api.Multiparter.
func (m multipart) Complete(ctx context.Context, key, id string, parts []s3api.Part, checksum string) error {
	done := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		done[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag, ChecksumCRC32C: p.Checksum}
	}
	options := minio.PutObjectOptions{UserMetadata: map[string]string{"x-amz-checksum-crc32c": checksum, "x-amz-checksum-type": "FULL_OBJECT"}}
	options.SetMatchETagExcept("*")
	_, err := m.core.CompleteMultipartUpload(ctx, m.config.Bucket, key, id, done, options)
	return err
}

// Abort implements s3api.Multiparter.
func (m multipart) Abort(ctx context.Context, key, id string) error {
	return m.core.AbortMultipartUpload(ctx, m.config.Bucket, key, id)
}

// Uploads implements s3api.Multiparter with the first page of them.
func (m multipart) Uploads(ctx context.Context) ([]s3api.Upload, error) {
	page, err := m.core.ListMultipartUploads(ctx, m.config.Bucket, "", "", "", "", uploadsMax)
	if err != nil {
		return nil, err
	}
	out := make([]s3api.Upload, len(page.Uploads))
	for i, u := range page.Uploads {
		out[i] = s3api.Upload{Key: u.Key, ID: u.UploadID, Began: u.Initiated}
	}
	return out, nil
}

// Multipart returns the upload in parts, for tests.
func (b *Bucket) Multipart() s3api.Multiparter { return multipart{b} }
