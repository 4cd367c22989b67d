package tiering

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// ScrubBudget bounds what one scrub may read. Zero means no bound.
type ScrubBudget struct {
	Bytes int64   // read from the targets
	Money float64 // in the currency of Target.Prices, egress and requests
}

// ScrubOptions says what one scrub does.
type ScrubOptions struct {
	Budget   ScrubBudget
	From     logcore.LSN                        // where to begin; 0 = where the last one stopped
	Progress func(ScrubReport)                  // nil = nobody watches; called after each object
	Only     func(first, last logcore.LSN) bool // nil = all objects
}

// ScrubReport is what a scrub read and found.
type ScrubReport struct {
	Objects, Fragments int
	Bytes              int64
	Money              float64     // what reading that cost, by the prices of the targets
	Damaged            int         // fragments that are gone or not what was written
	Repaired           int         // of those, written anew
	Unread             int         // fragments whose target did not answer
	From, Next         logcore.LSN // where it began, and where the next one begins
	Complete           bool        // it came to the end of the archive: Next is its beginning
	Problems           []Problem
}

// problemsMax bounds the problems that a report lists.
const problemsMax = 1000

// errBudget ends a scrub whose budget is used up.
var errBudget = errors.New("the budget is used up")

// scrubber reads objects whole from all targets: each fragment against the manifest, the
// fragments of an object against each other and its digest.
type scrubber struct {
	remotes []*remote
	o       ScrubOptions
	report  ScrubReport
	repair  func(ctx context.Context, o *object, bad []int) (repaired int, err error) // nil = only look
	onRead  func(*object, int64, int)                                                 // bytes, damaged
}

// price is what reading the fragments of an object costs.
func (s *scrubber) price(o *object) (bytes int64, money float64) {
	for _, f := range o.fragments {
		if r := remoteNamed(s.remotes, f.target); r != nil {
			bytes += o.FragmentBytes()
			money += float64(o.FragmentBytes())/1e9*r.Prices.Egress + r.Prices.Gets/1000
		}
	}
	return bytes, money
}

// affordable reports whether the budget allows to read an object. A budget that is too
// small for a single one would never get anywhere: that is an error.
func (s *scrubber) affordable(o *object) error {
	bytes, money := s.price(o)
	b := s.o.Budget
	fits := func(bytes int64, money float64) bool {
		return (b.Bytes == 0 || bytes <= b.Bytes) && (b.Money == 0 || money <= b.Money)
	}
	switch {
	case fits(s.report.Bytes+bytes, s.report.Money+money):
		return nil
	case !fits(bytes, money):
		return fmt.Errorf("%w: scrub: %s has %d bytes of fragments, which cost %.4f to read: the budget of %d bytes and %.4f is too small for it", logcore.ErrInvalid, o.describe(), bytes, money, b.Bytes, b.Money)
	}
	return errBudget
}

// run scrubs the live objects of a state from an LSN on, around to where it began.
func (s *scrubber) run(ctx context.Context, st *state, from logcore.LSN) error {
	start, _ := slices.BinarySearchFunc(st.live, from, func(o *object, l logcore.LSN) int { return cmp.Compare(o.First, l) })
	s.report.From = from
	for _, o := range st.live[start:] {
		s.report.Next = o.First
		if s.o.Only != nil && !s.o.Only(o.First, o.Last) {
			continue
		}
		if err := s.affordable(o); err != nil {
			if errors.Is(err, errBudget) {
				return nil
			}
			return err
		}
		if err := s.object(ctx, o); err != nil {
			return err
		}
		if s.o.Progress != nil {
			s.o.Progress(s.report)
		}
	}
	s.report.Next, s.report.Complete = st.first(), true
	return ctx.Err()
}

func (s *scrubber) problem(p Problem) {
	if len(s.report.Problems) < problemsMax {
		s.report.Problems = append(s.report.Problems, p)
	}
}

