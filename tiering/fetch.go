package tiering

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// piece is what one target answered.
type piece struct {
	index int
	data  []byte
	err   error // missing, not answered, or not what the manifest says
	bad   bool  // the target answered, and it is damage
}

// decodeFunc rebuilds from the pieces that are there what was asked for.
type decodeFunc func(pieces [][]byte) ([]byte, []erasure.Fault, error)

// call is a request to a target under way.
type call struct {
	candidate
	began    time.Time
	hedgeAt  time.Time // when another target is asked as well; zero = it was
	giveUpAt time.Time // when it is cut off, if another can be asked instead
	cancel   context.CancelCauseFunc
}

// gathering is one read of an object's fragments, owned by one goroutine.
type gathering struct {
	r       *Reader
	ctx     context.Context
	o       *object
	off, n  int64
	left    []candidate   // not asked yet, best first
	open    map[int]*call // by fragment
	answers chan piece    // has room for every answer, whoever still listens

	pieces [][]byte
	whole  []bool // which of pieces are good
	good   int    // how many of them
	usable int    // pieces with bytes, damaged ones included: their blocks may do
	bad    []piece
	why    []string

	doomedTill time.Time // set once even all answers could not be enough
}

// gather gets the same range of an object's fragments from the targets: the k best, and
// another for each that fails or, within the budget, is late. n < 0 means whole fragments,
// which are checked against the manifest's hashes. decode is tried whenever k good ones
// are there, and at last with everything, since damaged fragments may still have good
// blocks. It waits for no target that the result does not need.
func (r *Reader) gather(ctx context.Context, o *object, off, n int64, decode decodeFunc) ([]byte, error) {
	size := n
	if n < 0 {
		size = o.FragmentBytes()
	}
	order := r.order(o, size)
	g := &gathering{r: r, ctx: ctx, o: o, off: off, n: n, left: order, open: map[int]*call{}, answers: make(chan piece, len(order)),
		pieces: make([][]byte, len(o.fragments)), whole: make([]bool, len(o.fragments)), why: r.unaskable(o, order)}
	defer g.finish()
	g.ask(o.K)
	for len(g.open) > 0 && !g.hopeless(time.Now()) {
		p, err := g.await()
		if err != nil {
			return nil, err
		}
		if p == nil || !g.take(*p) || g.good < o.K {
			continue
		}
		data, faults, err := decode(g.pieces)
		if n >= 0 { // whole fragments were checked against their hashes
			g.bad = append(g.bad, faultPieces(o, faults)...)
		}
		if err == nil {
			r.report(o, g.bad)
			r.stats.countRebuilt(g.whole[:o.K])
			return data, nil
		}
		g.why = append(g.why, err.Error())
		g.ask(len(g.left)) // a block of a range is rotten: others have it
	}
	data, _, err := decode(g.pieces)
	if err == nil {
		r.report(o, g.bad)
		return data, nil
	}
	for i, c := range g.open {
		g.why = append(g.why, fmt.Sprintf("%s: fragment %d: no answer after %v", c.remote.Name, i, time.Since(c.began).Round(time.Millisecond)))
	}
	return nil, &FragmentsError{Shard: o.Shard, First: o.First, Last: o.Last, Need: o.K, Have: g.good, Missing: g.why, damaged: len(g.bad)}
}

// ask asks the next targets.
func (g *gathering) ask(count int) {
	for ; count > 0 && len(g.left) > 0; count-- {
		c := &call{candidate: g.left[0], began: time.Now()}
		g.left = g.left[1:]
		if !c.again {
			c.hedgeAt, c.giveUpAt = c.began.Add(c.hedge), c.began.Add(giveUpAfter(c.hedge))
		}
		var ctx context.Context
		ctx, c.cancel = context.WithCancelCause(g.ctx)
		g.open[c.index] = c
		go func() { g.answers <- g.r.getPiece(ctx, g.o, c.index, g.off, g.n) }()
		g.r.stats.hedge.earn()
	}
}

// hopeless reports whether there is nothing to wait for: even if all that are asked and
// can be asked answered, they would be too few, and those who still might have had time
// to say how many there are.
func (g *gathering) hopeless(now time.Time) bool {
	if g.usable+len(g.open)+len(g.left) >= g.o.K {
		return false
	}
	if g.doomedTill.IsZero() {
		g.doomedTill = now.Add(giveUpAfterMin)
	}
	return !now.Before(g.doomedTill)
}

