package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// checkOthers reads what else is on a target: all records and claims, and fragments
// that no live object names.
func (c *checker) checkOthers(ctx context.Context, r *remote, l Location, m *manifest) {
	keys, err := r.list(ctx, shardPrefix(l.Cluster, l.Shard), "")
	if err != nil {
		c.unreachable(r.Name, err)
		return
	}
	for i, k := range keys {
		if ctx.Err() != nil {
			return
		}
		if i%64 == 0 {
			c.step("others", len(m.state.live), len(m.state.live))
		}
		c.mu.Lock()
		seen := c.seenKeys[r.Name+" "+k.Key]
		c.mu.Unlock()
		if seen {
			continue
		}
		if _, ok := parseRecordKey(l.Cluster, l.Shard, k.Key); ok || strings.HasPrefix(k.Key, claimPrefix(l.Cluster, l.Shard)) {
			c.checkRecord(ctx, r, k.Key, m)
		} else if n, index, ok := parseFragmentKey(l.Cluster, l.Shard, k.Key); ok {
			c.checkStray(ctx, r, k.Key, n, index, m)
		} else {
			c.problem(Problem{Target: r.Name, Key: k.Key, Offset: -1, Kind: ProblemForeign, Detail: "nothing of the archive has such a key"})
		}
	}
}

// checkRecord reads one record or claim on one target.
func (c *checker) checkRecord(ctx context.Context, r *remote, key string, m *manifest) {
	data, err := c.read(ctx, r, key, 0, 1)
	if errors.Is(err, bucket.ErrNotFound) {
		return // deleted meanwhile
	}
	if err != nil {
		c.unreachable(r.Name, err)
		return
	}
	err = c.validRecord(ctx, key, data, m.state)
	if err == nil && strings.HasPrefix(key, claimPrefix(m.state.cluster, m.state.shard)) {
		c.noteClaim(key, hashOf(data), r.Name)
	}
	if err != nil {
		p := problemOf(r.Name, key, ProblemRecordRotten, err)
		c.problem(p)
		if c.repair {
			c.repairRecord(ctx, m, p)
		}
	}
}

// noteClaim notes a whole claim of a target.
func (c *checker) noteClaim(key string, hash [32]byte, target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claims[key] == nil {
		c.claims[key] = map[[32]byte][]string{}
	}
	c.claims[key][hash] = append(c.claims[key][hash], target)
}

// compareClaims names the targets that hold another claim of an epoch than most do: an
// archiver leaves the same one everywhere.
func (c *checker) compareClaims() {
	c.mu.Lock()
	claims := c.claims
	c.claims = map[string]map[[32]byte][]string{}
	c.mu.Unlock()
	for key, byHash := range claims {
		most := 0
		for _, targets := range byHash {
			most = max(most, len(targets))
		}
		for _, targets := range byHash {
			for _, name := range targets {
				if len(targets) < most || len(byHash) > 1 && 2*most <= len(c.remotes) {
					c.problem(Problem{Target: name, Key: key, Offset: -1, Kind: ProblemRecordLeftover, Detail: "another claim of this epoch than on most targets: an archiver that did not come to write, or one put there"})
				}
			}
		}
	}
}

// validRecord checks that data is the record or claim its key names.
func (c *checker) validRecord(ctx context.Context, key string, data []byte, s *state) error {
	rec, err := parseRecord(ctx, c.keys, data)
	if err == nil && (rec.key() != key || rec.cluster != s.cluster || rec.shard != s.shard) {
		err = damaged(offRecNumber, "it is record %d of epoch %d", rec.number, rec.epoch)
	}
	return err
}

// checkStray reads a fragment that no live object names: superseded, or an orphan.
func (c *checker) checkStray(ctx context.Context, r *remote, key string, n objectName, index int, m *manifest) {
	data, err := c.read(ctx, r, key, 1, 0)
	if errors.Is(err, bucket.ErrNotFound) {
		return
	}
	if err != nil {
		c.unreachable(r.Name, err)
		return
	}
	if _, err := erasure.ParseHeader(data); errors.Is(err, logcore.ErrUnsupportedVersion) {
		c.problem(problemOf(r.Name, key, ProblemForeign, err))
		return
	}
	faults := erasure.VerifyFragment(nil, index, data)
	if len(faults) == 0 {
		if h, _ := erasure.ParseHeader(data); nameOf(h.Meta) != n || h.Index != index {
			faults = []erasure.Fault{{Index: index, Reason: fmt.Sprintf("it is fragment %d of [%d,%d]", h.Index, h.First, h.Last)}}
		}
	}
	if len(faults) > 0 {
		p := Problem{Target: r.Name, Key: key, Offset: faults[0].Offset, Kind: ProblemFragmentRotten, Detail: faults[0].Reason + " (no live object needs it)"}
		c.problem(p)
		// Only when the manifest is whole is it known that nobody needs it.
		if c.repair && m.state.number > 0 && r.delete(ctx, key) == nil {
			c.fix(p)
		}
		return
	}
	for _, o := range m.state.segmentObjects(n.segment) {
		if o.name() == n {
			return // of a live object, put but not committed as placed here: a repair's half
		}
	}
	if !slices.Contains(m.state.retired, n) {
		c.problem(Problem{Target: r.Name, Key: key, Offset: -1, Kind: ProblemOrphan, Detail: "no manifest record names it: left by a crash, or being archived now"})
	}
}

func nameOf(m erasure.Meta) objectName {
	return (&object{Meta: m}).name()
}

// repairRecord rewrites a damaged or missing record from a target that has it whole,
// or deletes it when none has and nothing needs it, or when it is a fork.
func (c *checker) repairRecord(ctx context.Context, m *manifest, p Problem) {
	r := remoteNamed(c.remotes, p.Target)
	if r == nil || c.isSilent(p.Target) {
		return
	}
	if p.Kind == ProblemRecordFork || p.Kind == ProblemRecordLeftover {
		if r.delete(ctx, p.Key) == nil {
			c.fix(p)
		}
		return
	}
	inChain := false
	var whole []byte
	for _, s := range m.chain {
		if s.key() == p.Key {
			inChain, whole = true, s.encoded
		}
	}
	for _, other := range c.remotes {
		if whole != nil || other == r || c.isSilent(other.Name) {
			continue
		}
		if data, err := other.get(ctx, p.Key, 0, -1); err == nil && c.validRecord(ctx, p.Key, data, m.state) == nil {
			whole = data
		}
	}
	if whole == nil {
		// What can't be read for want of a key or of a newer build is not damage.
		if !inChain && m.state.number > 0 && errors.Is(p.err, logcore.ErrCorrupt) && r.delete(ctx, p.Key) == nil {
			c.fix(p)
		}
		return
	}
	if r.putVerified(ctx, p.Key, whole, always, func() error { return nil }) == nil {
		c.fix(p)
	}
}
