package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// retiredMax bounds the superseded objects a rollup carries. What falls off is an
// orphan, and is deleted when the target it is on is swept.
const retiredMax = 1 << 14

// purge deletes the fragments of objects that were superseded longer than Grace ago,
// and manifest records that a rollup made superfluous as long ago. Whoever loaded the
// manifest before may still be reading them till then.
func (a *Archiver) purge(ctx context.Context) error {
	due, records := a.duePurges(a.state.Load())
	for _, n := range due {
		a.mu.Lock()
		gone, places, known := a.gone[n], a.places[n], a.places[n] != nil
		a.mu.Unlock()
		if !known {
			a.searchFor(gone) // it was superseded before this archiver began
			continue
		}
		gone, err := a.deleteFrom(ctx, "purge", gone, len(a.all()), func(i int) string {
			if index := slices.Index(places, a.all()[i].Name); index >= 0 {
				return n.key(a.o.Cluster, a.o.Shard, index)
			}
			return "" // it had none of its fragments
		})
		a.mu.Lock()
		a.gone[n] = gone
		a.mu.Unlock()
		if err != nil {
			return err
		}
	}
	for _, key := range records {
		a.mu.Lock()
		old := a.oldRecord[key]
		a.mu.Unlock()
		gone, err := a.deleteFrom(ctx, "purge-record", old.gone, len(a.all()), func(int) string { return key })
		a.purgedRecord(key, old, gone)
		if err != nil {
			return err
		}
	}
	return nil
}

// purgedRecord notes from which targets a superfluous record is gone. It is forgotten
// once every healthy one has let go of it: one that is away, perhaps for ever, is searched
// for such records when it is back.
func (a *Archiver) purgedRecord(key string, old oldRecord, gone targetSet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var away []string
	for i, r := range a.all() {
		if gone&(1<<i) != 0 {
			continue
		}
		if ok, _ := r.health(); ok {
			old.gone = gone
			a.oldRecord[key] = old
			return
		}
		away = append(away, r.Name)
	}
	delete(a.oldRecord, key)
	for _, name := range away {
		a.unswept[name] = true
	}
}

// searchFor has the targets that are not in gone swept: that finds what is due there.
func (a *Archiver) searchFor(gone targetSet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, r := range a.all() {
		if gone&(1<<i) == 0 {
			a.unswept[r.Name] = true
		}
	}
}

// goneEverywhere reports whether a set has all targets that are in use.
func (a *Archiver) goneEverywhere(gone targetSet) bool {
	s := a.state.Load()
	for i, r := range a.all() {
		if gone&(1<<i) == 0 && slices.Contains(s.targets, r.Name) {
			return false
		}
	}
	return true
}

// notePlaces notes where the fragments of objects are that a record supersedes. Called
// under mu.
func (a *Archiver) notePlaces(before, next *state) {
	if before == nil || len(next.retired) == 0 {
		return
	}
	live := map[objectName]*object(nil)
	for _, n := range next.retired {
		if a.places[n] != nil {
			continue
		}
		if live == nil {
			live = liveNames(before)
		}
		if o := live[n]; o != nil {
			places := make([]string, len(o.fragments))
			for i, f := range o.fragments {
				places[i] = f.target
			}
			a.places[n] = places
		}
	}
}

// deleteFrom deletes a key from each of the first n targets that is healthy and not in
// gone, and returns gone with those added.
func (a *Archiver) deleteFrom(ctx context.Context, step string, gone targetSet, n int, key func(i int) string) (targetSet, error) {
	for i, r := range a.all()[:n] {
		if ok, _ := r.health(); !ok || gone&(1<<i) != 0 {
			continue
		}
		k := key(i)
		if k == "" {
			gone |= 1 << i
			continue
		}
		if err := a.step(step); err != nil {
			return gone, err
		}
		// What is under retention is let be: a sweep comes back to it.
		if err := r.delete(ctx, k); err == nil || errors.Is(err, bucket.ErrRetention) {
			gone |= 1 << i
		} else if ctx.Err() != nil {
			return gone, ctx.Err()
		}
	}
	return gone, nil
}

