package tiering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// claimant is who left a claim.
type claimant struct {
	epoch       uint64
	incarnation uint64
	archiver    [16]byte
}

// claimsReadMax bounds the claims that are read from one target. Claims pile up only while
// archivers die before their first record.
const claimsReadMax = 64

func newArchiverID() (id [16]byte) {
	rand.Read(id[:]) // never fails: crypto/rand aborts the process instead
	return id
}

// readClaims reads who claimed the archive after the newest record. A claim that is not
// authentic counts for nobody: half a PUT, rot, or left by who has no key. Its target may
// hide others behind it, so it counts as one that did not answer.
func (l *loader) readClaims(ctx context.Context, m *manifest) {
	m.claims, m.claimed = map[claimant]int{}, m.state.epoch
	unknown := make([]bool, len(l.remotes))
	eachLimited(len(l.remotes), len(l.remotes), func(i int) {
		newest := l.claims[i][max(0, len(l.claims[i])-claimsReadMax):]
		for _, epoch := range newest {
			if epoch <= m.state.epoch {
				continue
			}
			r, err := readClaim(ctx, l.remotes[i], l.keys, l.cluster, l.shard, epoch)
			if err != nil {
				unknown[i] = unknown[i] || !errors.Is(err, bucket.ErrNotFound)
				continue
			}
			l.mu.Lock()
			m.claims[claimant{r.epoch, r.incarnation, r.archiver}]++
			m.claimed = max(m.claimed, r.epoch)
			l.mu.Unlock()
		}
	})
	for i := range l.remotes {
		if l.errs[i] != nil || unknown[i] {
			m.silent++
		}
	}
}

// errNoClaim: what lies under a claim's key is none.
var errNoClaim = errors.New("not an authentic claim")

// readClaim reads the claim of an epoch from a target and proves it.
func readClaim(ctx context.Context, r *remote, keys KeyProvider, cluster [16]byte, shard logcore.ShardID, epoch uint64) (*record, error) {
	key := claimKey(cluster, shard, epoch)
	data, err := r.get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	c, err := parseRecord(ctx, keys, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w: %w", r.Name, key, errNoClaim, err)
	}
	if c.kind != recordClaim || c.epoch != epoch || c.cluster != cluster || c.shard != shard {
		return nil, fmt.Errorf("%s: %s: %w: it is a record of kind %d, epoch %d, of another place", r.Name, key, errNoClaim, c.kind, c.epoch)
	}
	return c, nil
}

// fencedOn looks for the claim of a newer archiver on a target. It fails with
// logcore.ErrFenced when there is one; and otherwise when the target can't tell: it shows
// a claim that is none, as who has no key may leave it, and half a PUT is. That target
// then counts as one that does not answer.
func (a *Archiver) fencedOn(ctx context.Context, r *remote) error {
	prefix := claimPrefix(a.o.Cluster, a.o.Shard)
	keys, err := r.list(ctx, prefix, claimKey(a.o.Cluster, a.o.Shard, a.o.Epoch))
	if err != nil {
		return err
	}
	var unclear error
	for _, k := range keys[max(0, len(keys)-claimsReadMax):] {
		epoch, err := strconv.ParseUint(strings.TrimPrefix(k.Key, prefix), 16, 64)
		if err != nil {
			continue // no claim's key
		}
		if _, err := readClaim(ctx, r, a.o.Keys, a.o.Cluster, a.o.Shard, epoch); err == nil || errors.Is(err, errNewerKey) {
			return fmt.Errorf("%w: %s holds the claim %s of a newer archiver, this one has epoch %d", logcore.ErrFenced, r.Name, k.Key, a.o.Epoch)
		} else {
			unclear = err
		}
	}
	return unclear
}

// claim leaves the epoch on a majority of the targets. The claim is this archiver's own:
// another one with the same epoch finds other bytes there and is fenced.
func (a *Archiver) claim(ctx context.Context, signers []signer) error {
	r := &record{signers: signers, cluster: a.o.Cluster, shard: a.o.Shard, epoch: a.o.Epoch, kind: recordClaim, targets: a.targetNames(),
		incarnation: a.o.Incarnation, archiver: a.id}
	encoded, err := encodeRecord(ctx, a.o.Keys, r)
	if err != nil {
		return err
	}
	remotes := a.all()
	errs := each(ctx, len(remotes), majority(len(remotes)), a.o.MaxAge, func(ctx context.Context, i int) error {
		return a.putOwn(ctx, remotes[i], r.key(), encoded, func() error { return nil })
	})
	for _, err := range errs {
		if errors.Is(err, logcore.ErrFenced) {
			return err
		}
	}
	if err := a.quorum("claim of the epoch", errs); err != nil {
		return err
	}
	fenced, err := a.checkFence(ctx, errs)
	if fenced {
		return err
	}
	return nil
}

// claimSigners are the archive's, with this archiver's key behind them when it is a new
// one, which the records name next.
func (a *Archiver) claimSigners(ctx context.Context, s *state) ([]signer, error) {
	n := len(s.signers)
	if n == 0 || s.signers[n-1].keyID == a.o.Keys.Current() {
		return s.signers, nil
	}
	return newSigner(ctx, a.o.Keys, &record{cluster: a.o.Cluster, shard: a.o.Shard, number: s.number + 1}, s.signers)
}

// putOwn stores a record or claim of this archiver's epoch. What is there and is no
// record at all, half a PUT or rot, is replaced. A whole one of other content was
// written by another archiver of the same epoch: logcore.ErrFenced.
func (a *Archiver) putOwn(ctx context.Context, r *remote, key string, data []byte, readBack func() error) error {
	foreign := false
	err := r.putVerified(ctx, key, data, func(stored []byte) bool {
		found, err := parseRecord(context.Background(), a.o.Keys, stored)
		foreign = err == nil && found.key() == key // else the target gave another object's bytes
		return errors.Is(err, logcore.ErrCorrupt)
	}, readBack)
	if foreign && errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("%w: another archiver of epoch %d is at work, %s holds its %s: was the archive restored twice? only one may write to it", logcore.ErrFenced, a.o.Epoch, r.Name, key)
	}
	return err
}

// checkSuccession refuses to go on with what another incarnation has archived, or was
// about to, unless this one was restored from the archive after that. A claim counts
// when it may be on a majority: nobody archives without.
func (a *Archiver) checkSuccession(m *manifest) error {
	refuse := func(what string, epoch, incarnation uint64) error {
		// 0: a manifest that was made of the fragments, which don't know. The checksum of
		// the last entry tells whether this hot tier continues it.
		if incarnation == 0 || incarnation == a.o.Incarnation || epoch <= a.o.Supersedes {
			return nil
		}
		return fmt.Errorf("%w: the archive was %s in epoch %d by another incarnation of the log (%016x, this hot tier is %016x): a service restored from the archive has taken this one's place; if that one is gone, run `logcore restore` into a new directory",
			logcore.ErrFenced, what, epoch, incarnation, a.o.Incarnation)
	}
	if m.state.number > 0 {
		if err := refuse("written", m.state.epoch, m.state.incarnation); err != nil {
			return err
		}
	}
	voters := len(m.state.targets)
	if voters == 0 {
		voters = len(a.all())
	}
	for c, on := range m.claims {
		if on+m.silent < majority(voters) {
			continue
		}
		if err := refuse("claimed", c.epoch, c.incarnation); err != nil {
			return err
		}
	}
	return nil
}
