// Package chaos kills clouds under the archive tier, at random moments, and checks that it
// costs nothing: three real S3 gateways in processes of their own hold the archive of a
// log; one is killed while the archiver archives, scrubs or somebody restores; after each
// kill everything archived is read from the two clouds that are left and compared with
// the log, and after the cloud is back the archive must become fully redundant again by
// itself.
//
// The seed decides which cloud is killed in which phase after how long, and for how long it
// is away; the machine decides what it is doing at that moment. The log is a real one that
// the log service wrote; what is sealed, covered and may be trimmed is dropped at once, so
// that the archive is the only copy.
package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// The phases in which a cloud is killed.
const (
	PhaseArchive = "archive"
	PhaseScrub   = "scrub"
	PhaseRestore = "restore"
)

var phases = []string{PhaseArchive, PhaseScrub, PhaseRestore}

// The bugs that can be planted, to see that the run fails.
const (
	// PlantTrimFirst lets the hot tier drop what the archiver has read, before anything is
	// verified.
	PlantTrimFirst = "trim-before-verify"
	// PlantBlindPut believes that a put succeeded, and reads back what it remembers.
	PlantBlindPut = "put-without-read-back"
)

// Options says what to do.
type Options struct {
	// Dir is an empty directory to work in. Required, absolute.
	Dir string
	// Seed decides what happens; a run is repeated with its seed.
	Seed uint64
	// Kills is how many kills there are. Required.
	Kills int
	// RoundBytes is how much of the log is archived in each round; 0 means 768 KiB.
	RoundBytes int
	// Out gets a line of JSON for each round and one for the result; nil for none.
	Out io.Writer
	// Plant is a bug to plant; empty for none.
	Plant string
	// Patience is how long a phase may take with two clouds left, and how long the archive may
	// take to become fully redundant once the third is back; 0 means 90 s.
	Patience time.Duration
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.RoundBytes == 0 {
		o.RoundBytes = 768 << 10
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Patience == 0 {
		o.Patience = 90 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if !filepath.IsAbs(o.Dir) {
		errs = append(errs, fmt.Errorf("option Dir %q: want an absolute path", o.Dir))
	}
	if o.Kills < 1 {
		errs = append(errs, fmt.Errorf("option Kills %d: want at least 1", o.Kills))
	}
	if o.Plant != "" && o.Plant != PlantTrimFirst && o.Plant != PlantBlindPut {
		errs = append(errs, fmt.Errorf("option Plant %q: want %s or %s", o.Plant, PlantTrimFirst, PlantBlindPut))
	}
	return errors.Join(errs...)
}

// Round is what one kill did.
type Round struct {
	Round     int         `json:"round"`
	Phase     string      `json:"phase"`
	Cloud     string      `json:"cloud"`
	KillMS    int64       `json:"kill_after_ms"`
	DownMS    int64       `json:"down_ms"`
	During    bool        `json:"during"`   // the phase was under way when the cloud was killed
	Archiver  bool        `json:"archiver"` // the archiver was stopped in the same moment, and another one went on
	Covered   logcore.LSN `json:"covered_lsn"`
	HealMS    int64       `json:"heal_ms"` // from the restart until everything was redundant again
	PhaseMS   int64       `json:"phase_ms"`
	Fragments int         `json:"fragments_checked"`
	Failure   string      `json:"failure,omitempty"`
}

// Result is what a run found.
type Result struct {
	Kind         string         `json:"kind"` // "result"
	Seed         uint64         `json:"seed"`
	Kills        int            `json:"kills"`
	During       map[string]int `json:"killed_during"` // by phase: kills that hit it under way
	Lost         int            `json:"lost"`          // rounds in which something covered could not be read
	WrongBytes   int            `json:"wrong_bytes"`   // rounds in which other bytes were read
	NotRedundant int            `json:"not_redundant"` // rounds after which redundancy did not come back
	Stuck        int            `json:"stuck"`         // rounds whose phase did not end well with two clouds left
	Entries      logcore.LSN    `json:"entries"`
	Bytes        int64          `json:"bytes"`
	HealP50MS    int64          `json:"heal_p50_ms"`
	HealMaxMS    int64          `json:"heal_max_ms"`
	Seconds      float64        `json:"seconds"`
}

// OK reports whether nothing went wrong.
func (r Result) OK() bool { return r.Lost+r.WrongBytes+r.NotRedundant+r.Stuck == 0 }

// The ways in which a round can fail.
var (
	errLost         = errors.New("lost")
	errWrongBytes   = errors.New("wrong bytes")
	errNotRedundant = errors.New("not fully redundant again")
	errStuck        = errors.New("stuck")
)

// ErrVoid: the kills hit too rarely while something was under way: the run proves nothing.
var ErrVoid = errors.New("chaos: void run")

var clouds = []string{"a", "b", "c"}

// Run does the kills. It returns an error when it could not; what went wrong with the
// archive is in the result. It stops after the first round that fails.
func Run(ctx context.Context, o Options) (result Result, err error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Result{}, fmt.Errorf("chaos: %w", err)
	}
	began := time.Now()
	w := &world{o: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), last: map[string]time.Duration{PhaseArchive: time.Second, PhaseScrub: 300 * time.Millisecond, PhaseRestore: 400 * time.Millisecond}}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.open(ctx); err != nil {
		return Result{}, fmt.Errorf("chaos: %w", err)
	}
	out := json.NewEncoder(o.Out)
	result = Result{Kind: "result", Seed: o.Seed, During: map[string]int{PhaseArchive: 0, PhaseScrub: 0, PhaseRestore: 0}}
	var heals []time.Duration
	for n := range o.Kills {
		r, err := w.round(ctx, n)
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		result.Kills++
		if r.During {
			result.During[r.Phase]++
		}
		heals = append(heals, time.Duration(r.HealMS)*time.Millisecond)
		if err != nil {
			r.Failure = err.Error()
			result.count(err)
		}
		if err := out.Encode(r); err != nil {
			return result, err
		}
		if err != nil {
			break
		}
	}
	result.Entries, result.Bytes = w.source.Committed(), w.source.bytes()
	result.HealP50MS, result.HealMaxMS = spread(heals)
	result.Seconds = time.Since(began).Seconds()
	if err := out.Encode(result); err != nil {
		return result, err
	}
	hit := result.During[PhaseArchive] + result.During[PhaseScrub] + result.During[PhaseRestore]
	if result.OK() && hit*2 < result.Kills {
		return result, fmt.Errorf("%w: %d of %d kills hit something under way, want half of them", ErrVoid, hit, result.Kills)
	}
	return result, nil
}

