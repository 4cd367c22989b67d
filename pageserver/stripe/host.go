package stripe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// storesMax bounds the stores of a process: each reads all of the log.
const storesMax = 32

// Host is a page server that holds some stripes. Run drives it; its service may be used
// by many goroutines.
type Host struct {
	opts      Options
	log       *slog.Logger
	lock      *durable.DirLock
	decodings pageserver.Decodings

	// ctx ends the stores; running are their goroutines.
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	// Run's own.
	id     uint64
	lease  time.Duration // 0 until the log service has said it
	stores []*store
	taking *takeover // nil unless stores are being begun
	// keptMap: the map that is served is the one that was made durable last.
	keptMap bool
	// heard: the log service has answered in this process.
	heard bool

	view atomic.Pointer[view]
}

// view is what requests are served by.
type view struct {
	id uint64
	m  stripemap.Map
	// remembered: the map is what the log service said to an earlier process, or nothing.
	remembered bool
	stores     []*store // those that are complete
	all        []*store
}

// Open opens the stores in Options.Dir; they follow the logs from then on. What they have
// in full is served at once, by the map that was known last. Errors wrap logcore.ErrInvalid, logcore.ErrInUse or
// logcore.ErrUnsupportedVersion.
func Open(opts Options) (*Host, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("stripe: %w", err)
	}
	lock, err := durable.Lock(opts.Dir)
	if err != nil {
		return nil, err
	}
	h := &Host{opts: opts, log: opts.Logger, lock: lock}
	h.ctx, h.stop = context.WithCancel(context.Background())
	var known stripemap.Map
	if err = h.loadIdentity(); err == nil {
		known, err = h.loadMap()
	}
	if err == nil {
		h.keptMap = len(known.Servers) > 0
		h.publish(known)
		err = h.openStores()
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.publish(known)
	return h, nil
}

