package tiering

import "context"

// openWithHook is Open with a failpoint at every step.
func openWithHook(ctx context.Context, o Options, hook func(step string) error) (*Archiver, error) {
	a, err := newArchiver(o)
	if err != nil {
		return nil, err
	}
	a.hook = hook
	if err := a.takeOver(ctx); err != nil {
		if !awaitsTargets(err) || ctx.Err() != nil {
			return nil, err
		}
		a.failed("take over the archive", err)
	}
	return a, nil
}
