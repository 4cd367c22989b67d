package stripe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// store is a page server with the stripes that were taken over at once.
type store struct {
	number  int
	dir     string
	server  *pageserver.Server
	service logcorev1.PageServiceServer
	copies  *checkpoint.Repository        // nil: none are kept
	set     atomic.Pointer[stripemap.Set] // what it holds; becomes less only

	cancel context.CancelFunc
	done   chan error

	// The rest is the Host's loop's.

	complete bool                  // it had everything once
	targets  []pageserver.Position // where the logs were at the last report
	leaving  stripemap.Set         // given to others
	since    time.Time             // when leaving last changed
	forget   context.CancelFunc    // ends the removal under way; nil when there is none
	removed  chan struct{}         // closed when it has ended
}

func (s *store) stripes() stripemap.Set { return *s.set.Load() }

// openStore opens the store in a directory that has its STRIPES.
func (h *Host) openStore(number int, set stripemap.Set, complete bool, held int) (*store, error) {
	s := &store{number: number, dir: h.storeDir(number), complete: complete, done: make(chan error, 1)}
	s.set.Store(&set)
	opts := h.opts.Server
	opts.Dir, opts.Decodings = s.dir, &h.decodings
	opts.Stripes, opts.Standing = s.stripes, h.standing
	if h.opts.Checkpoints != nil {
		copies, err := h.opts.Checkpoints.Member(h.id, number)
		if err != nil {
			return nil, err
		}
		s.copies, opts.Checkpoints = copies, copies
	}
	if opts.Registerer != nil {
		opts.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"store": strconv.Itoa(number)}, opts.Registerer)
	}
	for _, budget := range []*int64{&opts.PageCacheBytes, &opts.BlockCacheBytes} {
		if *budget != 0 {
			*budget = max(*budget*int64(set.Len())/int64(max(held, set.Len())), 1<<20)
		}
	}
	server, err := pageserver.Open(opts)
	if err != nil {
		s.closeCopies()
		return nil, err
	}
	s.server, s.service = server, server.Service()
	ctx, cancel := context.WithCancel(h.ctx)
	s.cancel = cancel
	h.running.Go(func() { s.done <- server.Run(ctx) })
	return s, nil
}

// close ends a store; what it has stays in its directory.
func (s *store) close() error {
	s.endForget()
	s.cancel()
	err := errors.Join(<-s.done, s.server.Close())
	s.closeCopies()
	return err
}

func (s *store) closeCopies() {
	if s.copies != nil {
		s.copies.Close()
	}
}

// endForget ends a removal that is under way and waits for it.
func (s *store) endForget() {
	if s.forget != nil {
		s.forget()
		<-s.removed
		s.forget = nil
	}
}

// catchUp reports whether the store has everything now that it was missing when it was
// last asked, and remembers what it is missing now.
func (s *store) catchUp(positions []pageserver.Position) bool {
	reached := s.targets != nil && s.server.Reached(s.targets)
	s.targets = positions
	return reached
}

func (h *Host) storeDir(number int) string {
	return filepath.Join(h.opts.Dir, storesDir, strconv.Itoa(number))
}

// writeStripes says durably what a store has.
func (h *Host) writeStripes(number int, set stripemap.Set, complete bool) error {
	dir := h.storeDir(number)
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, stripesFile), encodeStripes(set, complete), 0o644); err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	return nil
}

// removeStore removes a store's directory: STRIPES first, so that what is left of it after
// a crash counts for nothing.
func (h *Host) removeStore(number int) error {
	dir := h.storeDir(number)
	if err := os.Remove(filepath.Join(dir, stripesFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stripe: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stripe: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	return nil
}

// openStores opens the stores that are there and removes what is none.
func (h *Host) openStores() error {
	root := filepath.Join(h.opts.Dir, storesDir)
	if err := durable.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("stripe: %w", err)
	}
	type found struct {
		number   int
		set      stripemap.Set
		complete bool
	}
	var all []found
	var held stripemap.Set
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil || number < 1 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, e.Name(), stripesFile))
		var set stripemap.Set
		var complete bool
		if err == nil {
			set, complete, err = decodeStripes(b)
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
		case errors.Is(err, logcore.ErrCorrupt):
			h.log.Error("stripe: damage detected: the store is built again", "dir", h.storeDir(number), "err", err)
		case err != nil:
			return fmt.Errorf("stripe: %w", err)
		}
		if set = set.Without(held); err != nil || set.Empty() {
			if err := h.removeStore(number); err != nil {
				return err
			}
			continue
		}
		held = held.Or(set)
		all = append(all, found{number, set, complete})
	}
	for _, f := range all {
		s, err := h.openStore(f.number, f.set, f.complete, held.Len())
		if err != nil {
			return err
		}
		h.stores = append(h.stores, s)
	}
	return nil
}
