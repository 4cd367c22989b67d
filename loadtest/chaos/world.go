package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// world is three clouds with two buckets each, a log, and its archiver.
type world struct {
	o    Options
	rng  *rand.Rand
	last map[string]time.Duration // how long each phase takes, about

	servers  *s3test.Servers
	keys     *tiering.Keyring
	log      *hotlog.Log
	source   *source
	archiver *tiering.Archiver
	targeted []tiering.Target // the archiver's
	epoch    uint64
	stop     context.CancelFunc
	ran      chan error
	closers  []func() error
	dirs     int
}

var cluster = [16]byte{'c', 'h', 'a', 'o', 's', 15: 1}

func (w *world) open(ctx context.Context) (err error) {
	if w.servers, err = s3test.Start(ctx, s3test.Options{Dir: filepath.Join(w.o.Dir, "clouds"), Clouds: clouds, Buckets: []string{"one", "two"}, Logger: w.o.Logger}); err != nil {
		return err
	}
	w.closers = append(w.closers, w.servers.Close)
	key := filepath.Join(w.o.Dir, "key")
	if _, err := tiering.GenerateKeyFile(key); err != nil {
		return err
	}
	if w.keys, err = tiering.LoadKeyFile(key); err != nil {
		return err
	}
	if err := w.openLog(ctx); err != nil {
		return err
	}
	return w.openArchiver(ctx)
}

// openLog has the log service write a log, long enough for all rounds.
func (w *world) openLog(ctx context.Context) (err error) {
	service := filepath.Join(w.o.Dir, "service")
	if err := writeLog(ctx, service, w.o.Seed, int64(w.o.RoundBytes)*int64(w.o.Kills+2), w.o.Logger); err != nil {
		return fmt.Errorf("write a log: %w", err)
	}
	w.log, _, err = hotlog.Open(ctx, hotlog.Options{Dir: recovery.ShardDir(service, 0), LogOf: catalog.LogOf, SegmentBytes: segmentBytes, Logger: w.o.Logger})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, w.log.Close)
	w.source = newSource(w.log, w.o.Plant)
	return nil
}

func (w *world) openArchiver(ctx context.Context) error {
	targets, done, err := w.targets(ctx, w.o.Plant)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, func() error { done(); return nil })
	w.targeted = targets
	return w.startArchiver(ctx)
}

// startArchiver starts an archiver above those before it.
func (w *world) startArchiver(ctx context.Context) (err error) {
	w.epoch++
	w.archiver, err = tiering.Open(ctx, tiering.Options{Cluster: cluster, Epoch: w.epoch, Incarnation: 1, Targets: w.targeted, Keys: w.keys, Source: w.source,
		MaxAge: 300 * time.Millisecond, Grace: 2 * time.Second, OpTimeout: 10 * time.Second, Logger: w.o.Logger})
	if err != nil {
		return err
	}
	w.source.watch(w.archiver.Covered)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop, w.ran = stop, make(chan error, 1)
	go func(a *tiering.Archiver, ran chan error) { ran <- a.Run(run) }(w.archiver, w.ran)
	return nil
}

// restartArchiver stops the archiver wherever it is, as when its node dies, and starts
// another one in its place.
func (w *world) restartArchiver(ctx context.Context) error {
	before := w.archiver.Covered()
	w.stop()
	if err := <-w.ran; err != nil {
		w.ran <- nil
		return fmt.Errorf("%w: the archiver stopped: %w", errStuck, err)
	}
	if err := w.startArchiver(ctx); err != nil {
		w.ran <- nil
		return fmt.Errorf("%w: the next archiver: %w", errStuck, err)
	}
	ctx, cancel := context.WithTimeout(ctx, w.o.Patience)
	defer cancel()
	if err := w.archiver.Flush(ctx, before); err != nil {
		return fmt.Errorf("%w: the next archiver covers LSN %d, the one before had covered %d: %w", errLost, w.archiver.Covered(), before, err)
	}
	return nil
}

