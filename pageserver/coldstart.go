package pageserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/pageserver/checkpoint"
)

const (
	// beginTimeout bounds how long a new page server looks for a checkpoint.
	beginTimeout = 30 * time.Second
	// incarnationTimeout bounds how long it asks the log service which logs it has.
	incarnationTimeout = 2 * time.Second
	fetchPauseMin      = time.Second
	fetchPauseMax      = 30 * time.Second
)

// beginFromCheckpoint makes the store's directory, which is missing, from the newest
// checkpoint that can be used. Without one the store begins empty and is built from the
// logs, which is always possible.
func (s *Server) beginFromCheckpoint() error {
	dir := filepath.Join(s.opts.Dir, storeDir)
	if s.opts.Checkpoints == nil || s.distrusted.Load() {
		return nil
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), beginTimeout)
	defer cancel()
	wanted := WantedNow(ctx, s.opts.Source)
	if s.opts.Stripes != nil {
		wanted.Stripes = s.opts.Stripes()
	}
	m, err := s.opts.Checkpoints.FindOrBorrow(ctx, wanted)
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		s.log.Info("pageserver: no checkpoint to begin from: the pages are built from the logs", "in", s.opts.Checkpoints, "why", err)
		return nil
	case err != nil:
		s.log.Warn("pageserver: the checkpoints can't be read: the pages are built from the logs", "in", s.opts.Checkpoints, "err", err)
		return nil
	}
	if err := s.local.Begin(m); err != nil {
		return fmt.Errorf("pageserver: begin from checkpoint %d: %w", m.Number, err)
	}
	// What is read first comes while the store is being opened.
	warm, cancel := context.WithCancel(context.Background())
	s.stopWarming()
	s.warming = cancel
	s.warmers.Go(func() { s.local.Warm(warm) })
	s.checkpoints.note(func(st *CheckpointStatus) {
		st.BeganFrom, st.BeganIn, st.Number, st.Created, st.Tables, st.Bytes = m.Number, "", m.Number, m.Created, len(m.Tables), m.Bytes()
		if m.Name != s.opts.Checkpoints.Name() {
			st.BeganIn = m.Name
		}
	})
	s.log.Info("pageserver: begins from a checkpoint; what is not local is fetched when it is read, and ahead of that", "checkpoint", m.Number, "of", m.Name, "made", m.Created, "bytes", m.Bytes())
	return nil
}

// WantedNow returns which checkpoints a store can begin from by the word of a source, its
// stripes left aside. Of one that does not answer nothing is known: what a checkpoint has of
// another history is thrown away log by log when it does.
func WantedNow(ctx context.Context, source LogSource) checkpoint.Wanted {
	ctx, cancel := context.WithTimeout(ctx, incarnationTimeout)
	defer cancel()
	w := checkpoint.Wanted{StoreVersion: markerFormatVersion}
	infos, err := source.List(ctx)
	if err != nil {
		return w
	}
	w.Logs = map[logcore.LogID]checkpoint.LogNow{}
	for _, info := range infos {
		w.Logs[info.ID] = checkpoint.LogNow{Incarnation: info.Incarnation, Last: info.Last}
	}
	return w
}

// fetchLoop brings what is not local until nothing is missing.
func (s *Server) fetchLoop(ctx context.Context) {
	pause := fetchPauseMin
	for {
		err := s.local.Fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			s.forgetBorrowed(ctx)
			return
		case errors.Is(err, logcore.ErrCorrupt):
			s.damaged(err)
			return
		}
		s.log.Warn("pageserver: the store can't be completed from the checkpoint; tried again", "missing_bytes", s.local.Missing(), "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, fetchPauseMax)
	}
}

// forgetBorrowed removes the pages of stripes that the checkpoint had and this page server
// does not hold. That waits until all is local: it looks at every group of pages.
func (s *Server) forgetBorrowed(ctx context.Context) {
	if s.opts.Stripes == nil || s.local.Stripes().Without(s.opts.Stripes()).Empty() {
		return
	}
	if err := s.Forget(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("pageserver: pages of other stripes, which came with the checkpoint, stay on the disk", "dir", s.opts.Dir, "err", err)
	}
}

// damagedTables are the tables that Pebble found damaged, by name.
type damagedTables struct {
	mu    sync.Mutex
	names map[string]bool // guarded by mu
}

func (d *damagedTables) note(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = map[string]bool{}
	}
	d.names[filepath.Base(path)] = true
}

func (d *damagedTables) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for name := range d.names {
		out = append(out, name)
	}
	d.names = nil
	return out
}

// stopWarming ends what beginFromCheckpoint started.
func (s *Server) stopWarming() {
	if s.warming != nil {
		s.warming()
	}
	s.warmers.Wait()
	s.warming = nil
}

// soundTries is how often a store is opened whose states can't be read.
const soundTries = 4

// openSound opens the store and reads which logs it holds and what can be read of them. A
// store that can't tell is as good as none.
func (s *Server) openSound() (*pebble.DB, map[logcore.LogID]stateValue, map[logcore.LogID]points, error) {
	for try := 1; ; try++ {
		db, err := s.openStore()
		if err != nil {
			return nil, nil, nil, err
		}
		states, err := loadStates(db)
		var known map[logcore.LogID]points
		if err == nil {
			known, err = storedPoints(db, states)
		}
		if err == nil {
			return db, states, known, nil
		}
		s.countDamage(err)
		s.closeDamaged(db)
		if try == soundTries {
			return nil, nil, nil, fmt.Errorf("pageserver: the page store can't be read: %w", err)
		}
		if err := s.replaceDamaged(); err != nil {
			return nil, nil, nil, err
		}
	}
}

// replaceDamaged makes a closed store fit to be opened: tables that were found damaged
// come from the checkpoint again when that has the very same ones, else the whole store is
// put aside. Its successor begins from a checkpoint, unless that is where the damage came
// from.
func (s *Server) replaceDamaged() error {
	s.stopWarming()
	names := s.tables.take()
	if len(names) == 0 {
		// Pebble does not say of every damage where it is.
		var err error
		if names, err = s.local.Damaged(context.Background()); err != nil {
			s.log.Warn("pageserver: the tables of the store can't be compared with the checkpoint", "err", err)
		}
	}
	if s.refetchTables(names) {
		return nil
	}
	for _, name := range names {
		if s.refetched[name] {
			s.distrusted.Store(true) // the checkpoint's is damaged as well
		}
	}
	if s.local.Missing() > 0 {
		s.distrusted.Store(true) // what is not local can't be had
	}
	s.log.Error("pageserver: the page store is put aside, to be built again", "dir", s.opts.Dir, "from_checkpoint", !s.distrusted.Load() && s.opts.Checkpoints != nil)
	s.metrics.rebuilds.Inc()
	s.refetched = nil
	return s.putAside()
}

// refetchTables puts the checkpoint's tables in the place of the damaged ones, each once,
// and reports whether that was possible. The store is closed.
func (s *Server) refetchTables(names []string) bool {
	known := s.local.Known()
	for _, name := range names {
		if _, ok := known[name]; !ok || s.refetched[name] {
			return false
		}
	}
	for _, name := range names {
		if err := s.local.Refetch(name); err != nil {
			s.log.Warn("pageserver: a damaged table can't be fetched again", "table", name, "err", err)
			return false
		}
		if s.refetched == nil {
			s.refetched = map[string]bool{}
		}
		s.refetched[name] = true
		s.metrics.refetched.Inc()
		s.log.Info("pageserver: a damaged table is fetched again from the checkpoint", "table", name)
	}
	return len(names) > 0
}
