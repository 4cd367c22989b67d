package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/logcore/logcore"
)

// takeOver makes this archiver the one that writes.
//
// It looks before it claims: an archiver that must not write leaves no claim either,
// which would fence the one that may. Then it leaves its claim on a majority and only
// then reads the manifest that counts, from a majority too. An older archiver looks for
// claims after it has written a record to a majority and before it counts it. Two
// majorities share a target: there either the older one finds the claim, or its record
// was there before this one read.
func (a *Archiver) takeOver(ctx context.Context) error {
	m, err := a.look(ctx)
	if err != nil {
		return err
	}
	if err := a.step("claim"); err != nil {
		return err
	}
	signers, err := a.claimSigners(ctx, m.state)
	if err != nil {
		return err
	}
	if err := a.claim(ctx, signers); err != nil {
		return err
	}
	if m, err = a.look(ctx); err != nil {
		return err
	}
	for _, p := range m.problems {
		if p.Kind == ProblemRecordRotten || p.Kind == ProblemRecordFork {
			a.o.ManifestCorruptions.Inc()
		}
		a.log.Warn("manifest: will be repaired from the other targets", "problem", p.String())
	}
	return a.adopt(ctx, m)
}

// look reads and proves the manifest and refuses when this archiver can't be the one
// that goes on with it.
func (a *Archiver) look(ctx context.Context) (*manifest, error) {
	m, err := loadManifest(ctx, a.all(), a.o.Cluster, a.o.Shard, a.o.Keys)
	if m == nil || err != nil && !errors.Is(err, ErrNoArchive) {
		return nil, err
	}
	a.setElectorates(electoratesOf(m.chain)...)
	remotes := a.all()
	answers := make([]error, len(remotes))
	for i, r := range remotes {
		if !slices.Contains(m.answered, r.Name) {
			answers[i] = errStillRunning
		}
	}
	if err := a.quorum("", answers); err != nil {
		return nil, fmt.Errorf("%w: %d of %d targets answered, a majority of the archive's is needed to take it over; no answer from: %s", ErrUnproven, len(m.answered), len(answers), a.silent(m))
	}
	if err := a.checkSuccession(m); err != nil {
		return nil, err
	}
	if m.state.epoch > a.o.Epoch {
		return nil, fmt.Errorf("%w: the archive was written by epoch %d, this archiver has %d", logcore.ErrFenced, m.state.epoch, a.o.Epoch)
	}
	if err := a.checkTargets(m.state); err != nil {
		return nil, err
	}
	return m, a.checkSource(ctx, m.state)
}

// silent names the targets that did not answer, and why.
func (a *Archiver) silent(m *manifest) string {
	var out []string
	for _, r := range a.all() {
		if !slices.Contains(m.answered, r.Name) {
			_, err := r.health()
			out = append(out, fmt.Sprintf("%s (%v)", r.Name, err))
		}
	}
	return strings.Join(out, ", ")
}

// checkSource refuses a hot tier that does not continue the archive: an older one, one
// of another history, or one that has let go of what the archive does not have.
func (a *Archiver) checkSource(ctx context.Context, s *state) error {
	covered, last := s.covered(), a.o.Source.Last()
	if last < covered {
		return fmt.Errorf("%w: the archive holds entries up to %d, the hot tier up to %d: it is an older one; run `logcore restore` to bring back what the archive holds", ErrDiverged, covered, last)
	}
	segments := a.o.Source.Segments()
	if len(segments) == 0 {
		return nil
	}
	first := segments[0].First
	if first > covered+1 {
		return fmt.Errorf("%w: the hot tier begins at entry %d and the archive on these targets ends at %d: entries in between are on neither; are these the archive's targets?", ErrDiverged, first, covered)
	}
	if covered == 0 {
		return nil
	}
	archived, at := s.path[len(s.path)-1].sum, max(first, covered)
	span, err := a.o.Source.ReadSpan(ctx, at, at, 1)
	if err != nil {
		return fmt.Errorf("%w: entry %d of the hot tier, where the archive ends, can't be compared: %w", ErrUnproven, at, err)
	}
	hot := span.Sum
	if at > covered {
		hot = span.Prev
	}
	switch {
	case hot == archived:
		return nil
	case a.o.Source.Committed() < covered:
		return fmt.Errorf("%w: entry %d of the hot tier is not committed yet", ErrUnproven, covered)
	}
	return diverged(covered, archived, hot)
}

// targetNames returns the targets of the next record: the archive's, or all for a new one.
func (a *Archiver) targetNames() []string {
	if s := a.state.Load(); s != nil && s.number > 0 {
		return s.targets
	}
	return namesOf(a.all())
}

func namesOf(remotes []*remote) []string {
	names := make([]string, len(remotes))
	for i, r := range remotes {
		names[i] = r.Name
	}
	slices.Sort(names)
	return names
}

