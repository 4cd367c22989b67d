package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// hedgeAfter is how long the first k fragments may take before the others are asked too.
const hedgeAfter = 500 * time.Millisecond

// piece is what one target answered.
type piece struct {
	index int
	data  []byte
	err   error // missing, not answered, or not what the manifest says
	bad   bool  // the target answered, and it is damage
}

// gather gets the same range of an object's fragments from the targets: k of them, and
// the others once one fails or is slow. n < 0 means whole fragments, which are checked
// against the manifest's hashes. decode is tried whenever k good ones are there, and at
// last with everything, since damaged fragments may still have good blocks.
func (r *Reader) gather(ctx context.Context, o *object, off, n int64, decode func(pieces [][]byte) ([]byte, []erasure.Fault, error)) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	order := r.order(o)
	answers := make(chan piece, len(order)) // each asked target answers once, whoever still listens
	pieces := make([][]byte, len(o.fragments))
	asked, good, open := 0, 0, 0
	whole := make([]bool, len(pieces)) // which of them are good
	ask := func(count int) {
		for ; count > 0 && asked < len(order); count-- {
			i := order[asked]
			asked, open = asked+1, open+1
			go func() { answers <- r.getPiece(ctx, o, i, off, n) }()
		}
	}
	defer func() { // no goroutine outlives the call
		cancel()
		for ; open > 0; open-- {
			<-answers
		}
	}()
	ask(o.K)
	hedge := time.NewTimer(hedgeAfter)
	defer hedge.Stop()
	why := r.unaskable(o, order)
	var bad []piece
	for open > 0 {
		select {
		case p := <-answers:
			open--
			pieces[p.index], whole[p.index] = p.data, p.err == nil
			r.stats.bytes.Add(int64(len(p.data)))
			if p.err == nil {
				good++
			} else {
				why = append(why, p.err.Error())
				if p.bad {
					bad = append(bad, p)
				}
				ask(1)
			}
		case <-hedge.C:
			ask(len(order))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if good < o.K {
			continue
		}
		data, faults, err := decode(pieces)
		if n >= 0 { // whole fragments were checked against their hashes
			bad = append(bad, faultPieces(o, faults)...)
		}
		if err == nil {
			r.report(o, bad)
			r.stats.countRebuilt(whole[:o.K])
			return data, nil
		}
		why = append(why, err.Error())
		ask(len(order)) // a block of a range is rotten: others have it
	}
	data, _, err := decode(pieces)
	if err == nil {
		r.report(o, bad)
		return data, nil
	}
	return nil, &FragmentsError{Shard: o.Shard, First: o.First, Last: o.Last, Need: o.K, Have: good, Missing: why, damaged: len(bad)}
}

// order returns which fragments to ask for: the object's own bytes before parity,
// healthy targets before others.
func (r *Reader) order(o *object) []int {
	var healthy, rest []int
	for i, f := range o.fragments {
		t := remoteNamed(r.remotes, f.target)
		if t == nil || t.Bucket == nil {
			continue
		}
		if ok, _ := t.health(); ok {
			healthy = append(healthy, i)
		} else {
			rest = append(rest, i)
		}
	}
	return append(healthy, rest...)
}

// unaskable says of each fragment that can't be asked for why.
func (r *Reader) unaskable(o *object, order []int) (why []string) {
	for i, f := range o.fragments {
		switch {
		case slices.Contains(order, i):
		case f.target == "":
			why = append(why, fmt.Sprintf("fragment %d was never placed", i))
		case remoteNamed(r.remotes, f.target) == nil:
			why = append(why, f.target+": not given")
		default:
			why = append(why, fmt.Sprintf("%s: %v", f.target, errNoBucket))
		}
	}
	return why
}

// getPiece gets one fragment or a range of it.
func (r *Reader) getPiece(ctx context.Context, o *object, i int, off, n int64) piece {
	t := remoteNamed(r.remotes, o.fragments[i].target)
	key := o.name().key(o.Cluster, o.Shard, i)
	data, err := t.get(ctx, key, off, n)
	p := piece{index: i, data: data}
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		p.bad, p.err = true, fmt.Errorf("%s: %s: missing", t.Name, key)
	case err != nil:
		p.err = fmt.Errorf("%s: %w", t.Name, err)
	case n < 0 && erasure.Sum(data) != o.fragments[i].sum:
		p.bad, p.err = true, fmt.Errorf("%s: %s: rotten: %s", t.Name, key, firstFault(o, i, data))
	}
	return p
}

// firstFault says what is wrong with a fragment that has the wrong hash.
func firstFault(o *object, i int, data []byte) string {
	if faults := erasure.VerifyFragment(&o.Meta, i, data); len(faults) > 0 {
		return fmt.Sprintf("at offset %d: %s", faults[0].Offset, faults[0].Reason)
	}
	return "every block checksum holds, but it is not what the manifest says"
}

// report counts and logs damaged and missing fragments of an object that could be read
// all the same, and passes them on for repair.
func (r *Reader) report(o *object, bad []piece) {
	seen := map[int]bool{}
	for _, p := range bad {
		if seen[p.index] {
			continue
		}
		seen[p.index] = true
		r.corruptions.Inc()
		r.log.Error("a fragment is damaged; its object is read from the others", "object", o.describe(), "fragment", p.index, "error", p.err)
		if r.onRotten != nil {
			r.onRotten(o.name(), p.index)
		}
	}
}

func faultPieces(o *object, faults []erasure.Fault) (out []piece) {
	for _, f := range faults {
		key := o.name().key(o.Cluster, o.Shard, f.Index)
		out = append(out, piece{index: f.Index, err: fmt.Errorf("%s: %s at offset %d: %s", o.fragments[f.Index].target, key, f.Offset, f.Reason)})
	}
	return out
}

// fetchObject returns a whole sealed object, its digest verified.
func (r *Reader) fetchObject(ctx context.Context, o *object) ([]byte, error) {
	return r.gather(ctx, o, 0, -1, func(pieces [][]byte) ([]byte, []erasure.Fault, error) {
		return erasure.Rebuild(o.Meta, pieces)
	})
}

// fetchRange returns [off, off+n) of a sealed object, touching only its stripes.
func (r *Reader) fetchRange(ctx context.Context, o *object, off, n int64) ([]byte, error) {
	start, length, err := o.FragmentRange(off, n)
	if err != nil {
		return nil, err
	}
	return r.gather(ctx, o, start, length, func(pieces [][]byte) ([]byte, []erasure.Fault, error) {
		return erasure.ReadRange(o.Meta, off, n, pieces)
	})
}
