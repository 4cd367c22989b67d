package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// LSNRange is [First, Last].
type LSNRange struct{ First, Last logcore.LSN }

// SalvageReport says what the manifest was made of.
type SalvageReport struct {
	Location
	Epoch, Record  uint64 // of the record that was written
	First, Covered logcore.LSN
	Objects        int        // that the new manifest names
	Superseded     int        // whole objects that others cover: they are collected
	Fragments      int        // of the objects named
	Bytes          int64      // read
	Gaps           []LSNRange // entries between others that no k fragments are left of
	Unusable       []Problem  // fragments that could not be used, objects with too few
	Silent         []string   // targets that did not answer
}

// Salvage makes a manifest of what the fragments say of themselves, for an archive that
// has lost every record on every target. It lists the targets, rebuilds each object from
// its fragments, opens it, which proves that it was sealed with one of the keys, chains
// them by the checksums of their entries, and writes one record, signed anew, to a
// majority of the targets. No archiver may run meanwhile.
//
// What only the manifest knew is lost: retention and holds. So that nothing is erased that
// was under hold, the archive is under hold as a whole until that is released. Fails with
// logcore.ErrInvalid when there is a manifest that counts, with ErrNoArchive when there
// are no fragments.
func Salvage(ctx context.Context, o ReaderOptions, progress func(SalvageReport)) (SalvageReport, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return SalvageReport{}, fmt.Errorf("tiering: rebuild the manifest: %w", err)
	}
	if !opens(o.Keys) {
		return SalvageReport{}, fmt.Errorf("%w: tiering: rebuild the manifest: the key file is needed to prove objects and to sign", ErrKeyNotFound)
	}
	s := &salvage{o: o, remotes: newRemotes(o.Targets, o.OpTimeout), progress: progress, found: map[objectName]*salvaged{}}
	if err := s.locate(ctx); err != nil {
		return s.report, err
	}
	if err := s.collect(ctx); err != nil {
		return s.report, err
	}
	if err := s.open(ctx); err != nil {
		return s.report, err
	}
	return s.report, s.write(ctx)
}

// salvage is one run of Salvage.
type salvage struct {
	o        ReaderOptions
	remotes  []*remote
	progress func(SalvageReport)
	report   SalvageReport
	numbers  uint64 // the highest number of a record that any key shows
	epochs   uint64 // the highest epoch that any key shows

	mu    sync.Mutex
	found map[objectName]*salvaged // guarded by mu while collecting
	whole []*object                // proved
}

// salvaged is an object as far as it is found.
type salvaged struct {
	meta    erasure.Meta
	targets []string // by index; empty = not found
}

// locate finds out which archive it is, and refuses one that has a manifest.
func (s *salvage) locate(ctx context.Context) error {
	if s.o.Cluster == ([16]byte{}) {
		cluster, err := onlyCluster(ctx, s.o)
		if err != nil {
			return err
		}
		s.o.Cluster = cluster
	}
	s.report.Location = Location{s.o.Cluster, s.o.Shard}
	m, err := loadManifest(ctx, s.remotes, s.o.Cluster, s.o.Shard, s.o.Keys)
	switch {
	case err == nil:
		return fmt.Errorf("%w: tiering: rebuild the manifest: there is one, up to record %d and entry %d: repair damage of it with `logcore verify --repair`", logcore.ErrInvalid, m.state.number, m.state.covered())
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrUnproven) || notDamage(err) || errors.Is(err, ErrKeyUnavailable):
		return fmt.Errorf("tiering: rebuild the manifest: there may be one: %w", err)
	}
	return nil
}

// collect lists every target and reads the header of each fragment.
func (s *salvage) collect(ctx context.Context) error {
	errs := make([]error, len(s.remotes))
	eachLimited(len(s.remotes), len(s.remotes), func(i int) { errs[i] = s.collectFrom(ctx, s.remotes[i]) })
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, err := range errs {
		if err != nil {
			s.report.Silent = append(s.report.Silent, fmt.Sprintf("%s (%v)", s.remotes[i].Name, err))
		}
	}
	if len(s.found) == 0 {
		return fmt.Errorf("%w: no fragments either; no answer from: %s", ErrNoArchive, cmp.Or(strings.Join(s.report.Silent, ", "), "none"))
	}
	return nil
}

