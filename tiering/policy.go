package tiering

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/logcore/logcore/tiering/erasure"
)

// settingCode is the setting of the manifest that says how new objects are coded, as in
// "4+2". Without it the archiver's Options do.
const settingCode = "code"

// code returns how new objects are coded.
func (a *Archiver) code() (k, m int) {
	return a.codeOf(a.state.Load())
}

func (a *Archiver) codeOf(s *state) (k, m int) {
	if s != nil {
		if k, m, ok := parseCode(s.settings[settingCode]); ok {
			return k, m
		}
	}
	return a.o.K, a.o.M
}

func parseCode(text string) (k, m int, ok bool) {
	left, right, plus := strings.Cut(text, "+")
	k, err1 := strconv.Atoi(left)
	m, err2 := strconv.Atoi(right)
	return k, m, plus && err1 == nil && err2 == nil && erasure.ValidateKM(k, m) == nil
}

// CheckPlacement checks the policy: every fragment of a k+m object on a target of its
// own, and no provider with more than m of them, so that any provider may vanish with
// all it has. A target that names no provider stands for itself. The error wraps
// ErrPlacement, and says what would help.
func CheckPlacement(targets []Target, k, m int) error {
	if err := erasure.ValidateKM(k, m); err != nil {
		return err
	}
	count := map[string]int{}
	for _, t := range targets {
		count[providerKey(t)]++
	}
	if len(targets) < k+m {
		return fmt.Errorf("%w: %d+%d needs %d targets, one for each fragment, and there are %d: add %d more, or use a smaller code", ErrPlacement, k, m, k+m, len(targets), k+m-len(targets))
	}
	if m == 0 {
		return nil // asked for: every loss is final
	}
	fit, most := 0, ""
	for _, p := range sortedProviders(count) {
		fit += min(count[p], m)
		if most == "" || count[p] > count[most] {
			most = p
		}
	}
	if fit >= k+m {
		return nil
	}
	return fmt.Errorf("%w: with %d+%d a provider may hold %d of the %d fragments, so that it can vanish, and these targets take %d: provider %q has %d targets: put %d targets at other providers, say with provider= in their URLs which are lost together, or use more parity",
		ErrPlacement, k, m, m, k+m, fit, most, count[most], k+m-fit)
}

