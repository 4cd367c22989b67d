package pageserver

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore"
)

// Archive is where the logs are archived, read without the log service. Its methods may be
// called by many goroutines; errors wrap logcore's sentinels.
type Archive interface {
	// Logs returns every log as of what is archived; Last and Committed are as of that, too.
	// With an error it returns those that it could find out about.
	Logs(ctx context.Context) ([]LogInfo, error)
	// Read returns the entries with LSN >= from that belong to the log itself, every one
	// verified, in order, and ends with what is archived; the contract of the batches is
	// LogSource.Follow's. An archive of another incarnation than the log's is an error that
	// wraps logcore.ErrFenced, a log whose beginning was given up one that wraps
	// logcore.ErrTrimmed.
	Read(ctx context.Context, log LogInfo, from logcore.LSN) iter.Seq2[Batch, error]
	// Check looks whether the archive can be read.
	Check(ctx context.Context) error
	// Unreachable names the targets that did not answer last.
	Unreachable() []string
}

const (
	// archiveCheckEvery is how often the archive is looked at when nobody needs it, so that one
	// that is out of reach is known before.
	archiveCheckEvery = 30 * time.Second
	// archiveTimeout bounds one look.
	archiveTimeout = 30 * time.Second
	// archiveRetry is how long the log service is followed after the archive could not be read,
	// or had nothing new, before it is looked at again for the same log.
	archiveRetry = 30 * time.Second
)

// archiveState is what is known of the archive.
type archiveState struct {
	mu      sync.Mutex
	err     error     // of the last look or reading; guarded by mu
	checked time.Time // guarded by mu
}

// note takes over how a look at the archive, or a reading, ended.
func (a *archiveState) note(err error) (changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed = (err == nil) != (a.err == nil)
	a.err, a.checked = err, time.Now()
	return changed
}

func (a *archiveState) now() (checked time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.checked, a.err
}

// noteArchive takes over how a look at the archive, or a reading, ended, and says it when that
// is something new.
func (s *Server) noteArchive(err error) {
	if !s.archive.note(err) {
		return
	}
	if err != nil {
		s.log.Warn("pageserver: the archive can't be read; what is there is served, and the log service is followed where it can be reached", "err", err)
	} else {
		s.log.Info("pageserver: the archive can be read again")
	}
}

// archiveLoop looks at the archive from time to time.
func (s *Server) archiveLoop(ctx context.Context) {
	tick := time.NewTicker(s.opts.ArchiveCheckInterval)
	defer tick.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, archiveTimeout)
		err := s.opts.Archive.Check(look)
		cancel()
		if ctx.Err() == nil {
			s.noteArchive(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ArchiveStatus says how the archive is, for a page server that may read it itself.
type ArchiveStatus struct {
	// Configured: there is one.
	Configured bool
	// Err is why it can't be read, nil when it can.
	Err error
	// Checked is when that was found out; zero: not yet.
	Checked time.Time
	// Unreachable names the targets that did not answer last; while enough are left the
	// archive can be read all the same.
	Unreachable []string
}

// ArchiveStatus returns how the archive is.
func (s *Server) ArchiveStatus() ArchiveStatus {
	if s.opts.Archive == nil {
		return ArchiveStatus{}
	}
	out := ArchiveStatus{Configured: true, Unreachable: slices.Clone(s.opts.Archive.Unreachable())}
	out.Checked, out.Err = s.archive.now()
	return out
}

// archivedLogs asks the archive for its logs.
func (s *Server) archivedLogs(ctx context.Context) ([]LogInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	infos, err := s.opts.Archive.Logs(ctx)
	if ctx.Err() == nil || err == nil {
		s.noteArchive(err)
	}
	return infos, err
}

// adoptArchived takes over the logs that the archive knows, while the log service does not
// answer. What is there is never thrown away on the archive's word: it may be behind.
func (s *Server) adoptArchived(ctx context.Context) error {
	infos, err := s.archivedLogs(ctx)
	infos = slices.DeleteFunc(infos, func(info LogInfo) bool {
		l := s.registry.withID(info.ID)
		if l == nil {
			return s.registry.named(info.Name) != nil
		}
		return l.voidFor(info) != ""
	})
	s.adopt(infos)
	s.noteEnds(infos)
	for _, info := range infos {
		l := s.registry.withID(info.ID)
		if l == nil || l.parent == nil {
			continue
		}
		if rests, _ := l.settled(want{}); rests && info.Last <= max(l.snapshot().entry, l.branch.lsn) {
			// A branch at rest has no follower that would say so.
			l.update(func() { l.state.ingested = max(l.state.ingested, info.Committed) })
		}
	}
	return err
}
