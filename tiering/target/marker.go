package target

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// WriteMarker claims a target for a cluster. Claiming it again is no error. A target
// that belongs to another cluster, or has another name, is bucket.ErrExists.
func WriteMarker(ctx context.Context, b bucket.Bucket, m Marker) error {
	if !validLabel(m.Name) || m.Cluster == (ClusterID{}) {
		return fmt.Errorf("%w: target marker: cluster %v, name %q", bucket.ErrInvalid, m.Cluster, m.Name)
	}
	// Look first: a bucket whose conditional put isn't conditional must not lose the
	// marker that is there.
	found, err := ReadMarker(ctx, b)
	if errors.Is(err, bucket.ErrNotFound) {
		if err = b.PutIfAbsent(ctx, MarkerKey, AppendMarker(nil, m)); err != nil && !errors.Is(err, bucket.ErrExists) {
			return fmt.Errorf("claim target %s for cluster %v: %w", m.Name, m.Cluster, err)
		}
		found, err = ReadMarker(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("claim target %s for cluster %v: %w", m.Name, m.Cluster, err)
	}
	if found != m {
		return fmt.Errorf("%v: %w: it is target %s of cluster %v, not target %s of cluster %v: give another bucket, or the URL's right name",
			b, bucket.ErrExists, found.Name, found.Cluster, m.Name, m.Cluster)
	}
	return nil
}

// ReadMarker reads a target's marker. A target that no cluster has claimed is
// bucket.ErrNotFound. A damaged one is a logcore.CorruptionError.
func ReadMarker(ctx context.Context, b bucket.Bucket) (Marker, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	data, err := b.Get(ctx, MarkerKey, 0, markerBytesMax+1)
	if err != nil {
		return Marker{}, fmt.Errorf("read target marker: %w", err)
	}
	m, err := DecodeMarker(data)
	if errors.Is(err, logcore.ErrCorrupt) {
		return Marker{}, &logcore.CorruptionError{Place: b.String(), Object: MarkerKey, Offset: -1, Reason: err.Error()}
	}
	if err != nil {
		return Marker{}, fmt.Errorf("%v: %w", b, err)
	}
	return m, nil
}
