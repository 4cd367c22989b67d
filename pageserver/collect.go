package pageserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// Use is what a log takes in the store, as of the last time it was counted.
type Use struct {
	Counted time.Time
	// LogicalBytes is the length of the log's own spaces as they are now.
	LogicalBytes uint64
	// Versions is the number of page versions, VersionBytes what they take with their keys,
	// before Pebble compresses them.
	Versions, VersionBytes uint64
	// Collected is how many keys were removed then, CollectedBytes what they took.
	Collected, CollectedBytes uint64
}

// collection is one pass over what the store has of a log: it counts, and removes what no
// reader can see. It holds no lock while it reads; what it removes is below the horizon, where
// nothing is written any more.
//
// Removed is a version that no readable LSN sees and that no version which stays builds
// on, and of lengths, cuts and commits each that no readable LSN sees.
type collection struct {
	s          *Server
	l          *logState
	generation uint64
	pts        points
	use        Use
	pace       pacer
	// removing is false when the pass only counts.
	removing bool

	batch *pebble.Batch
	// run are keys to remove with nothing that stays between them, of one prefix: what is
	// written meanwhile is newer and sorts before all of it.
	run [][]byte
	// damaged are versions that fail their checksum. Of their pages nothing is removed.
	damaged []*damagedPage
}

// Limits of a pass.
const (
	collectChunkBytes = 1 << 20 // read with one iterator
	collectBatchBytes = 1 << 20 // removed at once
	// collectRunMin is how many neighbours are removed as one range: a range tombstone costs reads more
	// than a few points.
	collectRunMin = 64
	// damagedMax bounds the pages healed after one pass.
	damagedMax = 64
	// cutsMax bounds the cuts of a space that are looked at for its versions; with more,
	// versions stay until the next one of their page.
	cutsMax = 1 << 16
)

// errOtherState ends a pass over a state that was thrown away.
var errOtherState = errors.New("pageserver: the log's pages were thrown away")

// collect makes a pass over a log. Its points must have been made known before: to
// readers, in memory, and to the next process, in the store.
func (s *Server) collect(ctx context.Context, l *logState, pts points, removing bool, rate int64) (Use, error) {
	c := &collection{s: s, l: l, generation: l.generationNow(), pts: pts, removing: removing, pace: pacer{rate: rate, since: time.Now()}, batch: s.db.NewBatch()}
	defer func() { c.batch.Close() }()
	for _, step := range []func(context.Context) error{c.versions, c.sizes, c.objects, c.cuts, c.commits} {
		if err := step(ctx); err != nil {
			return c.use, err
		}
		if err := c.flush(); err != nil {
			return c.use, err
		}
	}
	for _, d := range c.damaged {
		if err := s.heal(ctx, d); err != nil {
			s.log.Warn("pageserver: a damaged page that collection met is not healed yet", "err", err)
		}
	}
	c.use.Counted = time.Now()
	return c.use, nil
}

// scan visits the keys of a log under a tag, in order, within the budget. Key and value
// are valid until visit returns.
func (c *collection) scan(ctx context.Context, tag byte, visit func(key, value []byte) error) error {
	lower := appendLogKey(nil, tag, c.l.id)
	upper := prefixEnd(lower)
	for from := lower; from != nil; {
		next, read, err := c.chunk(from, upper, visit)
		if err != nil {
			return err
		}
		if err := c.pace.took(ctx, read); err != nil {
			return err
		}
		from = next
	}
	return nil
}

// chunk visits some of the keys in [from, upper) and returns where to go on, nil at the end.
func (c *collection) chunk(from, upper []byte, visit func(key, value []byte) error) (next []byte, read int, err error) {
	it, err := c.s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: upper})
	if err != nil {
		return nil, 0, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, read, err
		}
		read += len(it.Key()) + len(value)
		if err := visit(it.Key(), value); err != nil {
			return nil, read, err
		}
		if read >= collectChunkBytes {
			return append(bytes.Clone(it.Key()), 0), read, nil
		}
	}
	return nil, read, it.Error()
}

// stays notes that a key stays: what is to be removed before it is one run.
func (c *collection) stays() error { return c.endRun() }

// remove notes that a key goes.
func (c *collection) remove(key, value []byte) error {
	if !c.removing {
		return nil
	}
	c.use.Collected++
	c.use.CollectedBytes += uint64(len(key) + len(value))
	c.run = append(c.run, bytes.Clone(key))
	if len(c.run) >= 4096 {
		return c.endRun()
	}
	return nil
}

func (c *collection) endRun() error {
	if len(c.run) == 0 {
		return nil
	}
	if len(c.run) >= collectRunMin {
		if err := c.batch.DeleteRange(c.run[0], append(c.run[len(c.run)-1], 0), nil); err != nil {
			return err
		}
	} else {
		for _, key := range c.run {
			if err := c.batch.Delete(key, nil); err != nil {
				return err
			}
		}
	}
	c.run = c.run[:0]
	if c.batch.Len() >= collectBatchBytes {
		return c.flush()
	}
	return nil
}