func (s *salvage) collectFrom(ctx context.Context, r *remote) error {
	keys, err := r.list(ctx, shardPrefix(s.o.Cluster, s.o.Shard), "")
	if err != nil {
		return err
	}
	eachLimited(len(keys), loadConcurrency, func(i int) { s.look(ctx, r, keys[i].Key) })
	return nil
}

// look notes what one key of a target is.
func (s *salvage) look(ctx context.Context, r *remote, key string) {
	if n, ok := parseRecordKey(s.o.Cluster, s.o.Shard, key); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.numbers, s.epochs = max(s.numbers, n.number), max(s.epochs, n.epoch)
		return
	}
	n, index, ok := parseFragmentKey(s.o.Cluster, s.o.Shard, key)
	if !ok || ctx.Err() != nil {
		return
	}
	front, err := r.get(ctx, key, 0, erasure.HeaderBytes)
	var h erasure.Header
	if err == nil {
		h, err = erasure.ParseHeader(front)
	}
	if err == nil && (nameOf(h.Meta) != n || h.Index != index) {
		err = fmt.Errorf("it is fragment %d of [%d,%d]", h.Index, h.First, h.Last)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Bytes += int64(len(front))
	if err != nil {
		s.unusable(problemOf(r.Name, key, ProblemFragmentRotten, err))
		return
	}
	s.epochs = max(s.epochs, h.Epoch)
	f := s.found[n]
	if f == nil {
		f = &salvaged{meta: h.Meta, targets: make([]string, h.K+h.M)}
		s.found[n] = f
	}
	if f.meta != h.Meta {
		s.unusable(Problem{Target: r.Name, Key: key, Offset: -1, Kind: ProblemFragmentRotten, Detail: "its header says otherwise than those of the other fragments"})
		return
	}
	f.targets[index] = r.Name
}

func (s *salvage) unusable(p Problem) {
	if len(s.report.Unusable) < problemsMax {
		s.report.Unusable = append(s.report.Unusable, p)
	}
}

// open rebuilds each object and proves it.
func (s *salvage) open(ctx context.Context) error {
	names := make([]objectName, 0, len(s.found))
	for n := range s.found {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b objectName) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last)) })
	for _, n := range names {
		o, err := s.prove(ctx, s.found[n])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if notDamage(err) || errors.Is(err, ErrKeyUnavailable) {
				return err // with the right key or build, or once the key service answers, it may be good
			}
			s.unusable(problemOf("archive", n.key(s.o.Cluster, s.o.Shard, 0), ProblemObject, err))
			continue
		}
		s.whole = append(s.whole, o)
		s.report.Objects = len(s.whole)
		if s.progress != nil {
			s.progress(s.report)
		}
	}
	return nil
}

// prove reads an object from k of its fragments and opens it.
func (s *salvage) prove(ctx context.Context, f *salvaged) (*object, error) {
	pieces := make([][]byte, len(f.targets))
	good := 0
	for i, name := range f.targets {
		r := remoteNamed(s.remotes, name)
		if r == nil || good == f.meta.K {
			continue
		}
		data, err := r.get(ctx, (&object{Meta: f.meta}).name().key(s.o.Cluster, s.o.Shard, i), 0, -1)
		s.report.Bytes += int64(len(data))
		if err == nil && len(erasure.VerifyFragment(&f.meta, i, data)) == 0 {
			pieces[i] = data
			good++
			continue
		}
		if ctx.Err() == nil {
			f.targets[i] = "" // it is placed anew
		}
	}
	if good < f.meta.K {
		return nil, fmt.Errorf("%w: [%d,%d]: %d good ones, %d are needed", ErrTooFewFragments, f.meta.First, f.meta.Last, good, f.meta.K)
	}
	sealed, _, err := erasure.Rebuild(f.meta, pieces)
	if err != nil {
		return nil, err
	}
	span, err := openObject(ctx, s.o.Keys, sealed)
	if err != nil {
		return nil, err
	}
	o := objectOf(f.meta, span)
	if labelled, ok := fromLabel(f.meta); ok {
		o.level, o.final = labelled.level, labelled.final
	}
	if err := o.checkOpened(span); err != nil {
		return nil, err
	}
	coded, err := erasure.Code(f.meta, sealed)
	if err != nil || coded.Meta != f.meta {
		return nil, errors.Join(err, damaged(-1, "[%d,%d] coded anew is another object", f.meta.First, f.meta.Last))
	}
	for i, sum := range coded.Sums {
		o.fragments[i] = fragment{f.targets[i], sum}
	}
	return o, nil
}

