package tiering

import "context"

// openWithHook is Open with a failpoint at every step.
func openWithHook(ctx context.Context, o Options, hook func(step string) error) (*Archiver, error) {
	a, err := newArchiver(o)
	if err != nil {
		return nil, err
	}
	a.hook, a.rollupMin, a.fanIn = hook, testRollupMin, testFanIn
	if err := a.takeOver(ctx); err != nil {
		if !awaitsTargets(err) || ctx.Err() != nil {
			return nil, err
		}
		a.failed("take over the archive", err)
	}
	return a, nil
}

// Small ones, so that short tests roll up and fold.
const (
	testRollupMin = 8
	testFanIn     = 4
)
