package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/replication"
)

// GroupsOptions says which groups OpenGroups opens.
type GroupsOptions struct {
	// Log configures the hot log of a shard. Required. The directories are siblings, shard-0, shard-1, and so on.
	Log func(logcore.ShardID) hotlog.Options
	// Shards is how many there are to be at least: a member that is alone founds what is missing. 0 means those
	// that there are, or one.
	Shards int
	// Group completes the options of a shard's group; nil changes nothing.
	Group func(*replication.Options)
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// OpenGroups opens this member's part of every shard. Shard 0 says how many there are: its catalog has the
// directory. When one that must be there is missing it refuses: what it held is lost, which is no
// reason to begin it anew. All shards of a member have its id, all of a cluster the same incarnation.
func OpenGroups(ctx context.Context, o GroupsOptions) (groups []*replication.Group, err error) {
	defer func() {
		if err != nil {
			for _, g := range groups {
				err = errors.Join(err, g.Close())
			}
			groups = nil
		}
	}()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	clock := logcore.NewClock(nil) // one for all: what is moved from one shard to another keeps its order
	open := func(shard logcore.ShardID, found *replication.MemberState) error {
		opts := replication.Options{Log: o.Log(shard), Found: found, Clock: clock}
		if o.Group != nil {
			o.Group(&opts)
		}
		g, err := replication.Open(ctx, opts)
		if err == nil {
			groups = append(groups, g)
		}
		return err
	}
	dir := filepath.Dir(o.Log(0).Dir)
	present := PresentShards(dir)
	if present > 1 {
		if err := shardThere(dir, 0); err != nil {
			return groups, err
		}
	}
	if err := open(0, nil); err != nil {
		return groups, err
	}
	first := groups[0].Status()
	alone := len(first.Members.All()) == 1 && first.Members.All()[0] == first.Member
	known := 1
	groups[0].View(func(s *catalog.State) { known = s.Shards() })
	want := max(known, present)
	if alone {
		want = max(want, o.Shards)
	} else if o.Shards > want {
		o.Logger.Warn("node: shards are added by a member that is alone only; this cluster keeps those it has", "shards", want, "asked", o.Shards)
	}
	if want > catalog.ShardsMax {
		return groups, fmt.Errorf("%w: %d shards, at most %d", logcore.ErrInvalid, want, catalog.ShardsMax)
	}
	for i := 1; i < want; i++ {
		shard := logcore.ShardID(i)
		if i < known || i < present-1 || i < present && !alone { // the newest may be one that was being founded when the process ended
			if err := shardThere(dir, shard); err != nil {
				return groups, err
			}
		}
		if _, err := replication.ReadState(shardDir(dir, shard)); !alone && errors.Is(err, fs.ErrNotExist) {
			return groups, fmt.Errorf("%w: %s was not filled when this node joined: start it again while a peer answers, or with an empty directory", logcore.ErrInvalid, shardDir(dir, shard))
		}
		found := replication.FoundingState(shard, first.Member, []uint64{first.Member}, first.Incarnation)
		if err := open(shard, &found); err != nil {
			return groups, fmt.Errorf("shard %d: %w", shard, err)
		}
		if id := groups[i].Status().Member; id != first.Member {
			return groups, fmt.Errorf("%w: %s belongs to member %x, %s to member %x: the directories are not of one member", logcore.ErrInvalid, o.Log(shard).Dir, id, o.Log(0).Dir, first.Member)
		}
	}
	if want > known && alone {
		return groups, recordShards(ctx, groups[0], want)
	}
	return groups, nil
}

// recordShards writes into the directory how many shards there are, once they are there.
func recordShards(ctx context.Context, g *replication.Group, n int) error {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	err := g.Do(ctx, commandBytes, func(p *replication.Proposer) error {
		if p.Catalog().Shards() >= n {
			return nil
		}
		_, err := p.Command(catalog.Command{Op: catalog.OpShards, Shards: uint32(n)})
		return err
	})
	if err != nil {
		return fmt.Errorf("node: the number of shards was not recorded: %w", err)
	}
	return nil
}

// PresentShards returns one more than the highest shard that has a directory, at least 1.
func PresentShards(dir string) int {
	n := 1
	entries, _ := os.ReadDir(dir) // none: nothing is there
	for _, e := range entries {
		var shard, rest = 0, ""
		if k, _ := fmt.Sscanf(e.Name(), "shard-%d%s", &shard, &rest); k == 1 && e.IsDir() && shard < catalog.ShardsMax {
			n = max(n, shard+1)
		}
	}
	return n
}

// shardThere refuses a shard that has no directory, or an empty one.
func shardThere(dir string, shard logcore.ShardID) error {
	path := shardDir(dir, shard)
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return fmt.Errorf("%w: %s is missing: shard %d of this member is lost. Replace the member by one with an empty directory, or, when it is the only one, restore from the archive", logcore.ErrInvalid, path, shard)
	}
	return err
}

// shardDir is a shard's among those of a service.
func shardDir(dir string, shard logcore.ShardID) string {
	return filepath.Join(dir, fmt.Sprintf("shard-%d", shard))
}