func (r *Result) count(err error) {
	switch {
	case errors.Is(err, errWrongBytes):
		r.WrongBytes++
	case errors.Is(err, errLost):
		r.Lost++
	case errors.Is(err, errNotRedundant):
		r.NotRedundant++
	default:
		r.Stuck++
	}
}

// round kills one cloud in one phase and checks.
func (w *world) round(ctx context.Context, n int) (Round, error) {
	r := Round{Round: n + 1, Phase: phases[(n+int(w.o.Seed%3))%len(phases)], Cloud: clouds[w.rng.IntN(len(clouds))]}
	kill := time.Duration(w.rng.Float64() * float64(w.last[r.Phase]))
	down := 200*time.Millisecond + time.Duration(w.rng.IntN(1500))*time.Millisecond
	r.Archiver = r.Phase == PhaseArchive && (n < len(phases) || w.rng.IntN(2) == 0)
	r.KillMS, r.DownMS = kill.Milliseconds(), down.Milliseconds()
	if r.Phase != PhaseArchive { // there is something new to look at in every round
		if err := w.archive(ctx); err != nil {
			return r, err
		}
	}
	cloud := w.servers.Cloud(r.Cloud)
	ended := make(chan error, 1)
	began := time.Now()
	var took time.Duration
	crash := make(chan struct{}) // when the archiver dies
	go func() {
		err := w.phase(ctx, r, crash)
		took = time.Since(began)
		ended <- err
	}()
	time.Sleep(kill)
	select {
	case err := <-ended:
		ended <- err
	default:
		r.During = true
	}
	if err := cloud.Kill(); err != nil {
		return r, err
	}
	killed := time.Now()
	close(crash)
	err := <-ended
	r.PhaseMS = took.Milliseconds()
	if !r.During { // aim better the next time
		w.last[r.Phase] = took
	} else {
		w.last[r.Phase] = max(w.last[r.Phase], min(took, 3*time.Second)) * 9 / 10
	}
	if err == nil {
		err = w.checkWithout(ctx, r.Cloud)
	}
	if early := w.source.tooEarly(); early != "" {
		err = errors.Join(err, fmt.Errorf("%w: %s", errLost, early))
	}
	time.Sleep(max(time.Until(killed.Add(down)), 0))
	if err := errors.Join(cloud.Restart(ctx), ctx.Err()); err != nil {
		return r, err
	}
	r.Covered = w.archiver.Covered()
	if err != nil {
		return r, err
	}
	back := time.Now()
	r.Fragments, err = w.healed(ctx)
	r.HealMS = time.Since(back).Milliseconds()
	return r, err
}

