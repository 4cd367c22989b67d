package roles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

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
	// Lost says why each of those could not be opened.
	Lost []error

	opened []bucket.Bucket
}

// Close closes the buckets.
func (t *Targets) Close() error {
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
	out := &Targets{}
	for i, spec := range specs {
		if err := out.open(ctx, spec, urls[i], log); err != nil {
			return nil, errors.Join(err, out.Close())
		}
	}
	return out, nil
}

func (t *Targets) open(ctx context.Context, spec target.Spec, url string, log *slog.Logger) error {
	lost := func(err error) {
		log.Warn("target is lost", "target", spec.Name, "err", err)
		t.All = append(t.All, tiering.Target{Name: spec.Name, Provider: spec.Provider, Region: spec.Region})
		t.Lost = append(t.Lost, err)
	}
	opened, err := target.Open(ctx, url)
	if err != nil {
		if errors.Is(err, bucket.ErrDenied) {
			return err
		}
		lost(err)
		return nil
	}
	err = target.Check(ctx, opened)
	switch {
	case errors.Is(err, bucket.ErrDenied):
		return errors.Join(fmt.Errorf("%w: check its credentials and permissions", err), opened.Bucket.Close())
	case err != nil && ctx.Err() != nil:
		return errors.Join(err, opened.Bucket.Close())
	case err != nil:
		// It answers badly now but may well later: it stays in the set.
		log.Warn("target does not answer", "target", spec.Name, "err", err)
	}
	t.opened = append(t.opened, opened.Bucket)
	t.All = append(t.All, tiering.Target{Name: opened.Name, Provider: opened.Provider, Region: opened.Region, Bucket: opened.Bucket})
	return nil
}
