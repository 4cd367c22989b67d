package tiering

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// faultsMax bounds the problems reported for one fragment.
const faultsMax = 16

// checkObject reads all fragments of an object, checks each alone, all together, and
// the object they make.
func (c *checker) checkObject(ctx context.Context, o *object) {
	pieces := make([][]byte, len(o.fragments))
	good := make([][]byte, len(o.fragments))
	eachLimited(len(pieces), len(pieces), func(i int) { pieces[i], good[i] = c.checkFragment(ctx, o, i) })
	if ctx.Err() != nil {
		return
	}
	sealed, _, err := erasure.Rebuild(o.Meta, good)
	if err != nil {
		sealed, _, err = erasure.Rebuild(o.Meta, pieces) // damaged fragments still have good blocks
	}
	if err != nil {
		c.problem(Problem{Target: "archive", Key: o.describe(), Offset: -1, Kind: ProblemObject, err: err,
			Detail: fmt.Sprintf("it can't be rebuilt from the targets that answered: %v", err)})
		return
	}
	_, coded, err := erasure.Encode(o.Meta, sealed)
	if err != nil {
		c.problem(problemOf("archive", o.describe(), ProblemObject, err))
		return
	}
	for i, f := range coded {
		if erasure.Sum(f) != o.fragments[i].sum {
			c.problem(Problem{Target: "archive", Key: o.describe(), Offset: -1, Kind: ProblemObject,
				Detail: fmt.Sprintf("fragment %d of the code does not belong to the other ones", i)})
			return
		}
	}
	if opens(c.keys) {
		span, err := openObject(ctx, c.keys, sealed)
		if err == nil {
			err = o.checkOpened(span)
		}
		if err != nil {
			c.problem(problemOf("archive", o.describe(), ProblemObject, err))
		}
	}
	if c.repair {
		c.repairFragments(ctx, o, good, coded)
	}
}

// checkFragment reads one fragment. piece is what was there, good the same when it is
// exactly what the manifest says.
func (c *checker) checkFragment(ctx context.Context, o *object, i int) (piece, good []byte) {
	f, key := o.fragments[i], o.name().key(o.Cluster, o.Shard, i)
	if f.target == "" {
		name := fmt.Sprintf("fragment %d", i)
		if i < len(c.remotes) {
			name = c.remotes[i].Name
		}
		c.problem(Problem{Target: name, Key: key, Offset: -1, Kind: ProblemDegraded, Detail: "it was never placed: its target was away when the object was archived"})
		return nil, nil
	}
	r := remoteNamed(c.remotes, f.target)
	if r == nil {
		c.unreachable(f.target, errors.New("not given"))
		return nil, nil
	}
	data, err := c.read(ctx, r, key, 1, 0)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		c.problem(Problem{Target: r.Name, Key: key, Offset: -1, Kind: ProblemFragmentMissing, Detail: "the manifest places it here and it is not"})
		return nil, nil
	case err != nil:
		if ctx.Err() == nil {
			c.unreachable(r.Name, err)
		}
		return nil, nil
	case erasure.Sum(data) == f.sum:
		return data, data
	}
	faults := erasure.VerifyFragment(&o.Meta, i, data)
	for _, fault := range faults[:min(len(faults), faultsMax)] {
		c.problem(Problem{Target: r.Name, Key: key, Offset: fault.Offset, Kind: ProblemFragmentRotten, Detail: fault.Reason})
	}
	if len(faults) == 0 {
		c.problem(Problem{Target: r.Name, Key: key, Offset: -1, Kind: ProblemFragmentRotten, Detail: "every block checksum holds, but it is not what the manifest says: it was replaced"})
	}
	return data, nil
}

// repairFragments rewrites the fragments that should be there and are not good.
func (c *checker) repairFragments(ctx context.Context, o *object, good, coded [][]byte) {
	for i, f := range o.fragments {
		r := remoteNamed(c.remotes, f.target)
		if good[i] != nil || r == nil || c.isSilent(r.Name) {
			continue
		}
		key := o.name().key(o.Cluster, o.Shard, i)
		if err := r.putVerified(ctx, key, coded[i], always, func() error { return nil }); err == nil {
			c.fix(Problem{Target: r.Name, Key: key, Offset: -1, Kind: ProblemFragmentRotten, Detail: "rewritten from the other fragments"})
		}
	}
}

func (c *checker) isSilent(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.silent[name]
}
