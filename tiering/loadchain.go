package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/logcore/logcore"
)

// bestChain links the valid records by their hashes and returns the chain that leads
// from a rollup or from record 1, base first, to the best record: the one with the
// highest epoch, then the highest number. whole is false, and chain nil, when none
// leads to it: an older chain must not pass for the newest.
func (l *loader) bestChain() (chain []stored, whole bool) {
	byHash := map[[32]byte]stored{}
	for _, g := range l.got {
		for _, s := range g {
			byHash[s.hash] = s
		}
	}
	tips := make([]stored, 0, len(byHash))
	for _, s := range byHash {
		tips = append(tips, s)
	}
	slices.SortFunc(tips, func(a, b stored) int {
		return cmp.Or(cmp.Compare(b.epoch, a.epoch), cmp.Compare(b.number, a.number), slices.Compare(a.hash[:], b.hash[:]))
	})
	for _, tip := range tips {
		if tip.epoch < tips[0].epoch || tip.number < tips[0].number {
			break
		}
		if chain := ground(byHash, tip); chain != nil {
			return chain, true
		}
	}
	return nil, false
}

// ground follows the hashes back from a tip to the nearest rollup or record 1.
func ground(byHash map[[32]byte]stored, tip stored) []stored {
	chain := []stored{tip}
	for s := tip; s.kind != recordRollup && s.number != 1; {
		before, ok := byHash[s.prev]
		if !ok || before.number != s.number-1 || before.epoch > s.epoch {
			return nil
		}
		chain = append(chain, before)
		s = before
	}
	slices.Reverse(chain)
	if chain[0].number == 1 && chain[0].prev != ([32]byte{}) {
		return nil
	}
	return chain
}

// finish folds the chain, checks that enough targets answered, and names what is
// missing, rotten or forked where.
func (l *loader) finish(ctx context.Context, chain []stored) (*manifest, error) {
	m := &manifest{chain: chain, state: &state{cluster: l.cluster, shard: l.shard}, problems: l.problems,
		holds: map[string]map[string]bool{}, forks: map[string][]string{}}
	for _, s := range chain {
		next, err := m.state.apply(s.record, s.hash)
		if err != nil {
			return nil, at(err, "manifest", s.key())
		}
		m.state = next
	}
	l.compare(m)
	for i, r := range l.remotes {
		if l.errs[i] == nil {
			m.answered = append(m.answered, r.Name)
		}
	}
	l.readClaims(ctx, m)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m, l.checkQuorum(m)
}

// compare notes for each target which records of the chain it lacks and which it has
// beside it.
func (l *loader) compare(m *manifest) {
	inChain := map[string][32]byte{}
	base := uint64(1)
	for i, s := range m.chain {
		if i == 0 {
			base = s.number
		}
		inChain[s.key()] = s.hash
	}
	for i, r := range l.remotes {
		if l.seen[i] == nil || l.errs[i] != nil {
			continue
		}
		m.holds[r.Name] = map[string]bool{}
		for key, s := range l.got[i] {
			hash, ok := inChain[key]
			switch {
			case ok && hash == s.hash:
				m.holds[r.Name][key] = true
			case s.number >= base:
				m.forks[r.Name] = append(m.forks[r.Name], key)
				kind, detail := ProblemRecordFork, "is not of the chain that counts"
				if l.isLeftover(m, s) {
					kind, detail = ProblemRecordLeftover, "is not of the chain: its archiver stopped while writing it, and the next one went on without"
				}
				m.problems = append(m.problems, Problem{Target: r.Name, Key: key, Offset: -1, Kind: kind,
					Detail: fmt.Sprintf("record %d of epoch %d %s", s.number, s.epoch, detail)})
			}
		}
	}
	l.noteMissing(m)
}