// flush removes what was noted, provided that the log still is the one that was looked at.
func (c *collection) flush() error {
	if err := c.endRun(); err != nil {
		return err
	}
	if c.batch.Empty() {
		return nil
	}
	c.s.storeMu.RLock()
	defer c.s.storeMu.RUnlock()
	if c.s.db == nil {
		return logcore.ErrClosed
	}
	if c.l.generationNow() != c.generation {
		return errOtherState
	}
	// Who writes a version again must see that it is gone: see rewriteAt.
	c.s.rewriteMu.Lock()
	defer c.s.rewriteMu.Unlock()
	if err := c.s.apply(c.batch); err != nil {
		return err
	}
	c.s.readers.renew()
	c.s.dirty.Store(true)
	c.batch.Close()
	c.batch = c.s.db.NewBatch()
	return nil
}

// rewriteAt writes the image of a change under its own key, provided that the version with that
// change is there: what was collected meanwhile must not come back, a cut no longer hides it.
// Readers that are open read what was there before, until readers.renew is called.
func (s *Server) rewriteAt(version, key, sealed []byte) error {
	s.rewriteMu.Lock()
	defer s.rewriteMu.Unlock()
	_, closer, err := s.db.Get(version)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	closer.Close()
	return s.set(key, sealed)
}

// endOfHistory is after every place.
var endOfHistory = pos{^logcore.LSN(0), ^uint32(0)}

// spaceCut is a cut of a space, for its versions.
type spaceCut struct {
	at  pos
	low uint32
}

// versions looks at the versions of the pages.
func (c *collection) versions(ctx context.Context) error {
	const spaceEnd = 1 + 8 + spaceBytes
	var page []byte     // prefix of the page that is looked at
	var cuts []spaceCut // of its space, ascending
	next := endOfHistory
	var base pos // what the version that stayed last builds on; zero when on nothing
	// blind: that version builds on the next, where no cut is between.
	spared, blind := false, false
	return c.scan(ctx, tagVersion, func(key, value []byte) error {
		if len(key) != versionPrefixBytes+posBytes {
			return corruptValue(key, "key of %d bytes, want %d", len(key), versionPrefixBytes+posBytes)
		}
		if !bytes.Equal(page, key[:versionPrefixBytes]) {
			if err := c.endRun(); err != nil {
				return err
			}
			if len(page) == 0 || !bytes.Equal(page[:spaceEnd], key[:spaceEnd]) {
				var err error
				if cuts, err = c.cutsOf(decodeSpace(key[9:])); err != nil {
					return err
				}
			}
			page = append(page[:0], key[:versionPrefixBytes]...)
			next, base, spared, blind = endOfHistory, pos{}, false, false
		}
		at := decodePos(key[versionPrefixBytes:])
		number := binary.BigEndian.Uint32(key[spaceEnd:])
		end := endOfVersion(at, next, number, cuts)
		newer := next
		next = at
		// A run that a version builds on begins before the change that it names.
		wanted := base != (pos{}) && !base.less(at) || blind && end == newer
		if !spared && !wanted && !c.pts.needs(at.lsn, end.lsn) {
			return c.removeVersion(key, value, newer)
		}
		c.use.Versions++
		c.use.VersionBytes += uint64(len(key) + len(value))
		h, _, err := decodeVersion(key, value)
		switch {
		case errors.Is(err, logcore.ErrCorrupt):
			spared = true // what it builds on is not known
			if len(c.damaged) < damagedMax {
				c.damaged = append(c.damaged, &damagedPage{err: err, owner: c.l, space: decodeSpace(key[9:]), page: number, at: at})
			}
		case err != nil:
			return err
		}
		base, blind = h.base, h.isBlind()
		return c.stays()
	})
}

// removeVersion notes that a version goes; newer is the place of the next one of its page. A
// run may get an image at its last place meanwhile, which goes with it.
func (c *collection) removeVersion(key, value []byte, newer pos) error {
	if versionKind(value[0]) == kindRun && c.removing {
		h, body, err := decodeVersion(key, value)
		if err == nil {
			first := decodePos(key[versionPrefixBytes:])
			if _, _, last := changesThrough(body[h.imageBytes():], first, endOfHistory); last != first && last != newer {
				c.run = append(c.run, appendPos(bytes.Clone(key[:versionPrefixBytes]), last))
			}
		}
	}
	return c.remove(key, value)
}

// endOfVersion returns where a version of a page is no longer what a reader sees: at the
// next version, or at the first cut that takes the page.
func endOfVersion(at, next pos, page uint32, cuts []spaceCut) pos {
	i, _ := slices.BinarySearchFunc(cuts, at, func(c spaceCut, at pos) int {
		if at.less(c.at) {
			return 1
		}
		return -1
	})
	for ; i < len(cuts) && cuts[i].at.less(next); i++ {
		if cuts[i].low <= page {
			return cuts[i].at
		}
	}
	return next
}

