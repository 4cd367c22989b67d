package s3api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The sizes of an upload in parts. One PUT is the better way as long as a connection that
// breaks costs little to begin again.
const (
	MultipartFromDefault = 16 << 20
	PartBytesDefault     = 8 << 20
	partBytesMin         = 5 << 20 // what S3 asks of every part but the last
	partsAtOnce          = 4
	abortTimeout         = 20 * time.Second
	// leftoverAfter is how old an upload must be to be one that nobody finishes: a put is
	// bounded by its context, which is bounded by minutes.
	leftoverAfter = time.Hour
)

// Part is an uploaded part.
type Part struct {
	Number   int // from 1
	ETag     string
	Checksum string // its CRC-32C as in a header
}

// Upload is an upload in parts that was begun.
type Upload struct {
	Key, ID string
	Began   time.Time
}

// Multiparter is what a client does of an upload in parts. Checksums are CRC-32C as a
// header carries them; that of the object is of the whole of it.
type Multiparter interface {
	Begin(ctx context.Context, key string) (id string, err error)
	PutPart(ctx context.Context, key, id string, number int, data []byte, checksum string) (etag string, err error)
	// Complete makes the object exist, unless its key does already.
	Complete(ctx context.Context, key, id string, parts []Part, checksum string) error
	Abort(ctx context.Context, key, id string) error
	// Uploads returns uploads that were begun and not ended, some of them at least.
	Uploads(ctx context.Context) ([]Upload, error)
}

// PutParts stores data in parts, some at once. When that fails the parts are removed, as
// far as the provider can be reached; SweepUploads removes what stays. The error is the
// client's own.
func PutParts(ctx context.Context, m Multiparter, key string, data []byte, partBytes int, checksum string) (err error) {
	id, err := m.Begin(ctx, key)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		// Also when ctx has ended: parts that stay are paid for.
		abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		abandon(abort, m, key, id)
	}()
	parts, err := putParts(ctx, m, key, id, data, partBytes)
	if err != nil {
		return err
	}
	return m.Complete(ctx, key, id, parts, checksum)
}

// abandon aborts an upload, best effort. A part that was still on its way may arrive after
// that and bring the upload back, as the protocol's documentation warns: so it looks again.
func abandon(ctx context.Context, m Multiparter, key, id string) {
	for pause := 20 * time.Millisecond; pause < time.Second; pause *= 3 {
		if err := m.Abort(ctx, key, id); err != nil && ctx.Err() != nil {
			return
		}
		time.Sleep(pause)
		uploads, err := m.Uploads(ctx)
		if err != nil || !slices.ContainsFunc(uploads, func(u Upload) bool { return u.ID == id }) {
			return
		}
	}
}

// putParts uploads the parts. After a failure no further one is begun, but those on their
// way are waited for: one that is cut off may yet arrive at the provider, after the abort.
func putParts(ctx context.Context, m Multiparter, key, id string, data []byte, partBytes int) ([]Part, error) {
	parts := make([]Part, (len(data)+partBytes-1)/partBytes)
	errs := make([]error, len(parts))
	var failed atomic.Bool
	slots := make(chan struct{}, partsAtOnce)
	var group sync.WaitGroup
	for i := range parts {
		slots <- struct{}{}
		if failed.Load() {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			piece := data[i*partBytes : min((i+1)*partBytes, len(data))]
			sum := ChecksumHeader(Checksum(piece))
			etag, err := m.PutPart(ctx, key, id, i+1, piece, sum)
			if err != nil {
				errs[i] = err
				failed.Store(true)
				return
			}
			parts[i] = Part{i + 1, etag, sum}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// SweepUploads aborts uploads that nobody will finish: those of programs that were killed.
// It returns how many.
func SweepUploads(ctx context.Context, m Multiparter, now time.Time) (int, error) {
	uploads, err := m.Uploads(ctx)
	if err != nil {
		return 0, fmt.Errorf("list uploads in parts: %w", err)
	}
	var errs []error
	swept := 0
	for _, u := range uploads {
		if now.Sub(u.Began) < leftoverAfter {
			continue
		}
		if err := m.Abort(ctx, u.Key, u.ID); err != nil {
			errs = append(errs, fmt.Errorf("abort the upload of %s: %w", u.Key, err))
			continue
		}
		swept++
	}
	return swept, errors.Join(errs...)
}
