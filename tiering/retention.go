package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// What is kept and how long is part of the manifest: signed, on every target, and there
// still when the service is not. The settings are, for each log or for all of them:
//
//	keep/LOG = seconds        entries older than that may be erased
//	hold/LOG = reason         nothing of it may be erased: wins over everything
//	lock     = seconds        every sealed fragment is locked at its provider for that long
//
// LOG is the log's number in decimal, or * for every log.
const (
	settingKeep = "keep/"
	settingHold = "hold/"
	settingLock = "lock"
	allLogs     = "*"
)

func logKey(log logcore.LogID) string {
	if log == 0 {
		return allLogs
	}
	return strconv.FormatUint(uint64(log), 10)
}

// LogPolicy is what the archive keeps of a log.
type LogPolicy struct {
	Log  logcore.LogID // 0 = every log
	Keep time.Duration // entries older than that may be erased; 0 = not set here
	Hold string        // why it is under legal hold; empty = it is not
}

// keepMin keeps a slip of the keyboard from erasing an archive.
const keepMin = time.Minute

// SetRetention says how long entries of a log (0 = of every log that has no retention of
// its own) are kept in the archive: at least keepMin, 0 = for ever. It erases nothing by
// itself: Compact does, and not what is under hold.
func (a *Archiver) SetRetention(ctx context.Context, log logcore.LogID, keep time.Duration) error {
	if keep < 0 || keep > 0 && keep < keepMin {
		return fmt.Errorf("%w: retention of %v: want at least %v, or 0 to keep everything for ever", logcore.ErrInvalid, keep, keepMin)
	}
	value := ""
	if keep > 0 {
		value = strconv.FormatInt(int64(keep/time.Second), 10)
	}
	return a.set(ctx, map[string]string{settingKeep + logKey(log): value})
}

// SetHold puts a log (0 = every log) under legal hold, with the reason; an empty one
// releases it. On return nothing of it is erased any more, whatever the retention says, by
// this archiver or a later one.
func (a *Archiver) SetHold(ctx context.Context, log logcore.LogID, reason string) error {
	if strings.ContainsAny(reason, "\x00\n\r") || len(reason) > settingValueMax {
		return fmt.Errorf("%w: reason of a hold: want one line of at most %d bytes", logcore.ErrInvalid, settingValueMax)
	}
	return a.set(ctx, map[string]string{settingHold + logKey(log): reason})
}

// SetLock says for how long each sealed fragment is locked at its provider where that is
// offered, from the time of its last entry on; 0 = not at all. A lock that is in force
// can't be shortened by anybody.
func (a *Archiver) SetLock(ctx context.Context, lock time.Duration) error {
	if lock < 0 || lock > 0 && lock < keepMin {
		return fmt.Errorf("%w: lock of %v: want at least %v, or 0 for none", logcore.ErrInvalid, lock, keepMin)
	}
	value := ""
	if lock > 0 {
		value = strconv.FormatInt(int64(lock/time.Second), 10)
	}
	return a.set(ctx, map[string]string{settingLock: value})
}

// Policies returns what is set, every log first.
func (a *Archiver) Policies() []LogPolicy {
	if s := a.state.Load(); s != nil {
		return s.policies()
	}
	return nil
}

// Tombstones returns what was erased from the archive, oldest first.
func (r *Reader) Tombstones() []Tombstone {
	if s := r.view(); s != nil {
		return slices.Clone(s.tombstones)
	}
	return nil
}

// Policies returns what the archive keeps of its logs.
func (r *Reader) Policies() []LogPolicy {
	if s := r.view(); s != nil {
		return s.policies()
	}
	return nil
}

func (s *state) policies() []LogPolicy {
	byLog := map[logcore.LogID]*LogPolicy{}
	of := func(text string) *LogPolicy {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil && text != allLogs {
			return &LogPolicy{} // of a later version: not ours to judge
		}
		log := logcore.LogID(id)
		if byLog[log] == nil {
			byLog[log] = &LogPolicy{Log: log}
		}
		return byLog[log]
	}
	for key, value := range s.settings {
		if log, ok := strings.CutPrefix(key, settingKeep); ok {
			of(log).Keep = parseSeconds(value)
		} else if log, ok := strings.CutPrefix(key, settingHold); ok {
			of(log).Hold = value
		}
	}
	out := make([]LogPolicy, 0, len(byLog))
	for _, p := range byLog {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b LogPolicy) int { return int(int64(a.Log) - int64(b.Log)) })
	return out
}

