package tiering

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// stored is a record as it lies on the targets.
type stored struct {
	*record
	encoded []byte
	hash    [32]byte
}

// manifest is what loading found: the chain that counts and what is wrong where.
type manifest struct {
	chain    []stored // from the newest rollup (or record 1) to the tip; empty for a new archive
	state    *state   // at the tip
	answered []string // names of the targets that were read
	problems []Problem
	holds    map[string]map[string]bool // target → key of a chain record → whole there
	forks    map[string][]string        // target → keys of valid records that are not of the chain
	claims   map[claimant]int           // who claimed the archive after the tip → on how many targets
	silent   int                        // targets whose claims are not known
	claimed  uint64                     // the highest epoch claimed on any target; 0 = none
}

// majority is how many of n targets make a record count.
func majority(n int) int { return n/2 + 1 }

// loadConcurrency bounds the records in flight from one target.
const loadConcurrency = 16

// loader reads the manifest of one shard from all targets.
type loader struct {
	cluster [16]byte
	shard   logcore.ShardID
	keys    KeyProvider // nil = authenticators are not checked
	remotes []*remote

	seen     []map[recordName]bool // per remote: what its listing shows; nil = it did not answer
	claims   [][]uint64            // per remote: the epochs that left their claim there, lowest first
	errs     []error               // per remote
	got      []map[string]stored   // per remote: valid records by key
	problems []Problem
	unread   []unread             // per remote: the newest record that may be good and can't be read here
	unjudged []unread             // per remote: the newest record of which is not known yet whether it is good
	parsed   map[[32]byte]*record // by hash: what one target has was verified when another gave it
	mu       sync.Mutex           // guards got's maps, problems and parsed while fetching
}

// unread is a record that can't be read for want of a key, of trust or of a newer build.
type unread struct {
	name recordName
	err  error
}

// newer reports whether a record would count before another one.
func (n recordName) newer(other recordName) bool {
	return n.epoch > other.epoch || n.epoch == other.epoch && n.number > other.number
}

// parse is parseRecord, once for all targets that hold the same bytes.
func (l *loader) parse(ctx context.Context, data []byte) (*record, error) {
	hash := hashOf(data)
	l.mu.Lock()
	rec := l.parsed[hash]
	l.mu.Unlock()
	if rec != nil {
		return rec, nil
	}
	rec, err := parseRecord(ctx, l.keys, data)
	if err == nil {
		l.mu.Lock()
		l.parsed[hash] = rec
		l.mu.Unlock()
	}
	return rec, err
}

// loadManifest reads the manifest from every target that answers and picks the chain
// that counts: the one with the highest epoch, then the highest number, all of it
// linked by hashes back to a rollup or to record 1. Like a Raft election this never
// loses a committed record as long as the targets read and the majority that took it
// have one in common; so fewer answers than n-majority+1 are ErrUnproven. A listing
// only says where to look: whatever one target lists is looked for on all, and each
// target is asked for the record after the tip.
func loadManifest(ctx context.Context, remotes []*remote, cluster [16]byte, shard logcore.ShardID, keys KeyProvider) (*manifest, error) {
	l := &loader{cluster: cluster, shard: shard, keys: keys, remotes: remotes,
		seen: make([]map[recordName]bool, len(remotes)), errs: make([]error, len(remotes)), claims: make([][]uint64, len(remotes)), got: make([]map[string]stored, len(remotes)), parsed: map[[32]byte]*record{}, unread: make([]unread, len(remotes)), unjudged: make([]unread, len(remotes))}
	l.listAll(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		base, more := l.fetch(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		chain, whole := l.bestChain()
		if whole && l.probeNext(ctx, chain[len(chain)-1]) {
			continue
		}
		if !whole && more {
			l.forget(base) // the newest rollup is good nowhere, or off the chain: go back to the one before
			continue
		}
		return l.finish(ctx, chain)
	}
}

func (l *loader) listAll(ctx context.Context) {
	eachLimited(len(l.remotes), len(l.remotes), func(i int) {
		claims, err := l.remotes[i].claims(ctx, l.cluster, l.shard)
		if err != nil {
			l.errs[i] = err
			return
		}
		l.claims[i] = claims
		keys, err := l.remotes[i].list(ctx, recordPrefix(l.cluster, l.shard), "")
		if err != nil {
			l.errs[i] = err
			return
		}
		l.got[i] = map[string]stored{}
		l.seen[i] = map[recordName]bool{}
		for _, a := range keys {
			if n, ok := parseRecordKey(l.cluster, l.shard, a.Key); ok {
				l.seen[i][n] = true
			}
		}
	})
}

// names returns every record any target lists, newest rollup first found as base, and
// whether older ones are left below it.
func (l *loader) names() (wanted []recordName, base recordName, more bool) {
	all := map[recordName]bool{}
	for _, s := range l.seen {
		for n := range s {
			all[n] = true
			if n.rollup && n.number > base.number {
				base = n
			}
		}
	}
	for n := range all {
		if n.number >= base.number {
			wanted = append(wanted, n)
		} else {
			more = true
		}
	}
	slices.SortFunc(wanted, func(a, b recordName) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.epoch, b.epoch))
	})
	return wanted, base, more || base.number > 0
}