func sortedProviders(count map[string]int) []string {
	out := make([]string, 0, len(count))
	for p := range count {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// compareCost orders targets for placement: what is read most, the data, goes where
// reading is free. The name decides at last, so that every archiver chooses alike.
func compareCost(a, b *remote) int {
	home := func(r *remote) int {
		if r.Home {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(home(a), home(b)), cmp.Compare(a.Prices.Egress, b.Prices.Egress),
		cmp.Compare(a.Prices.Storage, b.Prices.Storage), cmp.Compare(a.Name, b.Name))
}

// candidates returns the targets that fragments may be placed on, best first: those of
// the archive that are not being evacuated.
func (a *Archiver) candidates() []*remote { return a.candidatesOf(a.state.Load()) }

func (a *Archiver) candidatesOf(s *state) []*remote {
	out := slices.Clone(a.all())
	if s != nil && s.number > 0 {
		out = slices.DeleteFunc(out, func(r *remote) bool { return !slices.Contains(s.targets, r.Name) || slices.Contains(s.leaving, r.Name) })
	}
	slices.SortFunc(out, compareCost)
	return out
}

// placement returns where the fragments of a k+m object go, by index: data on the best
// targets, no more than m at a provider as long as that is possible. An entry is nil when
// there are too few targets.
func (a *Archiver) placement(k, m int) []*remote {
	return choose(a.candidates(), k, m)
}

func choose(candidates []*remote, k, m int) []*remote {
	out := make([]*remote, 0, k+m)
	count := map[string]int{}
	for _, within := range []bool{true, false} {
		for _, r := range candidates {
			if len(out) == k+m {
				return out
			}
			p := providerKey(r.Target)
			if slices.Contains(out, r) || within && m > 0 && count[p] >= m {
				continue
			}
			out = append(out, r)
			count[p]++
		}
	}
	return append(out, make([]*remote, k+m-len(out))...)
}

// spot returns a target for a fragment of o that is on none: the one it belongs on, or,
// when that holds another one or there is none, the best that is well and allowed.
func (a *Archiver) spot(o *object, index int) *remote {
	count, used := map[string]int{}, map[string]bool{}
	for i, f := range o.fragments {
		if r := remoteNamed(a.all(), f.target); r != nil && i != index {
			used[r.Name] = true
			count[providerKey(r.Target)]++
		}
	}
	well := func(r *remote) bool { ok, _ := r.health(); return ok }
	if r := a.placement(o.K, o.M)[index]; r != nil && !used[r.Name] {
		if well(r) {
			return r
		}
		return nil // it will be back, or is removed one day
	}
	for _, r := range a.candidates() {
		if !used[r.Name] && (o.M == 0 || count[providerKey(r.Target)] < o.M) && well(r) {
			return r
		}
	}
	return nil
}

// warnPlacement says so when losing one provider would lose more than m fragments: an
// archive that is there is not stopped for that.
func (a *Archiver) warnPlacement() {
	if err := CheckPlacement(a.o.Targets, a.o.K, a.o.M); err != nil {
		a.log.Warn("if one provider vanishes, so may the archive", "error", err)
	}
}

// SetCode makes the archive one of k+m fragments: new objects at once, what is there
// little by little. It fails with ErrPlacement when the targets can't carry that; they
// then have to be added first. On return the choice is in the manifest.
func (a *Archiver) SetCode(ctx context.Context, k, m int) error {
	err := a.decide(ctx, func(s *state) (*record, error) {
		r := s.change(a.o.Epoch, a.targetNames())
		r.settings = map[string]string{settingCode: fmt.Sprintf("%d+%d", k, m)}
		return r, a.checkPolicy(s, k, m, "")
	})
	if err != nil {
		return fmt.Errorf("re-code to %d+%d: %w", k, m, err)
	}
	return nil
}

// decide commits a record that steers the archive, or nil. It is checked against the state
// that the record follows: two decisions can't each be right without the other.
func (a *Archiver) decide(ctx context.Context, build func(s *state) (*record, error)) error {
	if a.state.Load() == nil {
		return errNotTakenOver
	}
	var refused error
	err := a.commit(ctx, func(s *state) (r *record) {
		if r, refused = build(s); refused != nil {
			return nil
		}
		return r
	})
	if err = cmp.Or(refused, err); err == nil {
		poke(a.wake)
	}
	return err
}

// checkPolicy checks the placement of k+m on the targets in use but one.
func (a *Archiver) checkPolicy(s *state, k, m int, without string) error {
	var targets []Target
	for _, r := range a.candidatesOf(s) {
		if r.Name != without {
			targets = append(targets, r.Target)
		}
	}
	return CheckPlacement(targets, k, m)
}

// errNotTakenOver: the archive can't be steered before it is known.
var errNotTakenOver = fmt.Errorf("%w: the archive is not taken over yet: too few targets answer", ErrUnproven)

// set commits settings of the archive; an empty value unsets one.
func (a *Archiver) set(ctx context.Context, settings map[string]string) error {
	return a.decide(ctx, func(s *state) (*record, error) {
		r := s.change(a.o.Epoch, a.targetNames())
		r.settings = settings
		return r, nil
	})
}

// Code returns k and m of new objects.
func (a *Archiver) Code() (k, m int) { return a.code() }

// recodeOne is one object of another code than the archive's that can be re-coded now.
func (a *Archiver) recodable() *object {
	k, m := a.code()
	s := a.state.Load()
	for _, o := range s.live {
		if (o.K != k || o.M != m) && s.onPath(o) {
			return o
		}
	}
	return nil
}

// recode codes objects anew that are of another code than the archive's, one at a time.
// The old fragments are named by the manifest until the new ones are: only then, and
// after the grace, are they collected.
func (a *Archiver) recode(ctx context.Context) error {
	for range repairBatch {
		o := a.recodable()
		if o == nil {
			return nil
		}
		if err := a.recodeObject(ctx, o); err != nil {
			return fmt.Errorf("re-code %s: %w", o.describe(), err)
		}
	}
	poke(a.wake) // there may be more
	return nil
}

func (a *Archiver) recodeObject(ctx context.Context, o *object) error {
	if err := a.step("recode"); err != nil {
		return err
	}
	share, err := a.memory.reserve(ctx, 6*o.Length)
	if err != nil {
		return err
	}
	defer share.release()
	sealed, err := a.Reader().fetchObject(ctx, o)
	if err != nil {
		return err
	}
	n := *o
	n.K, n.M = a.code()
	n.Epoch, n.BlockBytes, n.Digest, n.Version = a.o.Epoch, 0, [32]byte{}, 0
	_, err = a.supersede(ctx, o, &n, sealed, nil, nil)
	return err
}

// supersede codes and places a sealed object and commits it in the place of another one
// of the same range, unless that was superseded meanwhile or allowed says no to the state
// that the record follows; nil = it is allowed in any.
func (a *Archiver) supersede(ctx context.Context, old, n *object, sealed []byte, tombstones []Tombstone, allowed func(*state) bool) (done bool, err error) {
	n.Label = n.label()
	n.fragments = make([]fragment, n.K+n.M)
	coded, err := erasure.Code(n.Meta, sealed)
	if err != nil {
		return false, err
	}
	n.Meta = coded.Meta
	for i, sum := range coded.Sums {
		n.fragments[i].sum = sum
	}
	if n.name() == old.name() {
		return false, nil // it is what is there
	}
	defer a.landed(n.name())
	if err := a.place(ctx, n, coded.Fragments); err != nil {
		return false, err
	}
	err = a.commit(ctx, func(s *state) *record {
		if !slices.ContainsFunc(s.segmentObjects(old.SegmentFirst), func(o *object) bool { return o.name() == old.name() }) {
			return nil // superseded meanwhile: the sweep collects what was put
		}
		if allowed != nil && !allowed(s) {
			return nil
		}
		done = true
		r := s.change(a.o.Epoch, a.targetNames(), s.settled(n))
		r.dropped, r.tombstones = []objectName{old.name()}, tombstones
		return r
	})
	if err == nil && !done {
		a.mu.Lock()
		for _, r := range a.all() {
			a.unswept[r.Name] = true
		}
		a.mu.Unlock()
	}
	return done && err == nil, err
}

// settled returns an object without fragments on targets that were removed since they
// were placed.
func (s *state) settled(o *object) *object {
	if s.number == 0 || !slices.ContainsFunc(o.fragments, func(f fragment) bool { return f.target != "" && !slices.Contains(s.targets, f.target) }) {
		return o
	}
	n := *o
	n.fragments = slices.Clone(o.fragments)
	for i, f := range n.fragments {
		if !slices.Contains(s.targets, f.target) {
			n.fragments[i].target = ""
		}
	}
	return &n
}