// duePurges returns what may be deleted now. Nothing that the state names is among it.
func (a *Archiver) duePurges(s *state) (due []objectName, records []string) {
	live := liveNames(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, n := range s.retired {
		since, known := a.retiredAt[n]
		if known && now.Sub(since) >= a.o.Grace && !a.goneEverywhere(a.gone[n]) && !a.inFlight[n] && live[n] == nil {
			due = append(due, n)
		}
	}
	for key, old := range a.oldRecord {
		n, ok := parseRecordKey(a.o.Cluster, a.o.Shard, key)
		if ok && now.Sub(old.since) >= a.o.Grace && n.number < s.base {
			records = append(records, key)
		}
	}
	slices.Sort(records)
	return due, records
}

func liveNames(s *state) map[objectName]*object {
	live := make(map[objectName]*object, len(s.live))
	for _, o := range s.live {
		live[o.name()] = o
	}
	return live
}

// sweep audits targets and searches them for what no record names: after a crash or an
// absence, and now and then, since a target can lose what it holds at any time. A
// listing only proposes; the manifest decides, and what is being placed is left alone,
// as is everything of a newer epoch.
func (a *Archiver) sweep(ctx context.Context) error {
	var errs []error
	for _, r := range a.all() {
		a.mu.Lock()
		wanted := a.unswept[r.Name] || time.Since(a.sweptAt[r.Name]) > a.recheck
		a.mu.Unlock()
		if ok, _ := r.health(); !wanted || !ok {
			continue
		}
		if err := a.step("sweep"); err != nil {
			return err
		}
		if err := a.sweepTarget(ctx, r); err != nil {
			if isFatal(err) {
				return err
			}
			errs = append(errs, fmt.Errorf("sweep %s: %w", r.Name, err))
			continue
		}
		a.mu.Lock()
		delete(a.unswept, r.Name)
		a.sweptAt[r.Name] = time.Now()
		a.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (a *Archiver) sweepTarget(ctx context.Context, r *remote) error {
	before := a.state.Load()
	overdue, _ := a.duePurges(before)
	due := make(map[objectName]bool, len(overdue))
	for _, n := range overdue {
		due[n] = true
	}
	keys, err := r.list(ctx, fragmentPrefix(a.o.Cluster, a.o.Shard), "")
	if err != nil {
		return err
	}
	if err := a.auditTarget(ctx, r, before, keys); err != nil {
		return err
	}
	for _, k := range keys {
		n, index, ok := parseFragmentKey(a.o.Cluster, a.o.Shard, k.Key)
		if !ok || !due[n] && !a.orphan(n, index, r.Name) {
			continue
		}
		if err := a.step("sweep-delete"); err != nil {
			return err
		}
		switch err := r.delete(ctx, k.Key); {
		case errors.Is(err, bucket.ErrRetention):
			continue // locked: it goes when that is over
		case err != nil:
			return err
		}
		a.log.Info("deleted a fragment that no manifest record needs", "target", r.Name, "key", k.Key)
	}
	a.mu.Lock()
	if i := slices.Index(a.all(), r); i >= 0 {
		for n := range due {
			a.gone[n] |= 1 << i
		}
	}
	a.mu.Unlock()
	return a.sweepRecords(ctx, r)
}

// isOrphan decides about fragment index of n on a target. The order matters: what is
// not in flight any more is named by a record by now, or will never be; and a record that
// is not open any more is in the state.
func (a *Archiver) isOrphan(n objectName, index int, target string) bool {
	a.mu.Lock()
	busy := a.inFlight[n]
	a.mu.Unlock()
	busy = busy || a.isOpen(n)
	s := a.state.Load()
	if busy || n.epoch > a.o.Epoch {
		return false
	}
	for _, o := range s.segmentObjects(n.segment) {
		if o.name() == n {
			// One that is placed elsewhere goes only from a target that is being evacuated or was:
			// its name never comes back. On any other one an archiver that follows this one may
			// have placed it since, under the same key; and one that is placed nowhere is half
			// of a repair.
			return index >= len(o.fragments) || o.fragments[index].target != "" && o.fragments[index].target != target &&
				(slices.Contains(s.leaving, target) || !s.inUse(target))
		}
	}
	return !slices.Contains(s.retired, n) // retired ones go by purge, after their grace
}

// sweepRecords deletes claims of older epochs and the records that an archiver which
// stopped or was fenced left beside the chain, and notes older records for purge.
func (a *Archiver) sweepRecords(ctx context.Context, r *remote) error {
	claims, err := r.list(ctx, claimPrefix(a.o.Cluster, a.o.Shard), "")
	if err != nil {
		return err
	}
	own := claimKey(a.o.Cluster, a.o.Shard, a.o.Epoch)
	for _, c := range claims {
		if c.Key < own {
			if err := r.delete(ctx, c.Key); err != nil {
				return err
			}
		}
	}
	records, err := r.list(ctx, recordPrefix(a.o.Cluster, a.o.Shard), "")
	if err != nil {
		return err
	}
	forks := a.sortRecords(records)
	if len(forks) == 0 {
		return nil
	}
	// A newer archiver may have made such a record part of its chain.
	if _, err := a.checkFence(ctx, make([]error, len(a.all()))); err != nil { // every target is asked
		return err
	}
	for _, key := range forks {
		if err := a.step("sweep-delete"); err != nil {
			return err
		}
		if err := r.delete(ctx, key); err != nil {
			return err
		}
		a.log.Info("deleted a manifest record that is not of the chain that counts", "target", r.Name, "key", key)
	}
	return nil
}

// sortRecords notes which of a target's records are superfluous, and returns those that
// are forks: beside the chain, which only this archiver makes longer, and older than it.
func (a *Archiver) sortRecords(records []bucket.Attributes) (forks []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	base, inChain := a.state.Load().base, map[string]bool{}
	for _, s := range a.chainNow() {
		inChain[s.key()] = true
	}
	for _, k := range records {
		n, ok := parseRecordKey(a.o.Cluster, a.o.Shard, k.Key)
		switch _, known := a.oldRecord[k.Key]; {
		case !ok || known || inChain[k.Key]:
		case n.number < base:
			a.oldRecord[k.Key] = oldRecord{since: time.Now()}
		case n.epoch < a.o.Epoch:
			forks = append(forks, k.Key)
		}
	}
	return forks
}
