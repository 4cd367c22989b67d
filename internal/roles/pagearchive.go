package roles

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/archived"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// pageArchive opens the archive for a page server that reads it itself, when it is needed
// first. The targets need not be there at the start.
type pageArchive struct {
	p    *process
	cfg  *config.PageServer
	c    *client.Client
	keys tiering.KeyProvider

	mu      sync.Mutex
	cluster cluster.ID       // guarded by mu; zero until it is known
	targets []tiering.Target // guarded by mu; nil until the cluster is known
	opened  []bucket.Bucket  // guarded by mu
}

// openPageArchive returns nil when the page server does not read the archive itself. What is
// wrong with the URLs or the key is an error; a target that does not answer is none.
func openPageArchive(_ context.Context, p *process, cfg *config.PageServer, c *client.Client) (pageserver.Archive, error) {
	if len(cfg.Targets) == 0 {
		return nil, nil
	}
	keys, err := tiering.LoadKeyFile(cfg.Key)
	if err != nil {
		return nil, err
	}
	if _, err := parseTargets(cfg.Targets); err != nil {
		return nil, err
	}
	opener := &pageArchive{p: p, cfg: cfg, c: c, keys: keys}
	p.group.add("archive targets", func(context.Context) error { return opener.close() })
	a, err := archived.New(archived.Options{Open: opener.open, Logger: p.log})
	if err != nil {
		return nil, err
	}
	p.group.add("archive reader", func(context.Context) error { return a.Close() })
	return a, nil
}

func (a *pageArchive) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, b := range a.opened {
		errs = append(errs, b.Close())
	}
	a.opened = nil
	return errors.Join(errs...)
}

// open opens the archive of a shard.
func (a *pageArchive) open(ctx context.Context, shard logcore.ShardID) (*tiering.Reader, error) {
	id, targets, err := a.ready(ctx)
	if err != nil {
		return nil, err
	}
	return tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: targets, Keys: a.keys, Cluster: id, Shard: shard,
		ReadAheadBytes: int64(a.cfg.ArchiveReadBytes) / archived.PassesMax, Logger: a.p.log,
		Corruptions: a.p.corrupt.WithLabelValues("fragment"), ManifestCorruptions: a.p.corrupt.WithLabelValues("manifest")})
}

// ready finds out which cluster's archive it is and prepares its targets, once.
func (a *pageArchive) ready(ctx context.Context) (cluster.ID, []tiering.Target, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.targets != nil {
		return a.cluster, a.targets, nil
	}
	id, err := a.whichCluster(ctx)
	if err != nil {
		return id, nil, fmt.Errorf("it is not known which cluster's archive this is: %w", err)
	}
	targets := make([]tiering.Target, len(a.cfg.Targets))
	for i, url := range a.cfg.Targets {
		spec, err := target.Parse(url)
		if err != nil {
			return id, nil, err
		}
		lazy, err := target.OpenLazy(url, markerOf(id, spec.Name))
		if err != nil {
			return id, nil, err
		}
		a.opened = append(a.opened, lazy.Bucket)
		b, err := bucket.Harden(lazy.Bucket, bucket.HardenOptions{Target: lazy.Name, Metrics: a.p.bucketMetrics(),
			Retry: bucket.RetryOptions{Attempts: 3, AttemptTimeout: 15 * time.Second, BackoffMax: time.Second}})
		if err != nil {
			return id, nil, err
		}
		targets[i] = tiering.Target{Name: spec.Name, Provider: spec.Provider, Region: spec.Region, Home: spec.Home, Prices: tiering.Prices(spec.Prices), Bucket: b}
	}
	a.cluster, a.targets = id, targets
	return id, targets, nil
}

// toldCluster asks the log service which cluster it is.
func toldCluster(ctx context.Context, c *client.Client) (id cluster.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, clusterWithin/2)
	defer cancel()
	st, err := c.Status(ctx)
	if err != nil {
		return id, err
	}
	raw, err := hex.DecodeString(st.Cluster)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("the log service says that its cluster is %q", st.Cluster)
	}
	return cluster.ID(raw), nil
}

// whichCluster asks the store, the log service and the targets, whichever knows.
func (a *pageArchive) whichCluster(ctx context.Context) (cluster.ID, error) {
	if id, ok := storedCluster(a.cfg.Dir); ok {
		return cluster.ID(id), nil
	}
	id, err := toldCluster(ctx, a.c)
	if err == nil {
		return id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, clusterWithin)
	defer cancel()
	// A majority of the targets that answer has to say the same: one may be somebody else's.
	votes := map[cluster.ID]int{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	errs := []error{err}
	for _, url := range a.cfg.Targets {
		asking.Go(func() {
			id, err := markedCluster(ctx, url)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			votes[cluster.ID(id)]++
		})
	}
	asking.Wait()
	for id, n := range votes {
		if 2*n > len(a.cfg.Targets) {
			return id, nil
		}
	}
	return cluster.ID{}, errors.Join(errs...)
}
