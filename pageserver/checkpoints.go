package pageserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/pageserver/checkpoint"
)

const (
	// linksDir holds links to the store's files while a checkpoint of them is made.
	linksDir = "checkpoint.links"
	// standInAfter is after how many intervals without a checkpoint a page server whose
	// epoch was taken takes it back: the one that took it is gone.
	standInAfter = 4
	// borrowedInterval bounds how long a store that has everything waits with a checkpoint of
	// its own while it needs another's.
	borrowedInterval = 30 * time.Second
	// collectEvery is how often what no checkpoint needs any more is removed.
	collectEvery = 10 * time.Minute
)

// firstCheckpointAfter bounds how long a page server that started waits with its first.
var firstCheckpointAfter = 2 * time.Second

// checkpoints is what a Server remembers of the checkpoints it makes.
type checkpoints struct {
	making sync.Mutex // held by who makes one
	// Guarded by making.
	holder    *checkpoint.Holder // nil: the epoch is to be taken
	taken     bool               // it was taken by another page server
	saved     map[logcore.LogID]logcore.LSN
	collected time.Time
	loan      checkpoint.Loan // what this store borrowed, and of whom
	renewed   time.Time       // when it was said last that it is still needed

	mu     sync.Mutex
	status CheckpointStatus // guarded by mu
}

// CheckpointStatus says how the checkpoints of a store are.
type CheckpointStatus struct {
	// Where is the place of the checkpoints, empty when there are none.
	Where string
	// Epoch this page server holds; 0 when it holds none.
	Epoch uint64
	// StandingBy: another page server writes the checkpoints.
	StandingBy bool
	// Number and Created are of the last checkpoint that this page server made, or began
	// from; 0 when there is none.
	Number  uint64
	Created time.Time
	// BeganFrom is the checkpoint that the store began from in this process, 0 for none;
	// BeganIn is the store that it is of, when that is another one.
	BeganFrom uint64
	BeganIn   string
	// Borrowed is the other store whose checkpoint is needed still.
	Borrowed string
	// Tables and Bytes are what that checkpoint holds.
	Tables int
	Bytes  int64
	// MissingBytes of the store are not local yet.
	MissingBytes int64
	// Err is why the last try failed, nil when it did not.
	Err error
}

// CheckpointStatus returns how the checkpoints are.
func (s *Server) CheckpointStatus() CheckpointStatus {
	s.checkpoints.mu.Lock()
	defer s.checkpoints.mu.Unlock()
	st := s.checkpoints.status
	if s.opts.Checkpoints != nil {
		st.Where = s.opts.Checkpoints.String()
		st.MissingBytes = s.local.Missing()
		st.Borrowed, _ = s.local.Borrowed()
	}
	return st
}

