package roles

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/logcore/logcore/tiering"
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

// PrepareTarget makes the bucket at a URL a target of a cluster: a directory is made, the
// marker written. The bucket must hold nothing but what that cluster put there, or probes.
func PrepareTarget(ctx context.Context, url string, id target.ClusterID) error {
	spec, err := target.Parse(url)
	if err != nil {
		return err
	}
	return claimBucket(ctx, url, target.Marker{Cluster: id, Name: spec.Name})
}

func replace(ctx context.Context, url string, marker target.Marker) (err error) {
	if err := claimBucket(ctx, url, marker); err != nil {
		return fmt.Errorf("replacing target %s: %w", marker.Name, err)
	}
	return nil
}

func claimBucket(ctx context.Context, url string, marker target.Marker) (err error) {
	t, err := target.Init(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Bucket.Close()) }()
	found, err := target.ReadMarker(ctx, t.Bucket)
	if err == nil && found == marker {
		return fmt.Errorf("%v is target %s already: %w", t.Bucket, marker.Name, errAlready)
	}
	// What this cluster left there, say before the marker was lost, is its own: the archive
	// looks through it and keeps what it needs.
	own, foreign := tiering.ClusterPrefix(marker.Cluster), ""
	err = t.Bucket.List(ctx, "", "", func(a bucket.Attributes) bool {
		if a.Key != target.MarkerKey && !strings.HasPrefix(a.Key, own) && !strings.HasPrefix(a.Key, target.ProbePrefix) {
			foreign = a.Key
		}
		return foreign == ""
	})
	if err != nil {
		return err
	}
	if foreign != "" {
		return fmt.Errorf("%v is not empty, it holds %q: give an empty bucket, or bring back the one it was", t.Bucket, foreign)
	}
	return target.WriteMarker(ctx, t.Bucket, marker)
}

// errAlready: there is nothing to prepare.
var errAlready = errors.New("there is nothing to do: it is not empty and not lost")
