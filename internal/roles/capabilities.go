package roles

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// probeAgain is how long a target that could not be asked is left alone.
const probeAgain = time.Minute

// capabilities is what the targets have shown that they can do. Nothing of the archive
// rests on it: it is for people, and says what a provider really does.
type capabilities struct {
	mu    sync.Mutex
	found map[string][]string // guarded by mu: by target; those that are missing have a minus
	tried map[string]time.Time
}

// of returns what is known of a target, nil when it was not asked yet.
func (c *capabilities) of(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.found[name])
}

// probe asks each target once, and those that did not answer again later, until ctx ends.
func (c *capabilities) probe(ctx context.Context, targets func() []tiering.Target) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, t := range targets() {
			if c.due(t.Name) && t.Bucket != nil {
				c.ask(ctx, t)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *capabilities) due(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil {
		c.found, c.tried = map[string][]string{}, map[string]time.Time{}
	}
	if c.found[name] != nil || time.Since(c.tried[name]) < probeAgain {
		return false
	}
	c.tried[name] = time.Now()
	return true
}

func (c *capabilities) ask(ctx context.Context, t tiering.Target) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found, err := target.Probe(ctx, t.Bucket)
	if err != nil {
		return // it is away: its state says why
	}
	names := slices.Clone(found.Names)
	for name := range found.Missing {
		names = append(names, "-"+name)
	}
	slices.Sort(names)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found[t.Name] = names
}

// probeLock finds out whether a bucket keeps a locked object from being deleted, by trying.
func probeLock(ctx context.Context, b bucket.Bucket) (bool, error) {
	found, err := target.ProbeRetention(ctx, b)
	return found.Has(target.CapRetention), err
}
