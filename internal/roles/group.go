package roles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stopWithin bounds how long each part may take to stop.
const stopWithin = 15 * time.Second

// group holds the started parts of a process. Parts are added in build order and
// stop in the reverse one, so that nobody loses what it depends on.
type group struct {
	log   *slog.Logger
	parts []part
	// failed carries the first failure of a running part; later ones are logged.
	failed chan error
}

type part struct {
	name string
	stop func(ctx context.Context) error
}

func newGroup(log *slog.Logger) *group {
	return &group{log: log, failed: make(chan error, 1)}
}

// add registers a part that runs now.
func (g *group) add(name string, stop func(ctx context.Context) error) {
	g.parts = append(g.parts, part{name: name, stop: stop})
}

// fail reports that a running part can't go on.
func (g *group) fail(name string, err error) {
	err = fmt.Errorf("%s: %w", name, err)
	select {
	case g.failed <- err:
	default:
		g.log.Error("another part failed", "err", err)
	}
}

// stop stops every part, each within stopWithin, and returns what went wrong.
func (g *group) stop() error {
	var errs []error
	for i := len(g.parts) - 1; i >= 0; i-- {
		p := g.parts[i]
		if err := stopPart(p); err != nil {
			g.log.Error("stopping", "part", p.name, "err", err)
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.name, err))
		}
	}
	g.parts = nil
	return errors.Join(errs...)
}

// stopPart gives up waiting for a part that ignores its deadline: the process is
// about to end, and what was acknowledged is durable already.
func stopPart(p part) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.stop(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(stopWithin + time.Second):
		return fmt.Errorf("did not stop within %v", stopWithin)
	}
}