// loadIdentity reads which page server this is, or decides it.
func (h *Host) loadIdentity() error {
	b, err := os.ReadFile(filepath.Join(h.opts.Dir, identityFile))
	if err == nil {
		h.id, err = decodeIdentity(b)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, logcore.ErrCorrupt):
		h.log.Error("stripe: damage detected: this page server begins anew under another id", "dir", h.opts.Dir, "err", err)
		if err := os.RemoveAll(filepath.Join(h.opts.Dir, storesDir)); err != nil {
			return fmt.Errorf("stripe: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("stripe: %w", err)
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	return h.setIdentity(binary.LittleEndian.Uint64(random[:]) | 1)
}

func (h *Host) setIdentity(id uint64) error {
	if err := durable.WriteFile(filepath.Join(h.opts.Dir, identityFile), encodeIdentity(id), 0o644); err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	h.id = id
	return nil
}

// ID is the page server's number in the map.
func (h *Host) ID() uint64 { return h.view.Load().id }

// Map is what the log service said last, to this process or to the one before.
func (h *Host) Map() stripemap.Map { return h.view.Load().m }

// Decodings tells how often stores shared a decoding.
func (h *Host) Decodings() *pageserver.Decodings { return &h.decodings }

// Register adds the page service to a gRPC server.
func (h *Host) Register(r grpc.ServiceRegistrar) {
	logcorev1.RegisterPageServiceServer(r, &service{h: h})
}

// Service returns the page service.
func (h *Host) Service() logcorev1.PageServiceServer { return &service{h: h} }

// Run reports to the log service and follows its map until ctx is done, and returns nil
// then. While the log service can't be reached what is held is served on.
func (h *Host) Run(ctx context.Context) error {
	for {
		if err := h.step(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("stripe: tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(h.reportInterval()):
		}
	}
}

func (h *Host) reportInterval() time.Duration {
	if h.lease > 0 {
		return min(h.opts.ReportInterval, h.lease/5)
	}
	return h.opts.ReportInterval
}

// leaveAfter is how long what others have is served on.
func (h *Host) leaveAfter() time.Duration {
	if h.opts.LeaveAfter > 0 {
		return h.opts.LeaveAfter
	}
	return 3 * h.lease
}

// step reports once and does what the answer asks for.
func (h *Host) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*h.opts.ReportInterval)
	defer cancel()
	if err := h.notice(ctx); err != nil {
		return err
	}
	a, err := h.opts.Coordinator.Report(ctx, Report{ID: h.id, Address: h.opts.Address, Ready: h.ready(), Empty: len(h.stores) == 0 && h.taking == nil})
	if err != nil {
		return fmt.Errorf("report to the log service: %w", err)
	}
	if a.ID != h.id {
		if len(h.stores) > 0 || h.taking != nil {
			return fmt.Errorf("%w: the log service takes this page server, %016x, for %016x", logcore.ErrInvalid, h.id, a.ID)
		}
		if err := h.setIdentity(a.ID); err != nil {
			return err
		}
	}
	if before := h.Map(); before.Incarnation != 0 && before.Incarnation != a.Map.Incarnation {
		// It was restored: what is here is being built again, as far as it has to be.
		for _, s := range h.stores {
			s.complete, s.targets = false, nil
			if err := h.writeStripes(s.number, s.stripes(), false); err != nil {
				return err
			}
		}
	}
	h.lease = a.Lease
	h.keepMap(a.Map)
	h.heard = true
	err = h.follow(a.Map)
	h.publish(a.Map)
	return err
}

// notice finds the stores that have become complete.
func (h *Host) notice(ctx context.Context) error {
	var positions []pageserver.Position
	for _, s := range h.stores {
		if s.complete {
			continue
		}
		if positions == nil {
			var err error
			if positions, err = pageserver.Positions(ctx, h.opts.Server.Source); err != nil {
				return err
			}
		}
		if !s.catchUp(positions) {
			continue
		}
		if err := h.writeStripes(s.number, s.stripes(), true); err != nil {
			return err
		}
		s.complete = true
		h.log.Info("stripe: has caught up", "store", s.number, "stripes", s.stripes().Len())
	}
	h.publish(h.Map())
	return nil
}

func (h *Host) ready() stripemap.Set {
	var ready stripemap.Set
	for _, s := range h.stores {
		if s.complete {
			ready = ready.Or(s.stripes())
		}
	}
	return ready
}

// follow takes over what the map gives this page server, and gives up what it gave to others.
func (h *Host) follow(m stripemap.Map) error {
	mine, ok := m.Server(h.id)
	if !ok {
		return nil
	}
	var held stripemap.Set
	if err := h.taken(); err != nil {
		return err
	}
	for _, s := range h.stores {
		held = held.Or(s.stripes())
	}
	if missing := mine.Holds().Without(held); !missing.Empty() && h.taking == nil {
		if err := h.takeOver(missing, held); err != nil {
			return err
		}
	}
	for _, s := range append([]*store(nil), h.stores...) {
		if extra := s.stripes().Without(mine.Holds()); extra != s.leaving {
			s.leaving, s.since = extra, time.Now()
		}
		if s.leaving.Empty() || time.Since(s.since) < h.leaveAfter() && s.complete {
			continue
		}
		if err := h.giveUp(s); err != nil {
			return err
		}
	}
	return nil
}

// takeover is stores being begun. It has a goroutine of its own, so that this page server
// reports while it waits for the checkpoints' target.
type takeover struct {
	stripes stripemap.Set
	done    chan struct{} // closed at the end; what follows is the goroutine's until then
	stores  []*store
	err     error
}

// takeOver begins stores with stripes that are nowhere here: one for each checkpoint that
// has some of them, and one for the rest.
func (h *Host) takeOver(missing, held stripemap.Set) error {
	if len(h.stores) >= storesMax {
		return fmt.Errorf("%w: %d stores, one for each set of stripes that was taken over: drain this page server and let it begin anew", logcore.ErrTooLarge, len(h.stores))
	}
	number := 1
	for _, s := range h.stores {
		number = max(number, s.number+1)
	}
	t := &takeover{stripes: missing, done: make(chan struct{})}
	h.taking = t
	room := min(partsMax, storesMax-len(h.stores))
	h.running.Go(func() {
		defer close(t.done)
		for _, part := range h.divide(missing, room) {
			s, err := h.beginStore(number, part, held.Or(missing))
			if err != nil {
				t.err = errors.Join(t.err, err)
				return
			}
			t.stores = append(t.stores, s)
			number++
		}
	})
	return nil
}

// taken takes over the stores that were begun.
func (h *Host) taken() error {
	if h.taking == nil {
		return nil
	}
	select {
	case <-h.taking.done:
	default:
		return nil
	}
	t := h.taking
	h.taking, h.stores = nil, append(h.stores, t.stores...)
	return t.err
}

const (
	// partsMax bounds the stores that one takeover begins.
	partsMax = 8
	// divideTimeout bounds how long it looks at checkpoints.
	divideTimeout = 30 * time.Second
)

// divide cuts stripes into sets each of which a store can begin with: one checkpoint has
// all of it, or none has any of it.
func (h *Host) divide(missing stripemap.Set, room int) []stripemap.Set {
	ctx, cancel := context.WithTimeout(h.ctx, divideTimeout)
	defer cancel()
	if h.opts.Checkpoints == nil || room < 2 {
		return []stripemap.Set{missing}
	}
	offers, err := h.opts.Checkpoints.Offers(ctx, pageserver.WantedNow(ctx, h.opts.Server.Source))
	if err != nil {
		h.log.Warn("stripe: the checkpoints can't be looked at: stripes are built from the logs", "in", h.opts.Checkpoints, "err", err)
	}
	var parts []stripemap.Set
	for len(parts) < room-1 && !missing.Empty() {
		var best stripemap.Set
		for _, o := range offers { // the freshest first
			if part := o.Stripes.And(missing); part.Len() > best.Len() {
				best = part
			}
		}
		if best.Empty() {
			break
		}
		parts, missing = append(parts, best), missing.Without(best)
	}
	if !missing.Empty() {
		parts = append(parts, missing)
	}
	return parts
}

// beginStore begins a store with a set of stripes.
func (h *Host) beginStore(number int, set, held stripemap.Set) (*store, error) {
	// What a crash left of one that was there before.
	if err := h.removeStore(number); err != nil {
		return nil, err
	}
	if err := h.writeStripes(number, set, false); err != nil {
		return nil, err
	}
	s, err := h.openStore(number, set, false, held.Len())
	if err != nil {
		return nil, err
	}
	st := s.server.CheckpointStatus()
	h.log.Info("stripe: takes over", "store", number, "stripes", set.Len(), "from_checkpoint", st.BeganFrom, "of", st.BeganIn)
	return s, nil
}

// giveUp removes the stripes of a store that others have.
func (h *Host) giveUp(s *store) error {
	rest := s.stripes().Without(s.leaving)
	h.log.Info("stripe: gives up", "store", s.number, "stripes", s.leaving.Len(), "left", rest.Len())
	if rest.Empty() {
		for i := range h.stores {
			if h.stores[i] == s {
				h.stores = append(h.stores[:i:i], h.stores[i+1:]...)
				break
			}
		}
		h.publish(h.Map())
		return errors.Join(s.close(), h.removeStore(s.number))
	}
	// Commit point: from here on they are not served, whatever becomes of their pages.
	if err := h.writeStripes(s.number, rest, s.complete); err != nil {
		return err
	}
	s.set.Store(&rest)
	s.leaving = stripemap.Set{}
	s.endForget()
	ctx, cancel := context.WithCancel(h.ctx)
	s.forget, s.removed = cancel, make(chan struct{})
	done := s.removed
	h.running.Go(func() {
		defer close(done)
		if err := s.server.Forget(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("stripe: pages of stripes that were given up stay on the disk", "store", s.number, "err", err)
		}
	})
	return nil
}

// publish lets requests see what there is.
func (h *Host) publish(m stripemap.Map) {
	v := &view{id: h.id, m: m, remembered: !h.heard, all: slices.Clone(h.stores)}
	for _, s := range h.stores {
		if s.complete {
			v.stores = append(v.stores, s)
		}
	}
	h.view.Store(v)
}

// Close ends the stores, with everything durable. Run must have returned.
func (h *Host) Close() error {
	var errs []error
	h.stop()
	if h.taking != nil {
		<-h.taking.done
		errs = append(errs, h.taken())
	}
	for _, s := range h.stores {
		errs = append(errs, s.close())
	}
	h.running.Wait()
	return errors.Join(append(errs, h.lock.Unlock())...)
}
