package replication

import (
	"sync"
	"sync/atomic"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// view is what a member shows to other goroutines. The one that drives the member
// writes, anybody looks.
type view struct {
	committed atomic.Uint64 // LSN of the last applied entry
	leading   atomic.Bool   // requests are taken
	term      atomic.Uint64
	leader    atomic.Uint64 // the member that leads, as far as is known; 0: nobody
	newest    atomic.Uint64 // LSN of the newest applied checkpoint
	members   atomic.Pointer[Members]
	isQuiet   atomic.Bool // the member has fallen quiet

	// catalogMu guards applied: the driver writes, readers look.
	catalogMu sync.RWMutex
	applied   *catalog.State

	// mu guards the rest, and the member's inbox.
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when committed rises or the member ends
	err      error         // why no request is taken any more
	closing  bool
	stalled  error // why entries wait for room on the disk; nil when none do
	readable bool  // everything committed was applied when it stalled
}

// Committed returns the LSN of the last entry that is committed and applied: what
// readers may see. It may be called from any goroutine.
func (v *view) Committed() logcore.LSN { return logcore.LSN(v.committed.Load()) }

// Checkpoint returns the LSN of the newest applied checkpoint of the catalog, 0 when
// there is none: the hot log must be kept from its segment on. It may be called from any goroutine.
func (v *view) Checkpoint() logcore.LSN { return logcore.LSN(v.newest.Load()) }

// Leading reports whether requests are taken: this member was elected, and everything
// of earlier terms is applied. It may be called from any goroutine.
func (v *view) Leading() bool { return v.leading.Load() }

// Leader returns the member that leads as far as this one knows, 0 when it knows of
// none. It may be called from any goroutine.
func (v *view) Leader() uint64 { return v.leader.Load() }

// Term returns the present term. It may be called from any goroutine.
func (v *view) Term() uint64 { return v.term.Load() }

// Members returns the members as this one last applied them. It may be called from any goroutine; the
// lists must not be changed.
func (v *view) Members() Members { return *v.members.Load() }

// Changed returns a channel that is closed when Committed rises, the leader changes, or the member
// ends. Ask for it before looking at what may change. It may be called from any goroutine.
func (v *view) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

func (v *view) announce() {
	v.mu.Lock()
	close(v.changed)
	v.changed = make(chan struct{})
	v.mu.Unlock()
}

// View runs look on the applied catalog. The state must not be kept nor changed. It may be
// called from any goroutine.
func (v *view) View(look func(*catalog.State)) {
	v.catalogMu.RLock()
	defer v.catalogMu.RUnlock()
	look(v.applied)
}