func parseSeconds(text string) time.Duration {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > int64(1<<62/time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}

// held says why nothing of a log may be erased; empty when something may.
func (s *state) held(log logcore.LogID) string {
	if why := s.settings[settingHold+allLogs]; why != "" {
		return why
	}
	return s.settings[settingHold+logKey(log)]
}

// keeps returns how long entries of a log are kept; 0 = for ever.
func (s *state) keeps(log logcore.LogID) time.Duration {
	if own, ok := s.settings[settingKeep+logKey(log)]; ok {
		return parseSeconds(own)
	}
	return parseSeconds(s.settings[settingKeep+allLogs])
}

// heldFor reports whether an entry is of a log under hold, or part of the history of one.
func (s *state) heldFor(e ContentEntry) bool {
	return s.held(e.Log) != "" || slices.ContainsFunc(e.Heirs, func(l logcore.LogID) bool { return s.held(l) != "" })
}

// keepsFor returns how long an entry is kept: as long as any log wants whose history it is
// part of; 0 = for ever.
func (s *state) keepsFor(e ContentEntry) time.Duration {
	keep := s.keeps(e.Log)
	for _, l := range e.Heirs {
		own := s.keeps(l)
		if keep == 0 || own == 0 {
			return 0
		}
		keep = max(keep, own)
	}
	return keep
}

// lockBatch bounds the objects that are locked in one round.
const lockBatch = 64

// holdLock is how long fragments are locked while something is under hold, and are locked
// anew long before that is over: a hold wins over who has the credentials too.
const holdLock = 30 * 24 * time.Hour

// lockSome locks the fragments of sealed objects at the providers that offer it. Locks are
// of single objects: a bucket's default could be anything.
func (a *Archiver) lockSome(ctx context.Context) error {
	s := a.state.Load()
	lock, held := parseSeconds(s.settings[settingLock]), false
	for key := range s.settings {
		held = held || strings.HasPrefix(key, settingHold)
	}
	if lock == 0 && !held {
		return nil
	}
	now, done := time.Now(), 0
	var errs []error
	for _, o := range s.live {
		if o.kind() != KindSealed || done == lockBatch {
			continue
		}
		var until time.Time
		if lock > 0 {
			until = o.lastTime.Wall().Add(lock)
		}
		if held && until.Before(now.Add(holdLock)) {
			until = now.Add(holdLock)
		}
		// Locked for at least half of what a hold wants, or for all of a retention: enough.
		a.mu.Lock()
		has := a.locked[o.name()]
		a.mu.Unlock()
		if until.Before(now) || !has.Before(until) || held && has.After(now.Add(holdLock/2)) && has.After(o.lastTime.Wall().Add(lock)) {
			continue
		}
		a.mu.Lock()
		a.locked[o.name()] = until // before: a fragment placed anew meanwhile takes it back
		a.mu.Unlock()
		if err := a.lockObject(ctx, o, until.Truncate(time.Second).Add(time.Second)); err != nil {
			errs = append(errs, err)
			a.unlocked(o.name())
			continue
		}
		done++
	}
	if done == lockBatch {
		poke(a.scrubWake)
	}
	return errors.Join(errs...)
}

// unlocked notes that a fragment of an object is not locked, say because it was placed anew.
func (a *Archiver) unlocked(n objectName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.locked, n)
}

// lockObject locks the fragments of an object where that is offered.
func (a *Archiver) lockObject(ctx context.Context, o *object, until time.Time) error {
	var errs []error
	for i, f := range o.fragments {
		r := remoteNamed(a.all(), f.target)
		if r == nil || !a.locks(ctx, r) {
			continue
		}
		err := r.do(ctx, func(ctx context.Context) error {
			err := r.Bucket.(bucket.Retainer).Retain(ctx, o.name().key(o.Cluster, o.Shard, i), until)
			if errors.Is(err, bucket.ErrRetention) {
				return nil // it is locked for longer
			}
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("lock fragment %d of %s on %s: %w", i, o.describe(), r.Name, err))
		}
	}
	return errors.Join(errs...)
}

// locks reports whether a target has shown that it keeps what is locked: a probe was
// locked, and could not be deleted. What a provider documents is not asked.
func (a *Archiver) locks(ctx context.Context, r *remote) bool {
	if known, ok := a.lockable[r.Name]; ok {
		return known
	}
	if _, ok := r.Bucket.(bucket.Retainer); !ok || a.o.ProbeLock == nil {
		a.lockable[r.Name] = false
		return false
	}
	ok, err := a.o.ProbeLock(ctx, r.Bucket)
	if err != nil {
		a.log.Warn("whether a target locks objects is not known yet", "target", r.Name, "error", err)
		return false
	}
	a.lockable[r.Name] = ok
	if !ok {
		a.log.Warn("a target does not lock objects: what is deleted there is rebuilt from the others, but nothing prevents it", "target", r.Name)
	}
	return ok
}