// await waits for the next answer, and meanwhile asks more targets when some are late.
// It returns nil when only that has happened.
func (g *gathering) await() (*piece, error) {
	timer := time.NewTimer(time.Until(g.nextLate()))
	defer timer.Stop()
	select {
	case p := <-g.answers:
		return &p, nil
	case <-timer.C:
		g.hedge(time.Now())
		return nil, nil
	case <-g.ctx.Done():
		return nil, g.ctx.Err()
	}
}

// never is far enough in the future for every timer.
const never = 24 * time.Hour

// nextLate is when something is to be done about a call that has not answered.
func (g *gathering) nextLate() time.Time {
	next := time.Now().Add(never)
	if !g.doomedTill.IsZero() {
		next = g.doomedTill
	}
	if len(g.left) == 0 {
		return next // there is nobody else to ask
	}
	for _, c := range g.open {
		for _, at := range []time.Time{c.hedgeAt, c.giveUpAt} {
			if !at.IsZero() && at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// hedge asks another target for each call that is late, as far as the budget goes, and
// gives those up that are hopeless: for those another is asked in any case.
func (g *gathering) hedge(now time.Time) {
	for _, i := range slices.Sorted(maps.Keys(g.open)) {
		c := g.open[i]
		if len(g.left) == 0 {
			return
		}
		if !c.giveUpAt.IsZero() && !now.Before(c.giveUpAt) {
			c.giveUpAt = time.Time{}
			g.r.stats.givenUp.Add(1)
			c.cancel(errGivenUp) // its answer, an error, asks the next one
		}
		if c.hedgeAt.IsZero() || now.Before(c.hedgeAt) {
			continue
		}
		if !g.r.stats.hedge.spend() {
			c.hedgeAt = now.Add(c.hedge)
			continue
		}
		c.hedgeAt = time.Time{}
		g.askHedge()
	}
}

// askHedge is ask(1), paid from the budget.
func (g *gathering) askHedge() {
	g.ask(1)
	g.r.stats.hedge.unearn()
}

// take notes an answer and reports whether it is a good one. In place of a bad one the
// next target is asked.
func (g *gathering) take(p piece) bool {
	c := g.open[p.index]
	delete(g.open, p.index)
	c.cancel(nil)
	g.pieces[p.index], g.whole[p.index] = p.data, p.err == nil
	g.r.stats.bytes.Add(int64(len(p.data)))
	if len(p.data) > 0 {
		g.usable++
	}
	if p.err == nil {
		g.good++
		c.remote.provider.latency.add(int64(len(p.data)), time.Since(c.began))
		c.remote.answered()
		return true
	}
	if errors.Is(p.err, errGivenUp) && !c.again {
		c.remote.provider.latency.add(c.bytes(g), time.Since(c.began))
		c.again = true
		g.left = append(g.left, c.candidate) // patiently, should the others not do
		g.ask(1)
		return false
	}
	g.why = append(g.why, p.err.Error())
	if p.bad {
		g.bad = append(g.bad, p)
	}
	g.ask(1)
	return false
}

// bytes is how much was asked for.
func (c *call) bytes(g *gathering) int64 {
	if g.n < 0 {
		return g.o.FragmentBytes()
	}
	return g.n
}

// finish cuts off what is still under way and waits for it: no goroutine outlives the
// read. A target that others outran is asked later next time.
func (g *gathering) finish() {
	decided := g.ctx.Err() == nil
	for _, c := range g.open {
		if waited := time.Since(c.began); decided && c.hedgeAt.IsZero() && !c.again {
			c.remote.outrun()
			c.remote.provider.latency.addAtLeast(c.bytes(g), waited)
		}
		c.cancel(nil)
	}
	for range g.open {
		<-g.answers
	}
}

// unaskable says of each fragment that can't be asked for why.
func (r *Reader) unaskable(o *object, order []candidate) (why []string) {
	for i, f := range o.fragments {
		switch {
		case slices.ContainsFunc(order, func(c candidate) bool { return c.index == i }):
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
	if err != nil && errors.Is(context.Cause(ctx), errGivenUp) {
		err = errGivenUp
	}
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
	if object := r.cached(o); object != nil {
		return object, nil
	}
	object, err := r.gather(ctx, o, 0, -1, func(pieces [][]byte) ([]byte, []erasure.Fault, error) {
		return erasure.Rebuild(o.Meta, pieces)
	})
	if err == nil && r.cache != nil {
		r.cache.Store(o.cacheName(), object)
	}
	return object, err
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
