package roles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// Targets is an opened set of targets.
type Targets struct {
	// All holds one for each URL, in order. The bucket of one that could not be opened is
	// nil: a lost cloud, which the archive copes with.
	All []tiering.Target
	// Lost says why each of those could not be opened, by name.
	Lost map[string]error

	mu     sync.Mutex // guards All, urls and opened once the service runs
	urls   []string
	opened []bucket.Bucket
}

// Close closes the buckets.
func (t *Targets) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, b := range t.opened {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// OpenTargets opens the targets of the URLs. A URL that makes no sense, two targets
// of one name, or refused credentials are an error: someone must correct them. A
// target that is not there is lost, and reported in the result and the log.
func OpenTargets(ctx context.Context, urls []string, log *slog.Logger) (*Targets, error) {
	specs, err := parseTargets(urls)
	if err != nil {
		return nil, err
	}
	out := &Targets{Lost: map[string]error{}, urls: urls}
	errs := make([]error, len(specs))
	var checks sync.WaitGroup // beside each other: those that hang must not add up
	for i, spec := range specs {
		out.All = append(out.All, tiering.Target{Name: spec.Name, Provider: spec.Provider, Region: spec.Region,
			Home: spec.Home, Prices: tiering.Prices(spec.Prices)})
		opened, err := target.Open(ctx, urls[i])
		if errs[i] = err; err != nil {
			continue
		}
		out.opened = append(out.opened, opened.Bucket)
		out.All[i].Bucket = opened.Bucket
		checks.Go(func() { errs[i] = target.Check(ctx, opened) })
	}
	checks.Wait()
	for i, err := range errs {
		if err := out.judge(ctx, i, err, log); err != nil {
			return nil, errors.Join(err, out.Close())
		}
	}
	return out, nil
}

// parseTargets reads the URLs and reports everything that is wrong with them together.
func parseTargets(urls []string) ([]target.Spec, error) {
	specs, problems := make([]target.Spec, len(urls)), []config.Problem(nil)
	names := map[string]bool{}
	for i, raw := range urls {
		spec, err := target.Parse(raw)
		if err == nil && names[spec.Name] {
			err = fmt.Errorf("two targets are named %q: give each its own &name=", spec.Name)
		}
		if err != nil {
			problems = append(problems, config.Problem{Field: "targets", Source: fmt.Sprintf("item %d", i+1), Reason: err.Error()})
			continue
		}
		specs[i] = spec
		names[spec.Name] = true
	}
	if len(problems) > 0 {
		return nil, &config.Error{Problems: problems}
	}
	return specs, nil
}

// judge decides what becomes of a target that could not be opened or did not answer well.
// Refused credentials are no error here: a provider that locks us out is a lost cloud too.
// Who needs all targets asks Lost.
func (t *Targets) judge(ctx context.Context, i int, err error, log *slog.Logger) error {
	name := t.All[i].Name
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return err
	case errors.Is(err, bucket.ErrGone) || errors.Is(err, bucket.ErrDenied) || t.All[i].Bucket == nil:
		log.Warn("target is lost", "target", name, "err", err)
		t.lose(i, err)
	default:
		// It answers badly now but may well later: it stays in the set.
		log.Warn("target does not answer well", "target", name, "err", err)
	}
	return nil
}

// lose takes a target out of use.
func (t *Targets) lose(i int, err error) {
	t.All[i].Bucket = nil
	t.Lost[t.All[i].Name] = err
}

// follow puts in the place of each target one that is used only while it has the
// cluster's marker, and is looked for again when it was lost: now or later.
func (t *Targets) follow(id cluster.ID) error {
	err := t.Close()
	t.opened = nil
	for i, url := range t.urls {
		lazy, openErr := target.OpenLazy(url, markerOf(id, t.All[i].Name))
		if openErr != nil {
			return errors.Join(err, openErr)
		}
		t.All[i].Bucket = lazy.Bucket
		t.opened = append(t.opened, lazy.Bucket)
	}
	return err
}

// Explain adds to an error of the archive why targets are lost, when some are: without
// it "too few targets" would not say what to do.
func (t *Targets) Explain(err error) error {
	if err == nil || len(t.Lost) == 0 {
		return err
	}
	for _, target := range t.All {
		if why := t.Lost[target.Name]; why != nil {
			err = fmt.Errorf("%w\n  %w", err, why)
		}
	}
	return err
}

// discover lists the archives on the targets.
func discover(ctx context.Context, t *Targets) ([]tiering.Location, error) {
	return tiering.Discover(ctx, t.All)
}