// isLeftover reports whether a record beside the chain is what an archiver leaves that
// stops while it writes one: the only one of its kind on top of the chain, of an older
// epoch than what followed, and on no majority.
func (l *loader) isLeftover(m *manifest, fork stored) bool {
	if len(m.chain) == 0 {
		return false
	}
	after := m.chain[len(m.chain)-1]
	onChain := m.chain[0].prev == fork.prev
	for _, s := range m.chain {
		onChain = onChain || s.hash == fork.prev
		if s.number == fork.number {
			after = s
		}
	}
	copies := 0
	for _, got := range l.got {
		for _, s := range got {
			if s.hash == fork.hash {
				copies++
			}
			if s.prev == fork.hash {
				return false // its archiver went on after it
			}
		}
	}
	return onChain && fork.epoch < after.epoch && copies < majority(len(m.state.targets))
}

// noteMissing notes the records of the chain that targets lack. The newest one may be
// on no majority because its archiver stopped while writing it: it counts all the same
// once it is found, and who lacks it has lost nothing. Neither has who lacks only the
// newest ones, others having proved them.
func (l *loader) noteMissing(m *manifest) {
	behind := l.behind(m)
	for i, s := range m.chain {
		key, kind, detail := s.key(), ProblemRecordMissing, "lost, or the target was rolled back"
		if i == len(m.chain)-1 && l.maybeOn(m, key) < majority(len(m.state.targets)) {
			kind, detail = ProblemRecordOpen, "its archiver stopped while writing it; the next one completes it"
		}
		for name, holds := range m.holds {
			if !holds[key] && !hasProblem(m.problems, name, key) {
				kind, detail := kind, detail
				if from, ok := behind[name]; ok && i >= from && kind == ProblemRecordMissing {
					kind, detail = ProblemRecordBehind, "the target was away when it was written; the archiver brings it up to date"
				}
				m.problems = append(m.problems, Problem{Target: name, Key: key, Offset: -1, Kind: kind,
					Detail: fmt.Sprintf("record %d is missing: %s", s.number, detail)})
			}
		}
	}
}

// behind returns the targets that were away for a while, and from which place in the
// chain on: they hold nothing after it, while a majority holds all of that.
func (l *loader) behind(m *manifest) map[string]int {
	proved := func(s stored) bool {
		n := 0
		for _, name := range m.state.targets {
			if m.holds[name][s.key()] {
				n++
			}
		}
		return n >= majority(len(m.state.targets))
	}
	out := map[string]int{}
	for i, r := range l.remotes {
		holds := m.holds[r.Name]
		if holds == nil {
			continue
		}
		from := len(m.chain)
		for from > 0 && !holds[m.chain[from-1].key()] && !hasProblem(m.problems, r.Name, m.chain[from-1].key()) &&
			(from == len(m.chain) || proved(m.chain[from-1])) {
			from--
		}
		// One without any record, older ones included, has lost them.
		if from > 0 || len(l.seen[i]) > 0 {
			out[r.Name] = from
		}
	}
	return out
}

// maybeOn counts the targets that hold a record, or held it and damaged it, or were not
// read.
func (l *loader) maybeOn(m *manifest, key string) (n int) {
	for _, name := range m.state.targets {
		if holds, read := m.holds[name]; !read || holds[key] || hasProblem(m.problems, name, key) {
			n++
		}
	}
	return n
}

func hasProblem(ps []Problem, target, key string) bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Target == target && p.Key == key })
}

// proves reports whether remote i would show the tip had it got it. A target with
// neither records nor a claim as old as the tip's epoch may have lost both.
func (l *loader) proves(i int, s *state) bool {
	return slices.Contains(s.targets, l.remotes[i].Name) &&
		(len(l.got[i]) > 0 || len(l.claims[i]) > 0 && l.claims[i][0] <= s.epoch || hasTarget(l.problems, l.remotes[i].Name))
}

