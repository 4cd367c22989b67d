package roles

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/pageserver/checkpoint"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// checkpointKeys is the archive's key ring as checkpoints need it.
type checkpointKeys struct{ ring tiering.KeyProvider }

var _ checkpoint.Keys = checkpointKeys{}

func (k checkpointKeys) Current() [8]byte { return k.ring.Current() }

func (k checkpointKeys) Derive(ctx context.Context, id [8]byte, salt []byte, info string) ([32]byte, error) {
	return k.ring.Derive(ctx, id, salt, info)
}

// clusterWithin bounds how long a page server asks which cluster it belongs to.
const clusterWithin = 5 * time.Second

// openCheckpoints opens the place of a page server's checkpoints; nil when it has none.
// The target need not be there.
func openCheckpoints(ctx context.Context, p *process, cfg *config.PageServer, c *client.Client) (*checkpoint.Options, error) {
	if cfg.CheckpointTarget == "" {
		return nil, nil
	}
	keys, err := tiering.LoadKeyFile(cfg.Key)
	if err != nil {
		return nil, err
	}
	spec, err := target.Parse(cfg.CheckpointTarget)
	if err != nil {
		return nil, err
	}
	cluster, err := checkpointCluster(ctx, cfg, c)
	if err != nil {
		p.log.Warn("page server: no checkpoints until the next start: it is not known which cluster this is", "err", err)
		return nil, nil
	}
	t, err := target.OpenLazy(cfg.CheckpointTarget, target.Marker{Cluster: cluster, Name: spec.Name})
	if err != nil {
		return nil, err
	}
	p.group.add("checkpoint target", func(context.Context) error { return t.Bucket.Close() })
	b, err := bucket.Harden(t.Bucket, bucket.HardenOptions{Target: t.Name, Metrics: p.bucketMetrics(),
		Retry: bucket.RetryOptions{Attempts: 3, AttemptTimeout: 15 * time.Second, BackoffMax: time.Second}})
	if err != nil {
		return nil, err
	}
	return &checkpoint.Options{Bucket: b, Cluster: cluster, Name: cfg.CheckpointName, Keys: checkpointKeys{keys}, Logger: p.log,
		Registerer: p.registry, Corruptions: p.corrupt.WithLabelValues("pageserver")}, nil
}

// checkpointCluster finds out which cluster the page server belongs to: from the store it
// has, the target's marker or the log service, whichever knows.
func checkpointCluster(ctx context.Context, cfg *config.PageServer, c *client.Client) (target.ClusterID, error) {
	if id, ok := storedCluster(cfg.Dir); ok {
		return target.ClusterID(id), nil
	}
	marker, cancel := context.WithTimeout(ctx, clusterWithin)
	defer cancel()
	id, markerErr := markedCluster(marker, cfg.CheckpointTarget)
	if markerErr == nil {
		return id, nil
	}
	told, err := toldCluster(ctx, c)
	if err != nil {
		return id, errors.Join(markerErr, err)
	}
	return target.ClusterID(told), nil
}

// stores returns where a page server's stores are, those that are there or may be.
func stores(dir string) []string {
	shared, err := filepath.Glob(filepath.Join(dir, "stripes", "*", "store"))
	if err != nil {
		shared = nil // the pattern is at fault: as if there were none
	}
	return append(shared, filepath.Join(dir, "store"))
}

// hasStore reports whether a page server's directory has something to serve.
func hasStore(dir string) bool {
	return slices.ContainsFunc(stores(dir), func(store string) bool {
		_, err := os.Stat(store)
		return err == nil
	})
}

// storedCluster returns the cluster that a page server's stores say they belong to.
func storedCluster(dir string) (cluster [16]byte, ok bool) {
	for _, store := range stores(dir) {
		if cluster, ok = checkpoint.ClusterOf(store); ok {
			return cluster, true
		}
	}
	return cluster, false
}

func markedCluster(ctx context.Context, url string) (target.ClusterID, error) {
	t, err := target.Open(ctx, url)
	if err != nil {
		return target.ClusterID{}, err
	}
	defer t.Bucket.Close()
	m, err := target.ReadMarker(ctx, t.Bucket)
	return m.Cluster, err
}

// homeTarget chooses where a development service's page server keeps its checkpoints: the
// first target that is near, or the first one.
func homeTarget(urls []string) string {
	for _, url := range urls {
		if spec, err := target.Parse(url); err == nil && spec.Home {
			return url
		}
	}
	if len(urls) == 0 {
		return ""
	}
	return urls[0]
}
