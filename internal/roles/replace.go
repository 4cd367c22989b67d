package roles

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// ReplaceTarget makes the empty bucket at the URL of the target called name that target
// from now on: what it held is lost, and the archive fills it again from the others. Of a
// directory target the directory is made. The other targets say by majority of which
// cluster it is; one that is not empty, or answers as the target it was, is left alone.
func ReplaceTarget(ctx context.Context, targets *Targets, name string) error {
	url, votes := "", map[target.ClusterID]int{}
	for i, t := range targets.All {
		if t.Name == name {
			url = targets.urls[i]
			continue
		}
		if t.Bucket == nil {
			continue
		}
		if m, err := target.ReadMarker(ctx, t.Bucket); err == nil && m.Name == t.Name {
			votes[m.Cluster]++
		}
	}
	if url == "" {
		return fmt.Errorf("no target is named %q: replace one that the configuration lists, under its old name", name)
	}
	for id, n := range votes {
		if n > len(targets.All)/2 {
			return replace(ctx, url, target.Marker{Cluster: id, Name: name})
		}
	}
	return fmt.Errorf("replacing target %s: no majority of the targets answers and says of which cluster it is", name)
}

func replace(ctx context.Context, url string, marker target.Marker) (err error) {
	t, err := target.Init(ctx, url)
	if err != nil {
		return fmt.Errorf("replacing target %s: %w", marker.Name, err)
	}
	defer func() { err = errors.Join(err, t.Bucket.Close()) }()
	empty := true
	err = t.Bucket.List(ctx, "", "", func(bucket.Attributes) bool {
		empty = false
		return false
	})
	if err != nil {
		return fmt.Errorf("replacing target %s: %w", marker.Name, err)
	}
	if !empty {
		return fmt.Errorf("replacing target %s: %v is not empty: give an empty bucket, or bring back the one it was", marker.Name, t.Bucket)
	}
	return target.WriteMarker(ctx, t.Bucket, marker)
}
