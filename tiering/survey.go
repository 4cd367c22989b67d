package tiering

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// Extent says how much of the archive lies in a range.
type Extent struct {
	Objects     int
	RawBytes    int64 // of entry frames
	StoredBytes int64 // of the sealed objects
	Last        logcore.LSN
}

// Extent returns how much is archived from the beginning up to an LSN and, when at is not
// 0, a time.
func (r *Reader) Extent(to logcore.LSN, at logcore.HLC) Extent {
	var e Extent
	if s := r.view(); s != nil {
		for _, o := range s.upTo(to, at) {
			e.Objects++
			e.RawBytes += o.rawBytes
			e.StoredBytes += o.Length
			e.Last = o.Last
		}
	}
	return e
}

// upTo returns the objects of the path that begin at or before an LSN and a time.
func (s *state) upTo(to logcore.LSN, at logcore.HLC) []*object {
	end := 0
	for end < len(s.path) && s.path[end].First <= to && (at == 0 || s.path[end].firstTime <= at) {
		end++
	}
	return s.path[:end]
}

// Survey looks, without reading them, whether enough fragments are left of every object
// from the beginning up to an LSN and, when at is not 0, a time. It returns the objects
// that can't be rebuilt, in order, with what is missing of each. Fragments that are rotten
// look whole to it. A listing that shows a fragment is believed; one that does not is
// checked by asking for it.
func (r *Reader) Survey(ctx context.Context, to logcore.LSN, at logcore.HLC) ([]*FragmentsError, error) {
	s := r.view()
	if s == nil {
		return nil, fmt.Errorf("%w: the archive is not taken over yet", ErrUnproven)
	}
	shelves := r.listFragments(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	objects := s.upTo(to, at)
	found := make([]*FragmentsError, len(objects))
	eachLimited(len(objects), loadConcurrency, func(i int) { found[i] = r.shortage(ctx, objects[i], shelves) })
	var short []*FragmentsError
	for _, f := range found {
		if f != nil {
			short = append(short, f)
		}
	}
	return short, ctx.Err()
}

// shelf is what a target's listing shows.
type shelf struct {
	sizes map[string]int64 // by key; nil when it could not be listed
	err   error            // why nothing is to be had from the target; nil when it answers
}

func (r *Reader) listFragments(ctx context.Context) map[string]*shelf {
	shelves := make([]*shelf, len(r.remotes))
	eachLimited(len(r.remotes), len(r.remotes), func(i int) {
		t := r.remotes[i]
		shelves[i] = &shelf{}
		if ok, err := t.health(); !ok {
			shelves[i].err = err
			return
		}
		keys, err := t.list(ctx, fragmentPrefix(r.cluster, r.shard), "")
		if err != nil {
			return // what it holds is found out one by one
		}
		shelves[i].sizes = make(map[string]int64, len(keys))
		for _, a := range keys {
			shelves[i].sizes[a.Key] = a.Size
		}
	})
	out := map[string]*shelf{}
	for i, t := range r.remotes {
		out[t.Name] = shelves[i]
	}
	return out
}

// shortage returns what an object lacks, when that is too much.
func (r *Reader) shortage(ctx context.Context, o *object, shelves map[string]*shelf) *FragmentsError {
	fe := &FragmentsError{Shard: o.Shard, First: o.First, Last: o.Last, Need: o.K}
	var doubtful []int
	for i, f := range o.fragments {
		s := shelves[f.target]
		switch {
		case f.target == "":
			fe.Missing = append(fe.Missing, fmt.Sprintf("fragment %d was never placed", i))
		case s == nil:
			fe.Missing = append(fe.Missing, f.target+": not given")
		case s.err != nil:
			fe.Missing = append(fe.Missing, fmt.Sprintf("%s: %v", f.target, s.err))
		case s.sizes == nil:
			fe.Have++ // it answers, but not to lists
		default:
			if size, ok := s.sizes[o.name().key(o.Cluster, o.Shard, i)]; ok && size == o.FragmentBytes() {
				fe.Have++
			} else {
				doubtful = append(doubtful, i)
			}
		}
	}
	if fe.Have >= o.K {
		return nil
	}
	var mu sync.Mutex
	eachLimited(len(doubtful), max(len(doubtful), 1), func(n int) {
		why := r.missing(ctx, o, doubtful[n])
		mu.Lock()
		defer mu.Unlock()
		if why == "" {
			fe.Have++
		} else {
			fe.Missing = append(fe.Missing, why)
		}
	})
	if fe.Have >= o.K {
		return nil
	}
	return fe
}

// missing asks for one fragment and says why it can't be had; nothing when it is there.
func (r *Reader) missing(ctx context.Context, o *object, i int) string {
	t, key := remoteNamed(r.remotes, o.fragments[i].target), o.name().key(o.Cluster, o.Shard, i)
	var a bucket.Attributes
	err := t.do(ctx, func(ctx context.Context) (err error) {
		a, err = t.Bucket.Head(ctx, key)
		return err
	})
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return fmt.Sprintf("%s: %s: missing", t.Name, key)
	case err != nil:
		return fmt.Sprintf("%s: %v", t.Name, err)
	case a.Size != o.FragmentBytes():
		return fmt.Sprintf("%s: %s: it has %d bytes, not %d", t.Name, key, a.Size, o.FragmentBytes())
	}
	return ""
}
