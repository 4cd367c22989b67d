package tiering

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// With the service stopped a target is added and another one removed, everything is
// re-coded, and the service goes on with the next epoch as after any stop.
func TestOffline(t *testing.T) {
	w := newWorld(t, 131)
	r := w.start(nil)
	w.busy(r)
	r.close()
	targets := append(w.targets(), w.more("d1")...)
	// The new one is not configured: the care lane would add it by itself.
	o := Options{Targets: w.targets(), Keys: w.keys, Logger: quiet(), Grace: time.Millisecond}
	err := Offline(t.Context(), o, func(ctx context.Context, a *Archiver) error {
		if err := a.RemoveTarget(ctx, "a1"); !errors.Is(err, ErrPlacement) {
			t.Errorf("before there is another one: %v", err)
		}
		if err := a.AddTarget(ctx, targets[6]); err != nil {
			return err
		}
		if err := a.RemoveTarget(ctx, "a1"); err != nil {
			return err
		}
		if err := a.SetCode(ctx, 3, 2); err != nil {
			return err
		}
		for a.Recoding() > 0 {
			if err := sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.readable(without(targets, 0, 3))
	w.change = func(o *Options) { o.Targets = targets[1:] }
	next := w.start(nil)
	w.hot.append(2, 100)
	next.flushAll()
	if k, m := next.Code(); k != 3 || m != 2 {
		t.Errorf("%d+%d", k, m)
	}
	next.close()
	boom := errors.New("boom")
	o.Targets = targets[1:]
	if err := Offline(t.Context(), o, func(context.Context, *Archiver) error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
}

// Beside a running service the two don't both write: one of them is fenced.
func TestOfflineBesideAService(t *testing.T) {
	w := newWorld(t, 132)
	r := w.start(nil)
	w.busy(r)
	err := Offline(t.Context(), Options{Targets: w.targets(), Keys: w.keys, Logger: quiet()}, func(ctx context.Context, a *Archiver) error {
		if err := a.SetHold(ctx, 0, "offline"); err != nil {
			return err
		}
		return r.SetHold(ctx, 0, "online")
	})
	if !errors.Is(err, logcore.ErrFenced) {
		t.Fatal(err)
	}
	w.readable(w.targets())
}
