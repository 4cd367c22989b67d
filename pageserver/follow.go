package pageserver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/logcore/logcore"
)

// followers owns the goroutines of one run: one for each log, and the flusher.
type followers struct {
	ctx   context.Context
	group sync.WaitGroup

	mu    sync.Mutex
	ended bool                    // no new ones any more; guarded by mu
	logs  map[*logState]*follower // guarded by mu
}

// follower is the goroutine that follows one log.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{}
	// ending: stop was called; again: and start after it, so another one begins when this
	// one has ended. Guarded by followers.mu.
	ending bool
	again  func(context.Context, *logState)
}

func newFollowers(ctx context.Context) *followers {
	return &followers{ctx: ctx, logs: map[*logState]*follower{}}
}

// start begins to follow a log unless that is done already. A log never has two followers
// at a time.
func (f *followers) start(l *logState, follow func(context.Context, *logState)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || l.dead.Load() {
		return
	}
	if one := f.logs[l]; one != nil {
		if one.ending {
			one.again = follow
		}
		return
	}
	f.launch(l, follow)
}

// launch starts the goroutine; the caller holds mu.
func (f *followers) launch(l *logState, follow func(context.Context, *logState)) {
	ctx, cancel := context.WithCancel(f.ctx)
	one := &follower{cancel: cancel, done: make(chan struct{})}
	f.logs[l] = one
	f.group.Go(func() {
		follow(ctx, l)
		cancel()
		f.finished(l, one)
	})
}

// finished ends a follower. One that ended by itself stays listed: it is not begun again.
func (f *followers) finished(l *logState, one *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(one.done)
	if !one.ending || f.logs[l] != one {
		return
	}
	delete(f.logs, l)
	if one.again != nil && !f.ended && !l.dead.Load() {
		f.launch(l, one.again)
	}
}

// follows reports whether a log is followed.
func (f *followers) follows(l *logState) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logs[l] != nil
}

// stop ends the following of a log and waits until it has ended.
func (f *followers) stop(l *logState) {
	f.mu.Lock()
	one := f.logs[l]
	if one != nil {
		one.ending, one.again = true, nil
	}
	f.mu.Unlock()
	if one == nil {
		return
	}
	one.cancel()
	<-one.done
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.logs[l] == one { // it had ended by itself before
		delete(f.logs, l)
	}
}

// wait returns when every goroutine has ended; ctx must be done.
func (f *followers) wait() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.group.Wait()
}

const (
	followPauseMin = 20 * time.Millisecond
	followPauseMax = 2 * time.Second
	// strikesMax is how many times in a row, without progress, a source may break its
	// contract, or a page fail to heal, before the log's ingest is stopped.
	strikesMax = 8
	// sourceTimeout bounds a question to the source.
	sourceTimeout = 10 * time.Second
)

// follow ingests a log until ctx is done or an error rules out that it goes on. Other
// errors are met by beginning again at the position reached, after a pause.
func (s *Server) follow(ctx context.Context, l *logState) {
	pause, strikes := followPauseMin, 0
	for ctx.Err() == nil {
		before, began := l.snapshot().entry, time.Now()
		err := s.followOnce(ctx, l)
		if ctx.Err() != nil {
			break
		}
		if l.snapshot().entry > before {
			pause, strikes = followPauseMin, 0
		}
		if time.Since(began) > followPauseMax {
			pause = followPauseMin // it went well for a while: readers should not wait long
		}
		if final := s.judge(ctx, l, err, &strikes); final {
			return
		}
		l.update(func() { l.confirmed, l.lastErr = false, err })
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		case <-l.again:
		}
		pause = min(2*pause, followPauseMax)
	}
	l.update(func() { l.confirmed = false })
}

// judge decides what an error of followOnce means, and reports whether it is final.
func (s *Server) judge(ctx context.Context, l *logState, err error, strikes *int) bool {
	var bad *badEntry
	var broken *violation
	var damage *damagedPage
	switch {
	case err == nil:
		return false
	case errors.As(err, &bad), errors.Is(err, logcore.ErrTrimmed), errors.Is(err, logcore.ErrUnsupportedVersion):
		s.stop(l, err)
		return true
	case errors.As(err, &broken):
		s.log.Warn("pageserver: batch refused, the log is read again from the position reached", "log", l.name(), "err", err)
		// What it said about the stretch without entries may be wrong as well.
		l.update(func() { l.state.ingested = max(l.state.entry, l.state.branchLSN) })
		if *strikes++; *strikes >= strikesMax {
			s.stop(l, err)
			return true
		}
	case errors.As(err, &damage):
		if herr := s.heal(ctx, damage); herr != nil {
			err = errors.Join(err, herr)
			if *strikes++; *strikes >= strikesMax {
				s.stop(l, err)
				return true
			}
		}
	default:
		s.log.Debug("pageserver: following ended, tried again", "log", l.name(), "err", s.noteStoreError(err))
	}
	return false
}