// object scrubs one object.
func (s *scrubber) object(ctx context.Context, o *object) error {
	pieces := make([][]byte, len(o.fragments))
	errs := make([]error, len(o.fragments))
	eachLimited(len(pieces), len(pieces), func(i int) {
		if r := remoteNamed(s.remotes, o.fragments[i].target); r != nil {
			pieces[i], errs[i] = r.get(ctx, o.name().key(o.Cluster, o.Shard, i), 0, -1)
		}
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	bytes, money := s.price(o)
	s.report.Objects++
	s.report.Bytes, s.report.Money = s.report.Bytes+bytes, s.report.Money+money
	bad := s.judge(o, pieces, errs)
	s.report.Damaged += len(bad)
	s.parity(o, pieces, bad)
	if s.onRead != nil {
		s.onRead(o, bytes, len(bad))
	}
	if len(bad) == 0 || s.repair == nil {
		return nil
	}
	repaired, err := s.repair(ctx, o, bad)
	s.report.Repaired += repaired
	if isFatal(err) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		s.problem(Problem{Target: "archive", Key: o.describe(), Offset: -1, Kind: ProblemObject, Detail: err.Error(), err: err})
	}
	return nil
}

// judge compares each fragment with the manifest; bad are the indexes of those that are
// gone or differ.
func (s *scrubber) judge(o *object, pieces [][]byte, errs []error) (bad []int) {
	for i, f := range o.fragments {
		if f.target == "" || remoteNamed(s.remotes, f.target) == nil {
			continue // the care lane places what is not placed
		}
		key := o.name().key(o.Cluster, o.Shard, i)
		switch {
		case errors.Is(errs[i], bucket.ErrNotFound):
			bad = append(bad, i)
			s.problem(Problem{Target: f.target, Key: key, Offset: -1, Kind: ProblemFragmentMissing, Detail: "the manifest places it here and it is not"})
		case errs[i] != nil:
			s.report.Unread++
			s.problem(Problem{Target: f.target, Key: key, Offset: -1, Kind: ProblemUnreachable, Detail: errs[i].Error(), err: errs[i]})
			pieces[i] = nil
		case erasure.Sum(pieces[i]) != f.sum:
			bad = append(bad, i)
			s.problem(Problem{Target: f.target, Key: key, Offset: -1, Kind: ProblemFragmentRotten, Detail: firstFault(o, i, pieces[i])})
			pieces[i] = nil
		default:
			s.report.Fragments++
		}
	}
	return bad
}

// parity codes the object anew from k of its fragments and compares all of them: data and
// parity must belong together across the targets, and make the object that the manifest
// names.
func (s *scrubber) parity(o *object, pieces [][]byte, bad []int) {
	good := 0
	for i := range pieces {
		if slices.Contains(bad, i) {
			pieces[i] = nil
		}
		if pieces[i] != nil {
			good++
		}
	}
	if good < o.K {
		if len(bad) > 0 {
			s.problem(Problem{Target: "archive", Key: o.describe(), Offset: -1, Kind: ProblemObject, Detail: fmt.Sprintf("only %d of its fragments are good, %d are needed", good, o.K)})
		}
		return // the targets that did not answer are named
	}
	sealed, _, err := erasure.Rebuild(o.Meta, pieces)
	if err == nil {
		var coded *erasure.Coded
		if coded, err = erasure.Code(o.Meta, sealed); err == nil {
			for i, sum := range coded.Sums {
				if sum != o.fragments[i].sum {
					err = fmt.Errorf("fragment %d of the code does not belong to the other ones", i)
				}
			}
		}
	}
	if err != nil {
		s.problem(problemOf("archive", o.describe(), ProblemObject, err))
	}
}

// ScrubTargets scrubs an archive that no archiver of this process has: it reads what the
// budget allows and changes nothing. Errors are those of OpenReader.
func ScrubTargets(ctx context.Context, ro ReaderOptions, o ScrubOptions) (ScrubReport, error) {
	r, err := OpenReader(ctx, ro)
	if err != nil {
		return ScrubReport{}, err
	}
	s := &scrubber{remotes: r.remotes, o: o}
	err = s.run(ctx, r.view(), o.From)
	return s.report, err
}

// settingScrub is where the last scrub stopped: LSN, then bytes, money and day of what was
// spent on that day.
const settingScrub = "scrub"

// Scrub reads content from all targets within a budget, from where the last scrub stopped,
// repairs what is damaged, and notes in the manifest where it stopped.
func (a *Archiver) Scrub(ctx context.Context, o ScrubOptions) (ScrubReport, error) {
	st := a.state.Load()
	if st == nil {
		return ScrubReport{}, errNotTakenOver
	}
	if o.From == 0 {
		o.From = parseScrub(st.settings[settingScrub]).next
	}
	s := &scrubber{remotes: a.all(), o: o, repair: a.repairFragments, onRead: a.scrubs.read}
	err := s.run(ctx, st, o.From)
	a.scrubs.at(s.report)
	if s.report.Objects > 0 && (err == nil || !isFatal(err)) && ctx.Err() == nil {
		spent := parseScrub(st.settings[settingScrub]).on(time.Now())
		spent.next, spent.bytes, spent.money = s.report.Next, spent.bytes+s.report.Bytes, spent.money+s.report.Money
		err = errors.Join(err, a.set(ctx, map[string]string{settingScrub: spent.String()}))
	}
	return s.report, err
}

// repairFragments writes fragments anew that a scrub found damaged.
func (a *Archiver) repairFragments(ctx context.Context, o *object, bad []int) (repaired int, err error) {
	a.o.Corruptions.Add(float64(len(bad)))
	todo := map[int]*remote{}
	for _, i := range bad {
		if r := remoteNamed(a.all(), o.fragments[i].target); r != nil {
			todo[i] = r
		}
	}
	if slices.Contains(liveNamesOf(a.state.Load(), o), o.name()) {
		n, err := a.replace(ctx, o, todo)
		if err != nil {
			return 0, err
		}
		for i := range todo {
			if n.fragments[i].target != "" {
				repaired++
			}
		}
	}
	return repaired, nil
}

// liveNamesOf returns the names of the live objects of o's segment.
func liveNamesOf(s *state, o *object) (names []objectName) {
	for _, l := range s.segmentObjects(o.SegmentFirst) {
		names = append(names, l.name())
	}
	return names
}

// scrubbed is where scrubbing is, and what it has spent on a day.
type scrubbed struct {
	next  logcore.LSN
	bytes int64
	money float64
	day   int64 // since 1970
}

func parseScrub(text string) (s scrubbed) {
	fmt.Sscanf(text, "%d %d %g %d", &s.next, &s.bytes, &s.money, &s.day)
	return s
}

func (s scrubbed) String() string {
	return fmt.Sprintf("%d %d %.6f %d", uint64(s.next), s.bytes, s.money, s.day)
}

// on is what was spent on the day of a time.
func (s scrubbed) on(t time.Time) scrubbed {
	if day := t.Unix() / 86400; day != s.day {
		s.bytes, s.money, s.day = 0, 0, day
	}
	return s
}

// scrubEvery is how often the scrub lane takes a part of the day's budget.
const scrubEvery = time.Hour

// scrubDays is in how many days everything is read once, unless the budget says otherwise.
const scrubDays = 30

// scrubLane scrubs a little now and then, and compacts when that is due.
func (a *Archiver) scrubLane(ctx context.Context) error {
	return a.duties(ctx, a.scrubWake, []duty{
		{"look for some fragments", a.spotCheck},
		{"scrub", a.scrubSome},
		{"lock objects", a.lockSome},
		{"compact", a.compactDue},
	})
}

// scrubSome scrubs what the day's budget still allows, once an hour.
func (a *Archiver) scrubSome(ctx context.Context) error {
	if time.Since(a.scrubs.last) < scrubEvery {
		return nil
	}
	a.scrubs.last = time.Now()
	st := a.state.Load()
	budget := a.o.Scrub
	if budget == (ScrubBudget{}) {
		for _, o := range st.live {
			budget.Bytes += o.FragmentBytes() * int64(len(o.fragments))
		}
		budget.Bytes = max(budget.Bytes/scrubDays, 1<<30)
	}
	spent := parseScrub(st.settings[settingScrub]).on(time.Now())
	left := ScrubBudget{Bytes: budget.Bytes - spent.bytes, Money: budget.Money - spent.money}
	if budget.Bytes > 0 && left.Bytes <= 0 || budget.Money > 0 && left.Money <= 0 || len(st.live) == 0 {
		return nil
	}
	left.Bytes, left.Money = max(left.Bytes, 0), max(left.Money, 0)
	report, err := a.Scrub(ctx, ScrubOptions{Budget: left})
	if errors.Is(err, logcore.ErrInvalid) && report.Objects == 0 && (spent.bytes > 0 || spent.money > 0) {
		return nil // what is left of today's is too small for the next object; tomorrow's may do
	}
	if report.Damaged > 0 {
		a.log.Error("scrub found damage", "damaged", report.Damaged, "repaired", report.Repaired)
	}
	return err
}

// spotEvery is how often each target is asked for one fragment, chosen at random. That
// costs next to nothing, and tells of a bucket that was emptied though it answers well.
const spotEvery = time.Minute

func (a *Archiver) spotCheck(ctx context.Context) error {
	if time.Since(a.scrubs.spotted) < a.spotEvery {
		return nil
	}
	a.scrubs.spotted = time.Now()
	st := a.state.Load()
	for _, r := range a.all() {
		ok, _ := r.health()
		if !ok || len(st.live) == 0 {
			continue
		}
		start := randomBelow(len(st.live))
		for n := range min(len(st.live), 64) { // most have one here
			o := st.live[(start+n)%len(st.live)]
			if i := slices.IndexFunc(o.fragments, func(f fragment) bool { return f.target == r.Name }); i >= 0 {
				if !a.present(ctx, r, o, i) && ctx.Err() == nil {
					poke(a.tidy) // an audit of the whole target
				}
				break
			}
		}
	}
	return ctx.Err()
}

func randomBelow(n int) int {
	var b [8]byte
	rand.Read(b[:])
	return int(binary.LittleEndian.Uint64(b[:]) % uint64(n))
}

// scrubState is the scrub lane's own, and its metrics.
type scrubState struct {
	last, spotted time.Time // owned by the scrub lane

	bytes, objects, damaged prometheus.Counter
	position, complete      prometheus.Gauge
}

func newScrubState(reg prometheus.Registerer, shard logcore.ShardID) (*scrubState, error) {
	labels := prometheus.Labels{"shard": fmt.Sprint(uint32(shard))}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	s := &scrubState{last: time.Now(), spotted: time.Now(),
		bytes:   counter("logcore_archive_scrub_bytes_total", "Bytes of fragments that the scrub has read."),
		objects: counter("logcore_archive_scrub_objects_total", "Objects that the scrub has read, all fragments of each."),
		damaged: counter("logcore_archive_scrub_damaged_total", "Fragments that the scrub found gone or damaged."),
		position: prometheus.NewGauge(prometheus.GaugeOpts{Name: "logcore_archive_scrub_position_lsn", ConstLabels: labels,
			Help: "LSN where the next scrub goes on."}),
		complete: prometheus.NewGauge(prometheus.GaugeOpts{Name: "logcore_archive_scrub_complete_timestamp_seconds", ConstLabels: labels,
			Help: "When a scrub last came to the end of the archive; 0 = not since the start."}),
	}
	if reg == nil {
		return s, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{s.bytes, s.objects, s.damaged, s.position, s.complete} {
		errs = append(errs, reg.Register(c))
	}
	return s, errors.Join(errs...)
}

func (s *scrubState) read(_ *object, bytes int64, damaged int) {
	s.bytes.Add(float64(bytes))
	s.objects.Inc()
	s.damaged.Add(float64(damaged))
}

func (s *scrubState) at(r ScrubReport) {
	s.position.Set(float64(r.Next))
	if r.Complete {
		s.complete.SetToCurrentTime()
	}
}

// Summary says in a line what a scrub did.
func (r ScrubReport) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d objects, %d fragments, %d bytes read", r.Objects, r.Fragments, r.Bytes)
	if r.Money > 0 {
		fmt.Fprintf(&b, " for %.4f", r.Money)
	}
	fmt.Fprintf(&b, "; %d damaged, %d repaired, %d not read", r.Damaged, r.Repaired, r.Unread)
	return b.String()
}
