package s3

import (
	"testing"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

func TestRealGateway(t *testing.T) {
	buckettest.RunS3(t, func(c s3api.Config) (bucket.Bucket, error) { return Open(c) })
}