// stop ends the ingest of one log for good; the others go on, and what it holds is
// served.
func (s *Server) stop(l *logState, err error) {
	level, what := slog.LevelError, "pageserver: ingest of a log stopped; it is tried again when the page server restarts"
	var bad *badEntry
	if v := l.snapshot(); v.visible == 0 && errors.As(err, &bad) {
		level, what = slog.LevelInfo, "pageserver: a log holds no pages that this page server can decode; it is left alone"
	}
	s.log.Log(context.Background(), level, what, "log", l.name(), "ingested", uint64(l.snapshot().ingested), "err", err)
	l.update(func() { l.stopped = err })
}

// stoppedLogs is the number of logs whose ingest stopped.
func (s *Server) stoppedLogs() float64 {
	n := 0
	for _, l := range s.registry.all() {
		l.mu.Lock()
		if l.stopped != nil {
			n++
		}
		l.mu.Unlock()
	}
	return float64(n)
}

// followOnce follows a log until the stream ends.
func (s *Server) followOnce(ctx context.Context, l *logState) error {
	if err := s.removeSpilled(l); err != nil {
		return err
	}
	mine := l.info()
	info, err := s.sourceInfo(ctx, mine.Name)
	if err != nil {
		return s.withoutSource(ctx, l, err)
	}
	if err := s.confirm(ctx, l, info); err != nil {
		return err
	}
	if err := s.persistNew(l); err != nil {
		return err
	}
	if l.parent != nil {
		// A branch builds on its parent's pages.
		if err := s.await(ctx, l.parent, l.branch.lsn); err != nil {
			return err
		}
	}
	if err := s.chooseDecoder(l, info); err != nil {
		return err
	}
	if info, err = s.catchUp(ctx, l, info); err != nil {
		return err
	}
	s.comesFrom(l, FromLogService, "")
	l.update(func() {
		l.confirmed, l.lastErr, l.caughtUp, l.session = true, nil, max(info.Last, l.state.branchLSN), sessions.Add(1)
	})
	// From the last entry, not from the ingested LSN: should the source have left out
	// entries before that, they come now, or their absence shows in the sequence.
	from := max(l.snapshot().entry, l.branch.lsn) + 1
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return s.ingestStream(ctx, newIngester(ctx, s, l, cancel), info, from)
}

// ingestStream ingests the entries of a log from an LSN on until the stream ends. All that
// it took over is in the store when it returns, unless the error says otherwise.
func (s *Server) ingestStream(ctx context.Context, w *ingester, info LogInfo, from logcore.LSN) (err error) {
	l := w.l
	defer func() {
		if werr := w.close(); werr != nil {
			err = werr // what the stream says follows from it
		}
	}()
	for batch, err := range s.opts.Source.Follow(ctx, info, from) {
		if err == nil {
			err = s.takeBatch(ctx, l, w, batch)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chooseDecoder chooses the decoder of a log by the format that it announced. A log that
// announced none is decoded by what its first payload turns out to be.
func (s *Server) chooseDecoder(l *logState, info LogInfo) error {
	name := info.Format
	if name == "" {
		name = l.info().Format
	}
	format, err := s.opts.Formats.Named(name)
	switch {
	case err != nil && name == "":
		return nil
	case err != nil:
		return &badEntry{err}
	}
	l.update(func() { l.decoder, l.state.format = format.Decoder, name })
	return nil
}

func (s *Server) sourceInfo(ctx context.Context, name string) (LogInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	return s.opts.Source.Info(ctx, name)
}

func (s *Server) sourceList(ctx context.Context) ([]LogInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	return s.opts.Source.List(ctx)
}

// persistNew stores the state of a log without entries, so that its incarnation is
// known after a restart before it has any.
func (s *Server) persistNew(l *logState) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	key := appendLogKey(nil, tagState, l.id)
	return s.set(key, seal(key, encodeState(l.snapshot())))
}

// await returns when a log is confirmed and ingested up to an LSN, or ctx is done, or
// the log's ingest has stopped short of it.
func (s *Server) await(ctx context.Context, l *logState, lsn logcore.LSN) error {
	for {
		_, err := s.waitFor(ctx, l, want{lsn: lsn}, time.Now().Add(WaitMax))
		if err == nil || !errors.Is(err, logcore.ErrLSNInFuture) {
			return err
		}
	}
}