// forget drops a rollup that is good nowhere from what is wanted.
func (l *loader) forget(base recordName) {
	for _, s := range l.seen {
		delete(s, base)
	}
}

// fetch gets every wanted record from every target that answered.
func (l *loader) fetch(ctx context.Context) (base recordName, more bool) {
	wanted, base, more := l.names()
	eachLimited(len(l.remotes), len(l.remotes), func(i int) {
		if l.seen[i] == nil {
			return
		}
		eachLimited(len(wanted), loadConcurrency, func(w int) { l.fetchOne(ctx, i, wanted[w]) })
	})
	return base, more
}

func (l *loader) fetchOne(ctx context.Context, i int, n recordName) (found bool) {
	r, key := l.remotes[i], n.key(l.cluster, l.shard)
	l.mu.Lock()
	_, have := l.got[i][key]
	l.mu.Unlock()
	if have {
		return true
	}
	data, err := r.get(ctx, key, 0, -1)
	if errors.Is(err, bucket.ErrNotFound) {
		return false // finish tells whether it should have been there
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.errs[i] = err
		return false
	}
	rec, err := l.parse(ctx, data)
	if err == nil && (rec.name() != n || rec.cluster != l.cluster || rec.shard != l.shard) {
		err = damaged(offRecNumber, "it is record %d of epoch %d of another place", rec.number, rec.epoch)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if unjudged(err) {
		if l.unjudged[i].err == nil || n.newer(l.unjudged[i].name) {
			l.unjudged[i] = unread{n, err}
		}
		return true
	}
	if err != nil {
		l.problems = append(l.problems, problemOf(r.Name, key, ProblemRecordRotten, err))
		if notDamage(err) && (l.unread[i].err == nil || n.newer(l.unread[i].name)) {
			l.unread[i] = unread{n, err}
		}
		return true
	}
	l.got[i][key] = stored{rec, data, hashOf(data)}
	return true
}

// probeNext asks every target for the record after the tip under the tip's epoch: a
// stale listing may not show it yet.
func (l *loader) probeNext(ctx context.Context, tip stored) (found bool) {
	for _, rollup := range []bool{false, true} {
		next := recordName{tip.number + 1, tip.epoch, rollup}
		var hit sync.Map
		eachLimited(len(l.remotes), len(l.remotes), func(i int) {
			if l.seen[i] == nil || l.seen[i][next] {
				return
			}
			if l.fetchOne(ctx, i, next) {
				hit.Store(i, true)
			}
		})
		hit.Range(func(i, _ any) bool {
			l.seen[i.(int)][next] = true
			found = true
			return true
		})
	}
	return found
}