// cutsOf returns the cuts of a space, ascending; none when there are too many.
func (c *collection) cutsOf(space engine.Space) ([]spaceCut, error) {
	key := appendSpaceKey(nil, tagCut, c.l.id, space, pos{})
	lower := key[:len(key)-posBytes]
	it, err := c.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var cuts []spaceCut
	for it.Last(); it.Valid(); it.Prev() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		cut, err := decodeCut(it.Key(), value)
		if err != nil {
			return nil, err
		}
		if len(cuts) >= cutsMax {
			return nil, nil
		}
		cuts = append(cuts, spaceCut{decodePos(it.Key()[len(lower):]), cut.low})
	}
	return cuts, it.Error()
}

// newestFirst visits keys of which each holds until the next newer one with the same prefix
// begins, newest first, and removes those that no reader sees. kept is called with each that stays.
func (c *collection) newestFirst(ctx context.Context, tag byte, kept func(key, value []byte, newest bool) error) error {
	var prefix []byte
	next := endOfHistory
	return c.scan(ctx, tag, func(key, value []byte) error {
		if len(key) < 1+8+posBytes {
			return corruptValue(key, "key of %d bytes", len(key))
		}
		posAt := len(key) - posBytes
		newest := !bytes.Equal(prefix, key[:posAt])
		if newest {
			if err := c.endRun(); err != nil {
				return err
			}
			prefix, next = append(prefix[:0], key[:posAt]...), endOfHistory
		}
		at := decodePos(key[posAt:])
		end := next
		next = at
		if !c.pts.needs(at.lsn, end.lsn) {
			return c.remove(key, value)
		}
		if err := kept(key, value, newest); err != nil {
			return err
		}
		return c.stays()
	})
}

func (c *collection) sizes(ctx context.Context) error {
	return c.newestFirst(ctx, tagSize, func(key, value []byte, newest bool) error {
		v, err := decodeSize(key, value)
		if newest && err == nil {
			c.use.LogicalBytes += uint64(v.pages) * uint64(v.pageSize)
		}
		return err
	})
}

// objects removes versions of objects and of the parts of the decoder's state.
func (c *collection) objects(ctx context.Context) error {
	for _, tag := range []byte{tagObject, tagDecoder} {
		if err := c.newestFirst(ctx, tag, func([]byte, []byte, bool) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// cuts removes the cuts that no reader meets. One at an LSN meets the newest before it, and from
// there the older ones with a smaller low that each names.
func (c *collection) cuts(ctx context.Context) error {
	var prefix []byte
	// wanted: the newest cut at or before each of these places is met. starts are those of
	// the readable LSNs, descending.
	var wanted []pos
	var starts []logcore.LSN
	return c.scan(ctx, tagCut, func(key, value []byte) error {
		if len(key) != 1+8+spaceBytes+posBytes {
			return corruptValue(key, "key of %d bytes", len(key))
		}
		posAt := len(key) - posBytes
		if !bytes.Equal(prefix, key[:posAt]) {
			if err := c.endRun(); err != nil {
				return err
			}
			prefix, wanted = append(prefix[:0], key[:posAt]...), wanted[:0]
			starts = append(slices.Clone(c.pts.pins), c.pts.horizon)
		}
		cut, err := decodeCut(key, value)
		if err != nil {
			return err
		}
		at := decodePos(key[posAt:])
		met := at.lsn > c.pts.horizon
		for len(starts) > 0 && !endOf(starts[len(starts)-1]).less(at) {
			met, starts = true, starts[:len(starts)-1]
		}
		wanted = slices.DeleteFunc(wanted, func(w pos) bool {
			found := !w.less(at)
			met = met || found
			return found
		})
		if !met {
			return c.remove(key, value)
		}
		if cut.older != (pos{}) {
			wanted = append(wanted, cut.older)
		}
		return c.stays()
	})
}

// commits removes the commits, and the milestones, that no reader is at.
func (c *collection) commits(ctx context.Context) error {
	for _, tag := range []byte{tagCommit, tagMilestone} {
		var before, value []byte
		var at logcore.LSN
		decide := func(next logcore.LSN) error {
			if before == nil {
				return nil
			}
			if c.pts.needs(at, next) {
				return c.stays()
			}
			return c.remove(before, value)
		}
		err := c.scan(ctx, tag, func(key, v []byte) error {
			if len(key) != 1+8+8 {
				return corruptValue(key, "key of %d bytes", len(key))
			}
			next := logcore.LSN(binary.BigEndian.Uint64(key[9:]))
			if err := decide(next); err != nil {
				return err
			}
			before, value, at = append(before[:0], key...), append(value[:0], v...), next
			return nil
		})
		if err == nil {
			err = decide(^logcore.LSN(0))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pacer keeps a pass within bytes a second. rate 0 means no limit.
type pacer struct {
	rate  int64
	since time.Time
	bytes int64
}

// took waits for as long as what was read is ahead of the rate.
func (p *pacer) took(ctx context.Context, n int) error {
	p.bytes += int64(n)
	if p.rate <= 0 {
		return ctx.Err()
	}
	ahead := time.Duration(float64(p.bytes)/float64(p.rate)*float64(time.Second)) - time.Since(p.since)
	if ahead < time.Millisecond {
		return ctx.Err()
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