// checkTargets refuses fewer targets than the archive's: one that is left out would miss
// records, and with another number another one is a majority. More are fine: they are
// added once the archive is taken over.
func (a *Archiver) checkTargets(s *state) error {
	if s.number == 0 {
		return nil
	}
	have := namesOf(a.all())
	for _, name := range s.targets {
		if !slices.Contains(have, name) {
			return fmt.Errorf("%w: the archive is on targets %s, configured are %s: configure the same names (a target that is gone included), or remove a target with `logcore target remove`",
				logcore.ErrInvalid, strings.Join(s.targets, ","), strings.Join(have, ","))
		}
	}
	return nil
}

// electorates returns the sets of targets of each of which a majority must take a record
// for it to count: the archive's, and while that changes those before and after. Two that
// follow each other differ by one target, so that their majorities meet.
func (a *Archiver) electorates() [][]string {
	if sets := a.elect.Load(); sets != nil {
		return *sets
	}
	return [][]string{namesOf(a.all())}
}

// setElectorates sets them, as long as they are known; nil means all targets.
func (a *Archiver) setElectorates(sets ...[]string) {
	sets = slices.DeleteFunc(sets, func(s []string) bool { return len(s) == 0 })
	if len(sets) == 0 {
		a.elect.Store(nil)
		return
	}
	sets = slices.CompactFunc(sets, slices.Equal)
	a.elect.Store(&sets)
}

// electoratesOf are those of a chain: its newest record may be on few targets yet, when
// that changed the set the one before counts too.
func electoratesOf(chain []stored) [][]string {
	var sets [][]string
	for _, s := range chain[max(0, len(chain)-2):] {
		sets = append(sets, s.targets)
	}
	return sets
}

// quorum turns the errors of a round over all targets into nil when a majority of every
// electorate succeeded, or into an ErrNoQuorum that names the others.
func (a *Archiver) quorum(what string, errs []error) error {
	remotes := a.all()
	for _, names := range a.electorates() {
		var bad []string
		good := 0
		for i, err := range errs {
			switch {
			case !slices.Contains(names, remotes[i].Name):
			case err == nil:
				good++
			default:
				bad = append(bad, fmt.Sprintf("%s (%v)", remotes[i].Name, err))
			}
		}
		if need := majority(len(names)); good < need {
			return fmt.Errorf("%w: %s is on %d of %d, %d are needed; failed: %s", ErrNoQuorum, what, good, len(names), need, strings.Join(bad, "; "))
		}
	}
	return nil
}

// checkFence looks for a claim of a higher epoch on the targets that errs shows no
// error for. It needs their majority to answer.
func (a *Archiver) checkFence(ctx context.Context, errs []error) (fenced bool, err error) {
	answers := a.round(ctx, func(ctx context.Context, i int) error {
		if i >= len(errs) {
			return errStillRunning // added since: not asked
		}
		if errs[i] != nil {
			return errs[i]
		}
		return a.fencedOn(ctx, a.all()[i])
	})
	for _, err := range answers {
		if errors.Is(err, logcore.ErrFenced) {
			return true, err
		}
	}
	return false, a.quorum("the look for newer claims", answers)
}

// adopt completes the chain on a majority of the targets, so that whatever the earlier
// archiver left half written counts from now on, and removes forks from the others.
func (a *Archiver) adopt(ctx context.Context, m *manifest) error {
	if err := a.step("adopt"); err != nil {
		return err
	}
	for _, r := range a.all() {
		for key := range m.holds[r.Name] {
			r.hold(key, true)
		}
	}
	remotes := a.all()
	errs := each(ctx, len(remotes), majority(len(remotes)), a.o.MaxAge, func(ctx context.Context, i int) error {
		return a.syncRemote(ctx, remotes[i], m.chain)
	})
	if err := a.quorum("the manifest as loaded", errs); err != nil {
		return err
	}
	for _, r := range a.all() {
		for _, key := range m.forks[r.Name] {
			if err := a.step("unfork"); err != nil {
				return err
			}
			// The chain is on a majority; a fork that stays behind is found again next time.
			_ = r.delete(ctx, key)
		}
	}
	a.commitSlot <- struct{}{} // free: nothing commits before the take-over
	defer func() { <-a.commitSlot }()
	a.chain = slices.Clone(m.chain)
	a.publish(m.state)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.all() {
		a.unswept[r.Name] = true
	}
	now := time.Now()
	for _, n := range m.state.retired {
		a.retiredAt[n] = now
	}
	return nil
}

// syncRemote writes to a target the records of the chain that it lacks. Other bytes
// under such a key are rot or a fork: the chain is on a majority, so it goes. It makes
// one call at least, which tells whether the target is there; with a nil chain only that.
func (a *Archiver) syncRemote(ctx context.Context, r *remote, chain []stored) error {
	var missing []stored
	if chain != nil {
		missing = r.lacks(chain)
	}
	for _, s := range missing {
		if err := a.step("sync"); err != nil {
			return err
		}
		if err := r.putVerified(ctx, s.key(), s.encoded, always, func() error { return nil }); err != nil {
			return err
		}
		r.hold(s.key(), true)
	}
	if len(missing) == 0 {
		_, err := r.list(ctx, claimPrefix(a.o.Cluster, a.o.Shard), claimKey(a.o.Cluster, a.o.Shard, a.o.Epoch))
		return err
	}
	return nil
}