// objectOf describes an object by what is in it.
func objectOf(m erasure.Meta, s Span) *object {
	o := &object{Meta: m, prev: s.Prev, sum: s.Sum, firstTime: s.FirstTime, lastTime: s.LastTime, rawBytes: int64(len(s.Frames)), fragments: make([]fragment, m.K+m.M)}
	o.final = o.kind() == KindSealed && s.Sealed
	return o
}

// choose picks the objects that continue each other by their checksums, as far as they
// reach; where entries are missing in between it begins anew behind them.
func (s *salvage) choose() (live []*object) {
	// Of the same range a sealed one counts first, then what was written last; what was
	// compacted must not come back whole.
	slices.SortFunc(s.whole, func(a, b *object) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.kind(), a.kind()), cmp.Compare(b.Last, a.Last), cmp.Compare(a.rawBytes, b.rawBytes), cmp.Compare(b.Epoch, a.Epoch))
	})
	type end struct {
		lsn logcore.LSN
		sum uint32
	}
	best := map[end]*object{} // by what it continues: the way on that reaches furthest
	reach := map[end]logcore.LSN{}
	for i := len(s.whole) - 1; i >= 0; i-- {
		o := s.whole[i]
		at, to := end{o.First - 1, o.prev}, max(o.Last, reach[end{o.Last, o.sum}])
		if to >= reach[at] {
			best[at], reach[at] = o, to
		}
	}
	covered := logcore.LSN(0)
	for _, o := range s.whole {
		if o.First <= covered {
			continue
		}
		if covered > 0 && o.First > covered+1 {
			s.report.Gaps = append(s.report.Gaps, LSNRange{covered + 1, o.First - 1})
		}
		for next := best[end{o.First - 1, o.prev}]; next != nil; next = best[end{next.Last, next.sum}] {
			live = append(live, next)
			covered = next.Last
		}
	}
	return live
}

// write signs and writes the record.
func (s *salvage) write(ctx context.Context) error {
	live := s.choose()
	if len(live) == 0 {
		return fmt.Errorf("%w: no object is whole: %v", ErrTooFewFragments, s.report.Unusable)
	}
	slices.SortFunc(live, compareObjects)
	why := "the manifest was rebuilt from fragments on " + time.Now().UTC().Format(time.DateOnly) + ": whatever hold there was is not known"
	r := &record{cluster: s.o.Cluster, shard: s.o.Shard, number: s.numbers + 1, epoch: max(s.epochs, 1), kind: recordRollup,
		targets: namesOf(s.remotes), objects: live, settings: map[string]string{settingHold + allLogs: why}}
	for _, o := range s.whole {
		if !slices.Contains(live, o) {
			r.retired = append(r.retired, o.name())
		}
	}
	encoded, err := encodeRecord(ctx, s.o.Keys, r)
	if err != nil {
		return err
	}
	st, err := rollupState(r, hashOf(encoded))
	if err != nil {
		return err
	}
	good, errs := 0, make([]error, len(s.remotes))
	eachLimited(len(s.remotes), len(s.remotes), func(i int) {
		errs[i] = s.remotes[i].putVerified(ctx, r.key(), encoded, always, func() error { return nil })
	})
	for _, err := range errs {
		if err == nil {
			good++
		}
	}
	if need := majority(len(s.remotes)); good < need {
		return fmt.Errorf("%w: rebuilt record %d is on %d of %d, %d are needed: %w", ErrNoQuorum, r.number, good, len(errs), need, errors.Join(errs...))
	}
	s.report.Epoch, s.report.Record, s.report.First, s.report.Covered = r.epoch, r.number, st.first(), st.covered()
	s.report.Objects, s.report.Superseded = len(live), len(r.retired)
	for _, o := range live {
		s.report.Fragments += o.placed()
	}
	return nil
}
