package tiering

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/logcore/logcore"
)

// state is the fold of the manifest's records up to one of them. It is immutable:
// apply returns a new one, and readers take whichever is newest.
type state struct {
	cluster     [16]byte
	shard       logcore.ShardID
	number      uint64   // of the newest record; 0 = none yet
	epoch       uint64   // of the newest record
	incarnation uint64   // of the newest record
	hash        [32]byte // of the newest record: what the next one must carry
	base        uint64   // number of the newest rollup; 0 = none: records below it are not needed
	targets     []string
	leaving     []string // of targets: being evacuated
	left        []string // former targets
	settings    map[string]string
	tombstones  []Tombstone
	signers     []signer     // the last one signs
	live        []*object    // sorted by compareObjects
	retired     []objectName // superseded: fragments may still be stored; oldest first
	path        []*object    // live objects that follow each other without gap or overlap
}

// older reports whether a state is one from before another one: what counts is the epoch,
// then the number of its newest record.
func (s *state) older(other *state) bool {
	return s.epoch < other.epoch || s.epoch == other.epoch && s.number < other.number
}

// compareObjects orders by first LSN, sealed ones and longer ones first.
func compareObjects(a, b *object) int {
	return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.kind(), a.kind()), cmp.Compare(b.Last, a.Last),
		cmp.Compare(b.Epoch, a.Epoch), slices.Compare(a.Digest[:], b.Digest[:]), cmp.Compare(a.K, b.K), cmp.Compare(a.M, b.M))
}

// first and covered delimit what is archived without a gap; 0 when nothing is.
func (s *state) first() logcore.LSN {
	if len(s.path) == 0 {
		return 0
	}
	return s.path[0].First
}

func (s *state) covered() logcore.LSN {
	if len(s.path) == 0 {
		return 0
	}
	return s.path[len(s.path)-1].Last
}

func (s *state) coveredTime() logcore.HLC {
	if len(s.path) == 0 {
		return 0
	}
	return s.path[len(s.path)-1].lastTime
}

// find returns the index in path of the object that holds lsn, or where it would be.
func (s *state) find(lsn logcore.LSN) int {
	i, _ := slices.BinarySearchFunc(s.path, lsn, func(o *object, l logcore.LSN) int { return cmp.Compare(o.Last, l) })
	return i
}

// apply folds one record in. hash is the record's own. It fails when the record does
// not follow the state.
func (s *state) apply(r *record, hash [32]byte) (*state, error) {
	if r.kind == recordRollup && s.number == 0 {
		return rollupState(r, hash) // loading begins here
	}
	if r.number != s.number+1 || r.prev != s.hash || r.epoch < s.epoch {
		return nil, damaged(offRecNumber, "record %d of epoch %d does not follow record %d of epoch %d", r.number, r.epoch, s.number, s.epoch)
	}
	if !followsSigners(s.signers, r) {
		return nil, damaged(-1, "record %d is signed by a key pair that the records before it don't name", r.number)
	}
	n := newState(r, hash)
	n.base, n.retired, n.tombstones, n.settings = s.base, s.retired, addTombstones(s.tombstones, r.tombstones), mergeSettings(s.settings, r.settings)
	if r.kind == recordRollup {
		if !sameObjects(s.live, r.objects) || !maps.Equal(s.settings, r.settings) {
			return nil, damaged(recFixedBytes, "rollup %d does not hold what the records before it do", r.number)
		}
		n.base, n.live, n.retired, n.tombstones, n.settings = r.number, r.objects, r.retired, r.tombstones, r.settings
		n.path = findPath(n.live)
		return n, nil
	}
	if r.kind != recordChange && r.kind != recordKeys {
		return nil, damaged(offRecKind, "record %d of kind %d in the chain", r.number, r.kind)
	}
	live := slices.Clone(s.live)
	for _, o := range r.objects {
		live = upsert(live, o)
	}
	var ok bool
	if n.live, n.retired, ok = drop(live, n.retired, r.dropped); !ok {
		return nil, damaged(-1, "record %d drops an object that there is not", r.number)
	}
	n.path = findPath(n.live)
	n.retire(r.objects)
	return n, nil
}

// newState is what every record says anew.
func newState(r *record, hash [32]byte) *state {
	return &state{cluster: r.cluster, shard: r.shard, number: r.number, epoch: r.epoch, incarnation: r.incarnation, hash: hash,
		targets: r.targets, leaving: r.leaving, left: r.left, signers: r.signers}
}

// drop moves objects out of live into retired; false when one is not there.
func drop(live []*object, retired, names []objectName) ([]*object, []objectName, bool) {
	if len(names) == 0 {
		return live, retired, true
	}
	gone := make(map[objectName]bool, len(names))
	for _, n := range names {
		gone[n] = true
	}
	kept := make([]*object, 0, len(live))
	for _, o := range live {
		if !gone[o.name()] {
			kept = append(kept, o)
		}
	}
	if len(kept)+len(gone) != len(live) {
		return nil, nil, false
	}
	return kept, append(slices.Clone(retired), names...), true
}

// mergeSettings sets those that a record changes; an empty value unsets.
func mergeSettings(all, changed map[string]string) map[string]string {
	if len(changed) == 0 {
		return all
	}
	out := maps.Clone(all)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range changed {
		if out[k] = v; v == "" {
			delete(out, k)
		}
	}
	return out
}