func (c *checkpoints) note(change func(*CheckpointStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// checkpointLoop makes a checkpoint every CheckpointInterval, when there is anything new.
// The epoch is taken at once: who had it before must stop to remove things.
func (s *Server) checkpointLoop(ctx context.Context) {
	pause := min(s.opts.CheckpointInterval, firstCheckpointAfter)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = s.opts.CheckpointInterval
		if lender, _ := s.local.Borrowed(); lender != "" {
			pause = min(pause, borrowedInterval)
		}
		_, err := s.checkpointOnce(ctx, false)
		if errors.Is(err, errNotStanding) {
			pause = min(pause, firstCheckpointAfter)
			continue
		}
		if err != nil && ctx.Err() == nil {
			s.opts.Checkpoints.NoteFailure()
			s.log.Warn("pageserver: no checkpoint was made; it is tried again", "err", err)
		}
	}
}

// errNotStanding: another page server may have the place of this one by now, and begin from its
// checkpoints, and nobody has said that it has not.
var errNotStanding = fmt.Errorf("pageserver: %w: the log service has not said since this page server started that it has its place still: no checkpoint is made", logcore.ErrOverloaded)

func (s *Server) standing() bool {
	return s.sourceHeard.Load() && (s.opts.Standing == nil || s.opts.Standing())
}

// Checkpoint makes a checkpoint of everything that is ingested and returns when it is
// committed. It takes the epoch when another page server has it. Errors wrap
// logcore.ErrInvalid when there is no place for checkpoints, logcore.ErrOverloaded while the
// log service has not answered since the start, logcore.ErrFenced when
// another page server took the epoch meanwhile, and those of the bucket.
func (s *Server) Checkpoint(ctx context.Context) (CheckpointStatus, error) {
	if s.opts.Checkpoints == nil {
		return CheckpointStatus{}, fmt.Errorf("pageserver: %w: there is no place for checkpoints: set checkpoint_target", logcore.ErrInvalid)
	}
	if _, err := s.checkpointOnce(ctx, true); err != nil {
		return s.CheckpointStatus(), err
	}
	return s.CheckpointStatus(), nil
}

// checkpointOnce makes a checkpoint, unless nothing is new and it need not be now.
func (s *Server) checkpointOnce(ctx context.Context, now bool) (m *checkpoint.Manifest, err error) {
	c := &s.checkpoints
	c.making.Lock()
	defer c.making.Unlock()
	defer func() { c.note(func(st *CheckpointStatus) { st.Err = err }) }()
	if err := s.keepLoan(ctx); err != nil {
		return nil, err
	}
	if lender, _ := s.local.Borrowed(); lender != "" && s.local.Missing() > 0 && !now {
		return nil, nil // what is borrowed is a checkpoint too; another would fetch all of it at once
	}
	if !s.standing() {
		return nil, errNotStanding
	}
	if err := s.takeEpoch(ctx, now); err != nil || c.holder == nil {
		return nil, err
	}
	entries := s.entries()
	if now || c.saved == nil || !maps.Equal(entries, c.saved) {
		m, err = s.save(ctx)
	}
	if err == nil && time.Since(c.collected) >= collectEvery {
		_, err = c.holder.Collect(ctx)
		c.collected = time.Now()
	}
	if errors.Is(err, logcore.ErrFenced) {
		c.holder, c.taken, c.saved = nil, true, nil
		c.note(func(st *CheckpointStatus) { st.Epoch, st.StandingBy = 0, true })
		s.opts.Checkpoints.NoteFenced()
		s.log.Warn("pageserver: another page server makes the checkpoints now; this one stands by", "err", err)
		if !now {
			return nil, nil
		}
	}
	if err == nil && m != nil {
		c.saved = entries
		err = s.keepLoan(ctx)
	}
	return m, err
}

// keepLoan tells the store that this one began from that it is needed still, or not any
// more. The caller holds making.
func (s *Server) keepLoan(ctx context.Context) error {
	c, r := &s.checkpoints, s.opts.Checkpoints
	lender, number := s.local.Borrowed()
	loan := checkpoint.Loan{Store: lender, Number: number}
	if c.loan.Store != "" && c.loan != loan {
		if err := r.GiveBack(ctx, c.loan.Store, c.loan.Number); err != nil {
			return fmt.Errorf("pageserver: give back what was borrowed of %s: %w", c.loan.Store, err)
		}
		s.log.Info("pageserver: the checkpoint of another store that this one began from is not needed any more", "of", c.loan.Store)
		c.loan = checkpoint.Loan{}
	}
	if lender == "" || c.loan == loan && time.Since(c.renewed) < r.RenewEvery() {
		return nil
	}
	err := r.Renew(ctx, lender, number)
	if errors.Is(err, checkpoint.ErrNone) {
		// What is gone by now shows when it is read, and is built from the log then.
		s.log.Warn("pageserver: the checkpoint that the store began from is not kept for it any more", "of", lender, "err", err)
		err = nil
	}
	if err == nil {
		c.loan, c.renewed = loan, time.Now()
	}
	return err
}

// takeEpoch sees to it that the holder is there. A page server whose epoch was taken
// waits until there was no checkpoint for a while.
func (s *Server) takeEpoch(ctx context.Context, now bool) error {
	c := &s.checkpoints
	if c.holder != nil {
		return nil
	}
	if c.taken && !now {
		newest, err := s.opts.Checkpoints.Newest(ctx)
		if err != nil {
			return err
		}
		if newest != nil && time.Since(newest.Created) < standInAfter*s.opts.CheckpointInterval {
			return nil
		}
	}
	h, err := s.opts.Checkpoints.Take(ctx)
	if err != nil {
		return err
	}
	c.holder, c.taken = h, false
	c.note(func(st *CheckpointStatus) { st.Epoch, st.StandingBy = h.Epoch(), false })
	return nil
}

// entries is what every log has; a checkpoint of the same is the same.
func (s *Server) entries() map[logcore.LogID]logcore.LSN {
	out := map[logcore.LogID]logcore.LSN{}
	for _, l := range s.registry.all() {
		out[l.id] = l.snapshot().entry
	}
	return out
}

// save makes a checkpoint of what is in the store.
func (s *Server) save(ctx context.Context) (*checkpoint.Manifest, error) {
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	links := filepath.Join(s.opts.Dir, linksDir)
	db, err := s.link(links)
	if err != nil {
		return nil, err
	}
	defer s.local.FS().RemoveAll(links)
	content := checkpoint.Content{StoreVersion: markerFormatVersion, Dir: links, FS: s.local.FS(), Known: s.local.Known(), Check: checkTable(s.readerOptions())}
	if s.opts.Stripes != nil {
		// Asked after the files are what they are: what it holds now it held all the time.
		if content.Stripes = s.opts.Stripes(); content.Stripes.Empty() {
			return nil, nil
		}
	}
	if err := s.look(&content); err != nil {
		return nil, err
	}
	if len(content.Logs) == 0 {
		return nil, nil // no log yet
	}
	m, err := s.checkpoints.holder.Save(ctx, content)
	if err != nil {
		return nil, s.noteStoreError(err)
	}
	s.distrusted.Store(false)
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == db { // not one that was built again meanwhile
		err = s.local.Agree(m)
	}
	s.checkpoints.note(func(st *CheckpointStatus) {
		st.Number, st.Created, st.Tables, st.Bytes = m.Number, m.Created, len(m.Tables), m.Bytes()
	})
	return m, err
}

// link makes links to the files of the store as it is now.
func (s *Server) link(dir string) (*pebble.DB, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return nil, logcore.ErrClosed
	}
	if err := s.local.FS().RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("pageserver: %w", err)
	}
	if err := s.db.Checkpoint(dir); err != nil {
		return nil, s.noteStoreError(err)
	}
	return s.db, s.room.isStuck() // abandoned: what is there is not what it should be
}

// look opens the files of a checkpoint as a new page server will, to note which logs it
// holds and what is read first.
func (s *Server) look(c *checkpoint.Content) error {
	recorder := checkpoint.Record(c.FS)
	opts := s.pebbleOptions()
	opts.FS, opts.ReadOnly, opts.CacheSize, opts.Cache = recorder, true, 1<<20, nil
	db, err := pebble.Open(c.Dir, opts)
	if err != nil {
		return s.noteStoreError(err)
	}
	defer db.Close()
	states, err := loadStates(db)
	if err != nil {
		return s.noteStoreError(err)
	}
	for id, v := range states {
		c.Logs = append(c.Logs, checkpoint.Log{ID: id, Name: v.name, Incarnation: v.incarnation, Ingested: v.ingested, Entry: v.entry})
	}
	slices.SortFunc(c.Logs, func(a, b checkpoint.Log) int { return cmp.Compare(a.ID, b.ID) })
	if err := touch(db, s.heat.hottest()); err != nil {
		return s.noteStoreError(err)
	}
	c.Warm = recorder.Reads()
	return nil
}
