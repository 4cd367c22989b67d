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

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/pageserver/checkpoint"
)

const (
	// beginTimeout bounds how long a new page server looks for a checkpoint.
	beginTimeout = 30 * time.Second
	// incarnationTimeout bounds how long it asks the log service which one it is.
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
	m, err := s.opts.Checkpoints.Find(ctx, checkpoint.Wanted{Incarnation: s.incarnation(ctx), StoreVersion: markerFormatVersion})
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
	s.fromCheckpoint.Store(true)
	s.checkpoints.note(func(st *CheckpointStatus) {
		st.BeganFrom, st.Number, st.Created, st.Tables, st.Bytes = m.Number, m.Number, m.Created, len(m.Tables), m.Bytes()
	})
	s.log.Info("pageserver: begins from a checkpoint; what is not local is fetched when it is read, and ahead of that", "checkpoint", m.Number, "made", m.Created, "bytes", m.Bytes())
	return nil
}

// incarnation asks the log service for the shard's; 0 when it does not answer. A
// checkpoint of another one would be thrown away log by log when it does.
func (s *Server) incarnation(ctx context.Context) uint64 {
	ctx, cancel := context.WithTimeout(ctx, incarnationTimeout)
	defer cancel()
	infos, err := s.opts.Source.List(ctx)
	if err != nil || len(infos) == 0 {
		return 0
	}
	return infos[0].Incarnation
}

// fetchLoop brings what is not local until nothing is missing.
func (s *Server) fetchLoop(ctx context.Context) {
	pause := fetchPauseMin
	for {
		err := s.local.Fetch(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
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

// refetchTables puts the checkpoint's tables in the place of the damaged ones, and
// reports whether that was possible. The store is closed; the caller holds storeMu.
func (s *Server) refetchTables(names []string) bool {
	if len(names) == 0 || s.distrusted.Load() {
		return false
	}
	known := s.local.Known()
	for _, name := range names {
		if _, ok := known[name]; !ok {
			return false
		}
	}
	for _, name := range names {
		if err := s.local.Refetch(name); err != nil {
			s.log.Warn("pageserver: a damaged table can't be fetched again: the store is built again", "table", name, "err", err)
			return false
		}
		s.log.Info("pageserver: a damaged table is fetched again from the checkpoint", "table", name)
	}
	return true
}