// checkQuorum refuses when the targets that answered can't prove the newest record.
func (l *loader) checkQuorum(m *manifest) error {
	names := m.state.targets
	var silent []string
	proving := 0
	for i, r := range l.remotes {
		if l.errs[i] != nil {
			silent = append(silent, fmt.Sprintf("%s (%v)", r.Name, l.errs[i]))
			continue
		}
		if len(m.chain) > 0 && l.proves(i, m.state) {
			proving++
		}
	}
	if err := l.checkUnjudged(m); err != nil {
		return err
	}
	if len(m.chain) == 0 {
		if rotten := slices.IndexFunc(m.problems, func(p Problem) bool { return p.Kind == ProblemRecordRotten }); rotten >= 0 {
			p := m.problems[rotten]
			if p.err != nil && notDamage(p.err) {
				return fmt.Errorf("tiering: manifest on %s: %w", p.Target, p.err)
			}
			return &logcore.CorruptionError{Place: p.Target, Object: p.Key, Offset: p.Offset,
				Reason: "no chain of manifest records is whole on the targets that answered: " + p.Detail}
		}
		if l.anySeen() {
			return &logcore.CorruptionError{Place: "manifest", Object: shardPrefix(l.cluster, l.shard), Offset: -1,
				Reason: "records are missing on every target that answered: no chain leads back to a rollup or to record 1"}
		}
		if len(silent) > 0 {
			return fmt.Errorf("%w: no records on %v; no answer from %s", ErrNoArchive, m.answered, strings.Join(silent, ", "))
		}
		return ErrNoArchive
	}
	if err := l.checkUnread(m, len(silent)); err != nil {
		return err
	}
	for _, n := range names {
		if !slices.ContainsFunc(l.remotes, func(r *remote) bool { return r.Name == n }) {
			silent = append(silent, n+" (not given)")
		}
	}
	if need := len(names) - majority(len(names)) + 1; proving < need {
		return fmt.Errorf("%w: %d of the %d targets answered and have not lost their part of the manifest, %d are needed; no answer from: %s: bring one back and try again",
			ErrUnproven, proving, len(names), need, cmp.Or(strings.Join(silent, ", "), "none"))
	}
	return nil
}

// checkUnread refuses an older chain when the newest one may be made of records that can't
// be read here: signed with a key that a known one vouches for, or of a newer build and on
// so many targets that a majority may have taken them. A record by an unknown key that
// nobody vouches for is a forgery, wherever it is.
func (l *loader) checkUnread(m *manifest, silent int) error {
	tip, found := m.chain[len(m.chain)-1].name(), silent
	for i, u := range l.unread {
		if u.err == nil || !u.name.newer(tip) {
			continue
		}
		if errors.Is(u.err, logcore.ErrUnsupportedVersion) {
			found++
		}
		if errors.Is(u.err, errNewerKey) || found > silent && found >= majority(len(m.state.targets)) {
			return fmt.Errorf("tiering: manifest on %s: record %d can't be read: %w", l.remotes[i].Name, u.name.number, u.err)
		}
	}
	return nil
}

// checkUnjudged refuses an older chain while a newer record may be as good as it: the key
// service that could tell does not answer.
func (l *loader) checkUnjudged(m *manifest) error {
	var tip recordName
	if len(m.chain) > 0 {
		tip = m.chain[len(m.chain)-1].name()
	}
	for i, u := range l.unjudged {
		if u.err != nil && u.name.newer(tip) {
			return fmt.Errorf("tiering: manifest on %s: whether record %d is authentic can't be told: %w", l.remotes[i].Name, u.name.number, u.err)
		}
	}
	return nil
}

// unjudged reports whether err says nothing about a record, but that it could not be checked.
func unjudged(err error) bool {
	return err != nil && !errors.Is(err, logcore.ErrCorrupt) && !notDamage(err)
}

// notDamage reports whether a record can't be read for want of a newer build, of a key, or
// of trust in who signed it.
func notDamage(err error) bool {
	return errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, ErrKeyNotFound) || errors.Is(err, ErrUnknownSigner)
}

func (l *loader) anySeen() bool {
	return slices.ContainsFunc(l.seen, func(s map[recordName]bool) bool { return len(s) > 0 })
}

func hasTarget(ps []Problem, target string) bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Target == target })
}