func rollupState(r *record, hash [32]byte) (*state, error) {
	n := newState(r, hash)
	n.base, n.live, n.retired, n.tombstones, n.settings = r.number, r.objects, r.retired, r.tombstones, r.settings
	if !slices.IsSortedFunc(n.live, compareObjects) {
		return nil, damaged(recFixedBytes, "rollup %d is not in order", r.number)
	}
	n.path = findPath(n.live)
	return n, nil
}

func sameObjects(a, b []*object) bool {
	return slices.EqualFunc(a, b, func(x, y *object) bool {
		return x.Meta == y.Meta && x.level == y.level && x.final == y.final && x.prev == y.prev && x.sum == y.sum &&
			x.rawBytes == y.rawBytes && slices.Equal(x.fragments, y.fragments)
	})
}

// upsert adds an object, or replaces what is known of the same one (its placement).
func upsert(live []*object, o *object) []*object {
	i, found := slices.BinarySearchFunc(live, o, compareObjects)
	if found {
		live[i] = o
		return live
	}
	return slices.Insert(live, i, o)
}

// retire moves out of live what the added objects supersede: the tails inside a folded
// tail, and everything of a segment that is not on the path once sealed objects cover
// all of it.
func (n *state) retire(added []*object) {
	drop := map[*object]bool{}
	for _, o := range added {
		complete := o.kind() == KindSealed && n.segmentComplete(o.SegmentFirst)
		for _, t := range n.segmentObjects(o.SegmentFirst) {
			switch {
			case complete && !n.onPath(t):
				drop[t] = true
			case o.kind() == KindTail && t != o && t.kind() == KindTail && t.level < o.level && t.First >= o.First && t.Last <= o.Last:
				drop[t] = true
			}
		}
	}
	if len(drop) == 0 {
		return
	}
	n.retired = slices.Clone(n.retired)
	n.live = slices.DeleteFunc(n.live, func(o *object) bool {
		if drop[o] {
			n.retired = append(n.retired, o.name())
		}
		return drop[o]
	})
	n.path = findPath(n.live)
}

// segmentObjects returns the live objects of a segment, in order.
func (n *state) segmentObjects(segment logcore.LSN) []*object {
	i, _ := slices.BinarySearchFunc(n.live, segment, func(o *object, l logcore.LSN) int { return cmp.Compare(o.SegmentFirst, l) })
	end := i
	for end < len(n.live) && n.live[end].SegmentFirst == segment {
		end++
	}
	return n.live[i:end]
}

func (n *state) onPath(o *object) bool {
	i := n.find(o.First)
	return i < len(n.path) && n.path[i] == o
}

// segmentComplete reports whether sealed objects on the path cover all of a segment.
func (n *state) segmentComplete(segment logcore.LSN) bool {
	next := segment
	for _, o := range n.path[min(n.find(segment), len(n.path)):] {
		if o.SegmentFirst != segment || o.kind() != KindSealed || o.First != next {
			return false
		}
		if o.final {
			return true
		}
		next = o.Last + 1
	}
	return false
}

// sealedThrough returns how far sealed objects cover a segment from its first entry:
// the last LSN so covered, or segment-1.
func (n *state) sealedThrough(segment logcore.LSN) logcore.LSN {
	through := segment - 1
	for _, o := range n.segmentObjects(segment) {
		if o.kind() == KindSealed && o.First == through+1 {
			through = o.Last
		}
	}
	return through
}

// findPath returns the objects that lead from the first LSN on without gap or overlap,
// the way that reaches furthest; of two equal ways the one over sealed objects.
func findPath(live []*object) []*object {
	best := make(map[logcore.LSN]*object, len(live)) // by First
	reach := make(map[logcore.LSN]logcore.LSN, len(live))
	// Lower first LSNs come later and, of one first LSN, the preferred object last.
	for i := len(live) - 1; i >= 0; i-- {
		o := live[i]
		end := max(o.Last, reach[o.Last+1])
		if end >= reach[o.First] {
			best[o.First], reach[o.First] = o, end
		}
	}
	var path []*object
	if len(live) == 0 {
		return nil
	}
	for o := best[live[0].First]; o != nil; o = best[o.Last+1] {
		path = append(path, o)
	}
	return path
}

// change makes the next record of the chain, in the incarnation of the one before.
func (s *state) change(epoch uint64, targets []string, objects ...*object) *record {
	return &record{cluster: s.cluster, shard: s.shard, number: s.number + 1, epoch: epoch, prev: s.hash, kind: recordChange, incarnation: s.incarnation,
		targets: targets, leaving: s.leaving, left: s.left, objects: objects, signers: s.signers}
}

// rollup makes the next record: the whole state, without the retired objects that are
// known to be gone.
func (s *state) rollup(epoch uint64, targets []string, gone map[objectName]bool) *record {
	r := s.change(epoch, targets, s.live...)
	r.kind, r.tombstones, r.settings = recordRollup, s.tombstones, s.settings
	for _, n := range s.retired {
		if !gone[n] {
			r.retired = append(r.retired, n)
		}
	}
	r.retired = r.retired[max(0, len(r.retired)-retiredMax):]
	return r
}

func hashOf(encoded []byte) [32]byte { return sha256.Sum256(encoded) }

// describe names an object for people.
func (o *object) describe() string {
	return fmt.Sprintf("%v object [%d,%d]", o.kind(), o.First, o.Last)
}
