// Package target opens the places where the archive lives: it reads a target's URL,
// finds its credentials, and knows the marker that says which cluster's target it is.
//
// A target is one bucket at one provider. Its URL never holds a secret:
//
//	dir:///abs/path?name=a1&provider=a&region=r1
//	s3://bucket?endpoint=https://HOST:PORT&region=us-east-1&name=…&provider=…&ca=FILE
//	minio://bucket?…            the same, for every S3-compatible store but AWS
//	mem://name                  this process's memory, for tests
package target

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/dir"
	"github.com/logcore/logcore/tiering/bucket/mem"
	"github.com/logcore/logcore/tiering/bucket/minio"
	"github.com/logcore/logcore/tiering/bucket/s3"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// Target is an opened target.
type Target struct {
	// Name identifies the target inside a cluster: unique, for ever.
	Name string
	// Provider is the failure domain: what is lost together when a cloud is lost.
	Provider string
	// Region is where it is, for people and for placement.
	Region string
	// Home says that reading from here is free and near.
	Home bool
	// Prices is what the provider asks.
	Prices Prices
	// URL is the URL it was opened with. It holds no secret.
	URL string
	// Bucket is the bare bucket: no retries, no limits, no metrics.
	Bucket bucket.Bucket
}

// String returns the name and the URL.
func (t Target) String() string { return t.Name + " (" + t.URL + ")" }

// Open opens the target of a URL. It makes nothing: a directory that is missing is
// bucket.ErrGone. For s3 and minio nothing is sent yet; the first call finds out
// whether the bucket is there. A malformed URL wraps bucket.ErrInvalid and names every
// bad field.
func Open(ctx context.Context, rawURL string) (Target, error) {
	if err := ctx.Err(); err != nil {
		return Target{}, err
	}
	spec, err := Parse(rawURL)
	if err != nil {
		return Target{}, err
	}
	b, err := spec.open()
	if err != nil {
		return Target{}, fmt.Errorf("target %s: %w", spec.Name, err)
	}
	return Target{Name: spec.Name, Provider: spec.Provider, Region: spec.Region, Home: spec.Home, Prices: spec.Prices, URL: spec.String(), Bucket: b}, nil
}

// Init prepares a new target and opens it: a directory is made, with its parents; of an
// S3 bucket, which only its owner can make, it checks that it answers.
func Init(ctx context.Context, rawURL string) (Target, error) {
	spec, err := Parse(rawURL)
	if err != nil {
		return Target{}, err
	}
	if spec.Scheme == "dir" {
		if err := dir.Init(spec.Path); err != nil {
			return Target{}, fmt.Errorf("target %s: %w", spec.Name, err)
		}
	}
	t, err := Open(ctx, rawURL)
	if err != nil {
		return Target{}, err
	}
	if err := Check(ctx, t); err != nil {
		return Target{}, errors.Join(err, t.Bucket.Close())
	}
	return t, nil
}

// answerTimeout bounds the first call to a target: one that hangs must not hold up a program
// that starts.
const answerTimeout = 5 * time.Second

// Check asks a target for its marker, to see that it is reachable and that the
// credentials are taken. Whether there is a marker doesn't matter. It takes 5 s at most.
func Check(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := t.Bucket.Head(ctx, MarkerKey); err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	return nil
}

func (s Spec) open() (bucket.Bucket, error) {
	switch s.Scheme {
	case "dir":
		return dir.Open(s.Path)
	case "mem":
		return mem.Named(s.Path), nil
	}
	credentials, err := s3api.FindCredentials(s.Credentials)
	if err != nil {
		return nil, err
	}
	config := s3api.Config{Bucket: s.Bucket, Region: s.Region, Endpoint: s.Endpoint, CAFile: s.CAFile, Credentials: credentials}
	if s.Scheme == "s3" {
		return s3.Open(config)
	}
	return minio.Open(config)
}
