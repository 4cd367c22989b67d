package tiering

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/logcore/logcore"
)

// Traces is what the targets show of a shard's archive, whether it has a manifest or not.
type Traces struct {
	Fragments int
	Objects   int         // that they are of
	Last      logcore.LSN // the newest that any of them holds
	Epoch     uint64      // the highest that an archiver has claimed; 0 = none
}

// FindTraces looks for traces of a shard's archive. What a target that does not answer holds is not seen; it fails with ErrUnproven when
// too few answer to say that what is not seen is not there.
func FindTraces(ctx context.Context, targets []Target, cluster [16]byte, shard logcore.ShardID) (t Traces, err error) {
	remotes := newRemotes(targets, ReaderOptions{}.withDefaults().OpTimeout)
	var mu sync.Mutex
	var errs []error
	objects := map[objectName]bool{}
	eachLimited(len(remotes), len(remotes), func(i int) {
		fragments, err := remotes[i].list(ctx, fragmentPrefix(cluster, shard), "")
		var claims []uint64
		if err == nil {
			claims, err = remotes[i].claims(ctx, cluster, shard)
		}
		mu.Lock()
		defer mu.Unlock()
		t.Fragments += len(fragments)
		for _, f := range fragments {
			if n, _, ok := parseFragmentKey(cluster, shard, f.Key); ok {
				objects[n] = true
				t.Last = max(t.Last, n.last)
			}
		}
		for _, epoch := range claims {
			t.Epoch = max(t.Epoch, epoch)
		}
		if err != nil {
			errs = append(errs, err)
		}
	})
	t.Objects = len(objects)
	if len(errs) > len(remotes)-majority(len(remotes)) {
		return t, fmt.Errorf("%w: %d of %d targets don't list what they hold: %w", ErrUnproven, len(errs), len(remotes), errors.Join(errs...))
	}
	return t, ctx.Err()
}

// claims lists the epochs that left their claim on a target.
func (r *remote) claims(ctx context.Context, cluster [16]byte, shard logcore.ShardID) (epochs []uint64, err error) {
	prefix := claimPrefix(cluster, shard)
	keys, err := r.list(ctx, prefix, "")
	for _, c := range keys {
		epoch, _ := strconv.ParseUint(strings.TrimPrefix(c.Key, prefix), 16, 64)
		epochs = append(epochs, epoch)
	}
	return epochs, err
}