func (w *world) close() error {
	var errs []error
	if w.stop != nil {
		w.stop()
		errs = append(errs, <-w.ran)
	}
	for _, c := range slices.Backward(w.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// targets opens every bucket, as a program of its own would, each with its own
// connections. With a bug planted they are those of an archiver that has it.
func (w *world) targets(ctx context.Context, plant string) (out []tiering.Target, done func(), err error) {
	done = func() {
		for _, t := range out {
			t.Bucket.Close()
		}
	}
	for i, cloud := range clouds {
		for j, name := range []string{"one", "two"} {
			scheme := []string{"minio", "s3"}[(i+j)%2]
			opened, err := target.Open(ctx, w.servers.URL(scheme, cloud, name, fmt.Sprintf("%s%d", cloud, j+1)))
			if err != nil {
				done()
				return nil, nil, err
			}
			b := opened.Bucket
			if plant == PlantBlindPut {
				b = &blind{Bucket: b, put: map[string][]byte{}}
			}
			if b, err = bucket.Harden(b, bucket.HardenOptions{Retry: bucket.RetryOptions{Attempts: 3, AttemptTimeout: 10 * time.Second, BackoffMax: time.Second}}); err != nil {
				done()
				return nil, nil, err
			}
			out = append(out, tiering.Target{Name: opened.Name, Provider: opened.Provider, Region: opened.Region, Bucket: b})
		}
	}
	return out, done, nil
}

// fresh returns the name of a directory that is not there; the one before is removed.
func (w *world) fresh(name string) string {
	_ = os.RemoveAll(filepath.Join(w.o.Dir, fmt.Sprintf("%s-%d", name, w.dirs))) // room for the next
	w.dirs++
	return filepath.Join(w.o.Dir, fmt.Sprintf("%s-%d", name, w.dirs))
}

// checkWithout reads everything that is covered from the other clouds and compares it with
// the log.
func (w *world) checkWithout(ctx context.Context, cloud string) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.Patience)
	defer cancel()
	covered := w.archiver.Covered()
	targets, done, err := w.targets(ctx, "")
	if err != nil {
		return err
	}
	defer done()
	left := slices.DeleteFunc(slices.Clone(targets), func(t tiering.Target) bool { return t.Provider == cloud })
	r, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: left, Keys: w.keys, Cluster: cluster, ReadAheadBytes: 32 << 20, Logger: w.o.Logger})
	if err != nil {
		return fmt.Errorf("%w: without cloud %s: %w", errLost, cloud, err)
	}
	if r.Covered() < covered {
		return fmt.Errorf("%w: without cloud %s the archive covers LSN %d, it had covered %d", errLost, cloud, r.Covered(), covered)
	}
	next := r.First()
	for span, err := range r.Spans(ctx, r.First(), covered) {
		if err != nil {
			return fmt.Errorf("%w: without cloud %s: %w", errLost, cloud, err)
		}
		want, err := w.log.Span(span.First, span.Last)
		if err != nil {
			return err
		}
		if span.First != next || !bytes.Equal(span.Frames, want.Frames) {
			return fmt.Errorf("%w: LSN %d to %d", errWrongBytes, span.First, span.Last)
		}
		next = span.Last + 1
	}
	if r.First() != 1 || next <= covered {
		return fmt.Errorf("%w: it gives LSN %d to %d of 1 to %d", errLost, r.First(), next-1, covered)
	}
	return nil
}

// compareRestored compares every frame of a restored log.
func (w *world) compareRestored(ctx context.Context, report recovery.Report) error {
	log, _, err := hotlog.Open(ctx, hotlog.Options{Dir: recovery.ShardDir(report.To, 0), LogOf: catalog.LogOf, SegmentBytes: segmentBytes, Logger: w.o.Logger})
	if err != nil {
		return fmt.Errorf("%w: the restored log: %w", errWrongBytes, err)
	}
	defer log.Close()
	if report.LastLSN < report.ArchivedLSN || log.Durable() != report.LastLSN || len(report.Lost) > 0 {
		return fmt.Errorf("%w: restored LSN %d of %d, lost %v", errLost, report.LastLSN, report.ArchivedLSN, report.Lost)
	}
	for _, seg := range log.Segments() {
		if seg.Last < seg.First {
			continue
		}
		got, err := log.Span(seg.First, seg.Last)
		if err != nil {
			return fmt.Errorf("%w: %w", errWrongBytes, err)
		}
		want, err := w.log.Span(seg.First, seg.Last)
		if err != nil {
			return err
		}
		if !bytes.Equal(got.Frames, want.Frames) {
			return fmt.Errorf("%w: restored LSN %d to %d", errWrongBytes, seg.First, seg.Last)
		}
	}
	return nil
}

// healed waits until the archiver says that nothing is missing anywhere, and then reads
// every fragment on every target to see whether that is so.
func (w *world) healed(ctx context.Context) (fragments int, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.Patience)
	defer cancel()
	for why := w.unhealed(); why != ""; why = w.unhealed() {
		select {
		case err := <-w.ran:
			w.ran <- nil
			return 0, fmt.Errorf("%w: the archiver stopped: %w", errStuck, err)
		case <-ctx.Done():
			return 0, fmt.Errorf("%w after %v: %s", errNotRedundant, w.o.Patience, why)
		case <-time.After(20 * time.Millisecond):
		}
	}
	targets, done, err := w.targets(ctx, "")
	if err != nil {
		return 0, err
	}
	defer done()
	report, err := tiering.Verify(ctx, targets, w.keys, nil)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNotRedundant, err)
	}
	for _, p := range report.Problems {
		if !p.Notice() || p.Kind == tiering.ProblemDegraded || p.Kind == tiering.ProblemUnreachable {
			return report.Fragments, fmt.Errorf("%w: %d problems, the first: %v", errNotRedundant, len(report.Problems), p)
		}
	}
	return report.Fragments, nil
}

// unhealed says what the archiver itself knows to be missing.
func (w *world) unhealed() string {
	st := w.archiver.Status()
	if st.Covered < w.source.Committed() || st.Degraded > 0 {
		return fmt.Sprintf("covered %d of %d, %d objects degraded, last error: %s", st.Covered, w.source.Committed(), st.Degraded, st.LastError)
	}
	for _, t := range w.archiver.TargetStatus() {
		if !t.Healthy || !t.ManifestSynced || t.Missing > 0 {
			return fmt.Sprintf("target %s: healthy %v, manifest complete %v, %d fragments missing: %s", t.Name, t.Healthy, t.ManifestSynced, t.Missing, t.LastError)
		}
	}
	return ""
}
