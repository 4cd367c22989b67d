package roles

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

const (
	// lookForLead is how often a node looks whether it is the one to archive.
	lookForLead = 100 * time.Millisecond
	// refreshArchive is how often one that isn't reads what is archived meanwhile.
	refreshArchive = 2 * time.Second
	// openArchiveAgain is the pause after an archiver did not start.
	openArchiveAgain = time.Second
)

// followedArchive is the archive as a node of a cluster has it: where the group is led an archiver
// runs, fenced by the term; everywhere else it is read. Its methods may be used by many goroutines.
type followedArchive struct {
	s *shardPart

	mu     sync.Mutex
	leads  *archive        // guarded by mu; nil while this node does not archive
	reader *tiering.Reader // guarded by mu; nil until the archive could be read
	err    error           // guarded by mu; why it couldn't be, or no archiver runs
}

var _ logsvc.Archive = (*followedArchive)(nil)

func (s *shardPart) followArchive() *followedArchive {
	f := &followedArchive{s: s}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx)
	}()
	s.process.group.add("archiver", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return f
}

// term is one leadership's archiver.
type term struct {
	number   uint64
	stop     func()
	registry *scopedRegistry
}

// run starts and stops the archiver as leadership comes and goes.
func (f *followedArchive) run(ctx context.Context) {
	var now *term
	defer func() { f.end(now) }()
	tick := time.NewTicker(lookForLead)
	defer tick.Stop()
	var next time.Time // when a reader is refreshed, or an archiver tried, again
	for {
		status := f.s.group.Status()
		if now != nil && (!status.Leading || status.Term != now.number) {
			f.end(now)
			now, next = nil, time.Time{}
		}
		if time.Now().After(next) && now == nil {
			if status.Leading {
				now = f.begin(ctx, status.Term)
				next = time.Now().Add(openArchiveAgain)
			} else {
				f.refresh(ctx)
				next = time.Now().Add(refreshArchive)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// begin starts an archiver for a term; nil when it did not start.
func (f *followedArchive) begin(ctx context.Context, number uint64) *term {
	t := &term{number: number, registry: &scopedRegistry{Registerer: f.s.process.registry}}
	a, stop, err := f.s.startArchiver(ctx, t.registry, func(err error) {
		if f.s.group.Leading() && f.s.group.Term() == number && ctx.Err() == nil {
			f.s.process.group.fail("archive", err)
		}
	})
	if err != nil {
		t.registry.unregister()
		if ctx.Err() == nil {
			f.s.process.log.Warn("the archiver did not start", "term", number, "err", err)
		}
		f.note(err)
		return nil
	}
	t.stop = stop
	f.mu.Lock()
	f.leads, f.err = a, nil
	f.mu.Unlock()
	return t
}

func (f *followedArchive) end(t *term) {
	if t == nil {
		return
	}
	f.mu.Lock()
	f.leads = nil
	f.mu.Unlock()
	t.stop()
	t.registry.unregister()
}

func (f *followedArchive) note(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
}

// reopen makes the next look at the archive one with the targets that there are by then.
func (f *followedArchive) reopen() {
	f.mu.Lock()
	f.reader = nil
	f.mu.Unlock()
}

// refresh reads what is archived meanwhile.
func (f *followedArchive) refresh(ctx context.Context) {
	f.mu.Lock()
	r := f.reader
	f.mu.Unlock()
	var err error
	if r == nil {
		r, err = f.s.openReader(ctx)
	} else {
		err = r.Refresh(ctx)
	}
	if err != nil {
		f.note(err)
		return
	}
	f.mu.Lock()
	f.reader, f.err = r, nil
	f.mu.Unlock()
}

func (f *followedArchive) now() (leads *archive, reader *tiering.Reader, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leads, f.reader, f.err
}

// Read implements logsvc.Archive.
func (f *followedArchive) Read(ctx context.Context, shard logcore.ShardID, from, to logcore.LSN) iter.Seq2[logcore.Entry, error] {
	leads, reader, err := f.now()
	switch {
	case leads != nil:
		return leads.Read(ctx, shard, from, to)
	case reader != nil:
		return func(yield func(logcore.Entry, error) bool) {
			if reader.Covered() < to {
				f.refresh(ctx)
			}
			readSpans(reader.Spans(ctx, from, to), from, to, yield)
		}
	}
	return func(yield func(logcore.Entry, error) bool) {
		yield(logcore.Entry{}, fmt.Errorf("%w: the archive could not be read yet: %w", logcore.ErrTrimmed, errors.Join(err)))
	}
}

// readSpans yields the entries of [from, to] in archived spans.
func readSpans(spans iter.Seq2[tiering.Span, error], from, to logcore.LSN, yield func(logcore.Entry, error) bool) {
	for span, err := range spans {
		if err != nil {
			yield(logcore.Entry{}, err)
			return
		}
		for e, err := range recovery.ToHotLog(span).Entries() {
			if err != nil {
				yield(logcore.Entry{}, fmt.Errorf("archived entries of LSN %d to %d: %w", span.First, span.Last, err))
				return
			}
			if e.LSN < from {
				continue
			}
			if e.LSN > to || !yield(e, nil) {
				return
			}
		}
	}
}

// Erased implements logsvc.Archive.
func (f *followedArchive) Erased(shard logcore.ShardID, log logcore.LogID, lsn logcore.LSN) bool {
	leads, reader, _ := f.now()
	switch {
	case leads != nil:
		return leads.Erased(shard, log, lsn)
	case reader != nil:
		return reader.Erased(log, lsn)
	}
	return true // what it is nobody knows yet
}

// Covered implements logsvc.Archive.
func (f *followedArchive) Covered(shard logcore.ShardID) logcore.LSN {
	leads, reader, _ := f.now()
	switch {
	case leads != nil:
		return leads.Covered(shard)
	case reader != nil:
		return reader.Covered()
	}
	return 0
}

// Trimmable implements logsvc.Archive. A node that does not archive lets go of what a proven manifest
// covers: it was read back and verified before the manifest said so.
func (f *followedArchive) Trimmable(shard logcore.ShardID, pressure bool) logcore.LSN {
	leads, reader, _ := f.now()
	switch {
	case leads != nil:
		return leads.Trimmable(shard, pressure)
	case reader != nil:
		return reader.Covered()
	}
	return 0
}

// Flush implements logsvc.Archive. Only the node that archives can; another one looks whether it has.
func (f *followedArchive) Flush(ctx context.Context, shard logcore.ShardID, lsn logcore.LSN) error {
	leads, _, err := f.now()
	if leads == nil {
		f.refresh(ctx)
		if f.Covered(shard) >= lsn {
			return nil
		}
		leader := f.s.group.Leader()
		return errors.Join(&logcore.NotLeaderError{Shard: shard, Leader: leader, Address: f.s.node.Address(leader)}, err)
	}
	return leads.Flush(ctx, shard, lsn)
}

// Status implements logsvc.Archive.
func (f *followedArchive) Status(shard logcore.ShardID) logsvc.ArchiveStatus {
	leads, _, err := f.now()
	if leads != nil {
		return leads.Status(shard)
	}
	out := logsvc.ArchiveStatus{Lag: f.lag(), Problems: f.s.damage.list(), Decided: f.s.decisions()}
	out.Problems = append(out.Problems, f.s.unknownTargets()...)
	if err != nil {
		out.Problems = append(out.Problems, "the archive can't be read: "+err.Error())
	}
	return out
}

// lag is the age of the oldest committed entry that is not archived, as far as a node knows that does not archive: nobody may.
func (f *followedArchive) lag() time.Duration {
	next, committed := f.Covered(f.s.id)+1, f.s.group.Committed()
	hot := f.s.group.HotLog()
	next = max(next, hot.First())
	if next > committed {
		return 0
	}
	e, err := hot.Entries(next, next+1, 1)
	if err != nil || len(e) == 0 || e[0].Time == 0 {
		return 0 // the first entries of all have no time
	}
	return max(time.Since(e[0].Time.Wall()), 0)
}

// Targets implements logsvc.Archive.
func (f *followedArchive) Targets(ctx context.Context) ([]logsvc.Target, error) {
	if leads, _, _ := f.now(); leads != nil {
		return leads.Targets(ctx)
	}
	var out []logsvc.Target
	for _, t := range f.s.targets.now() {
		out = append(out, logsvc.Target{Name: t.Name, Healthy: t.Bucket != nil})
	}
	return out, nil
}

// scopedRegistry remembers what was registered, so that it can be taken out again. One goroutine
// uses it.
type scopedRegistry struct {
	prometheus.Registerer
	registered []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *scopedRegistry) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	if err == nil {
		r.registered = append(r.registered, c)
	}
	return err
}

// MustRegister implements prometheus.Registerer.
func (r *scopedRegistry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

func (r *scopedRegistry) unregister() {
	for _, c := range r.registered {
		r.Unregister(c)
	}
	r.registered = nil
}