func (w *world) phase(ctx context.Context, r Round, crash <-chan struct{}) error {
	switch {
	case r.Phase == PhaseScrub:
		return w.scrub(ctx)
	case r.Phase == PhaseRestore:
		return w.restore(ctx)
	case r.Archiver:
		return w.archiveAndCrash(ctx, crash)
	}
	return w.archive(ctx)
}

// archiveAndCrash archives more until the archiver is to die, and has another one finish.
func (w *world) archiveAndCrash(ctx context.Context, crash <-chan struct{}) error {
	to := w.source.after(int64(w.o.RoundBytes))
	for lsn := w.source.Committed() + 1; lsn <= to; lsn++ {
		w.source.reveal(lsn)
		select {
		case <-crash:
			lsn = to
		case <-time.After(5 * time.Millisecond):
		}
	}
	select {
	case <-crash:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := w.restartArchiver(ctx); err != nil {
		return err
	}
	w.source.reveal(to)
	return w.flush(ctx, to)
}

// archive reveals more of the log, bit by bit, and waits until it is covered: two clouds of
// three are a majority.
func (w *world) archive(ctx context.Context) error {
	to := w.source.after(int64(w.o.RoundBytes))
	for lsn := w.source.Committed() + 1; lsn <= to; lsn += max(1, (to-lsn)/8) {
		w.source.reveal(lsn)
		time.Sleep(30 * time.Millisecond)
	}
	w.source.reveal(to)
	return w.flush(ctx, to)
}

func (w *world) flush(ctx context.Context, to logcore.LSN) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.Patience)
	defer cancel()
	if err := w.archiver.Flush(ctx, to); err != nil {
		return fmt.Errorf("%w: archiving up to LSN %d: %w", errStuck, to, err)
	}
	return nil
}

// scrub reads everything that is archived. What it can't read because a cloud is gone is
// no damage.
func (w *world) scrub(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.Patience)
	defer cancel()
	report, err := w.archiver.Scrub(ctx, tiering.ScrubOptions{From: 1})
	if err != nil {
		return fmt.Errorf("%w: scrub: %w", errStuck, err)
	}
	for _, p := range report.Problems {
		if p.Kind == tiering.ProblemFragmentRotten || p.Kind == tiering.ProblemObject {
			return fmt.Errorf("%w: a scrub found damage where there is none: %v", errWrongBytes, p)
		}
	}
	return nil
}

// restore rebuilds the log in another directory and compares.
func (w *world) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.Patience)
	defer cancel()
	targets, done, err := w.targets(ctx, "")
	if err != nil {
		return err
	}
	defer done()
	report, err := recovery.Restore(ctx, recovery.Options{Targets: targets, Keys: w.keys, To: w.fresh("restored"), Logger: w.o.Logger})
	if err != nil {
		return fmt.Errorf("%w: restore: %w", errLost, err)
	}
	return w.compareRestored(ctx, report)
}
