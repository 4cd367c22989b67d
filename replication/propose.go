package replication

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

// errLeadershipLost: what was proposed may or may not become part of the log.
var errLeadershipLost = fmt.Errorf("replication: leadership lost before the entry was committed: %w", logcore.ErrClosed)

// Proposer is what a request's Prepare gets: the catalog as it will be, and the way
// to add to it. It is valid during that call only.
type Proposer struct {
	l       *loop
	batch   []*raftpb.Entry
	bytes   int64
	waitFor logcore.LSN // the highest LSN the present request depends on
}

// Catalog returns the catalog once everything proposed so far is applied. It is
// read-only: Propose changes it.
func (p *Proposer) Catalog() *catalog.State { return p.l.spec }

// Propose adds an entry, stamps it, and returns the place it will have. The entry must
// be valid in Catalog: one that isn't is a bug, and panics. The draft belongs to the group from here on.
func (p *Proposer) Propose(d Draft) catalog.Place {
	spec := p.l.spec
	now := p.l.g.opts.Clock.Now()
	d.setTime(now)
	place := catalog.Place{LSN: spec.LSN + 1, Time: now}
	if err := spec.Apply(d.entry(place.LSN, 0)); err != nil {
		panic("replication: an invalid entry was proposed: " + err.Error())
	}
	p.batch = append(p.batch, &raftpb.Entry{Data: d})
	p.bytes += int64(len(d))
	p.waitFor = place.LSN
	return place
}

// Command proposes a catalog command after checking it.
func (p *Proposer) Command(c catalog.Command) (catalog.Place, error) {
	if err := p.l.spec.Check(c, p.l.spec.LSN+1); err != nil {
		return catalog.Place{}, err
	}
	return p.command(c), nil
}

func (p *Proposer) command(c catalog.Command) catalog.Place {
	payload := c.Encode()
	return p.Propose(append(NewDraft(logcore.KindCatalog, logcore.TxID{}, len(payload)), payload...))
}

// WaitFor keeps the request from being done before lsn, which was proposed before, is
// applied.
func (p *Proposer) WaitFor(lsn logcore.LSN) { p.waitFor = max(p.waitFor, lsn) }

// Term returns the term of the present leadership.
func (p *Proposer) Term() uint64 { return p.l.state.Term }

// Since returns when the present leadership began to take requests.
func (p *Proposer) Since() time.Time { return p.l.ledSince }

// DiskFull returns why nothing new should be written now, nil when there is room.
func (p *Proposer) DiskFull() error { return p.l.full }

// lead begins to take requests: everything of earlier terms is applied.
func (l *loop) lead() {
	l.leadDue = false
	l.g.catalogMu.RLock()
	l.spec = l.g.applied.Clone()
	l.g.catalogMu.RUnlock()
	l.g.opts.Clock.Restore(l.spec.Time) // whatever the wall clock says now, times go on rising
	l.ledSince = time.Now()
	l.measure()
	l.askRoom(l.checkpointBytes)
	if !l.announceIncarnation() || l.houseDue() && !l.house() {
		return
	}
	// Open returns, and readers come, once what the shard itself needs is applied too: a
	// reader must not see the incarnation that a restored log had before.
	l.housed = l.spec.LSN
	l.settleIn(l.g.Committed())
}

// settleIn opens the group once lsn, which is applied, covers what lead proposed.
func (l *loop) settleIn(lsn logcore.LSN) {
	if l.spec == nil || lsn < l.housed || l.g.leading.Load() {
		return
	}
	l.ledSince = time.Now()
	l.g.leading.Store(true)
	l.g.announce()
	l.g.log.Info("replication: leading", "term", l.state.Term, "lsn", lsn)
}

// resign stops taking requests. Whether what was proposed is committed is up to the
// next leader.
func (l *loop) resign() {
	l.spec = nil
	l.g.leading.Store(false)
	l.finishAll(errLeadershipLost)
	l.refuseQueue(fmt.Errorf("%w: shard %d", logcore.ErrNotLeader, l.g.opts.Log.Shard))
	l.g.announce()
}

// announceIncarnation proposes the incarnation of a shard that was created or restored.
func (l *loop) announceIncarnation() bool {
	if !l.state.AnnounceIncarnation || l.spec.Incarnation == l.state.Incarnation {
		return true
	}
	p := &Proposer{l: l}
	p.command(catalog.Command{Op: catalog.OpIncarnation, Incarnation: l.state.Incarnation})
	return l.offer(p)
}

// house proposes what the shard itself needs: the seal of a full segment, and the
// checkpoint that every segment begins with.
func (l *loop) house() bool {
	p := &Proposer{l: l}
	if l.sealDue() {
		p.Propose(NewDraft(logcore.KindSeal, logcore.TxID{}, 0))
		l.checkpointDue = true
	}
	if l.checkpointDue {
		payload := l.spec.EncodeCheckpoint()
		p.Propose(append(NewDraft(logcore.KindCheckpoint, logcore.TxID{}, len(payload)), payload...))
		l.checkpointDue = false
		l.checkpointBytes = int64(len(payload))
	}
	l.room -= p.bytes
	ok := l.offer(p)
	l.sinceCheckpoint = 0
	return ok
}

// houseDue reports whether house has something to do and there is room for it.
func (l *loop) houseDue() bool { return l.checkpointDue && l.full == nil || l.sealDue() }

// checkpointShare: a segment takes at least so many times its checkpoint of other
// entries, so that checkpoints are at most a fifth of what is written. When the catalog outgrows
// the segments, they grow instead.
const checkpointShare = 4

// sealDue asks the hot log, which knows only of what it was given: entries that still
// wait for room on the disk come first. While there is no room for another segment the
// open one stays open: its last eighth is for the few entries that must go on, and a
// sealed tail without a successor could take none.
func (l *loop) sealDue() bool {
	if l.sent < len(l.appends) || l.sinceCheckpoint < checkpointShare*l.checkpointBytes || !l.g.hot.SealDue() {
		return false
	}
	used, limit := l.g.hot.Pressure() // the open segment has nothing left to count
	return limit-used > l.checkpointBytes
}

// measure finds out, when leading begins, what the newest segment holds.
func (l *loop) measure() {
	l.checkpointBytes = int64(len(l.spec.EncodeCheckpoint()))
	l.sinceCheckpoint = 0
	if segments := l.g.hot.Segments(); len(segments) > 0 {
		l.sinceCheckpoint = max(segments[len(segments)-1].Bytes-l.checkpointBytes, 0)
	}
	if segment := l.g.opts.Log.SegmentBytes; segment > 0 && l.checkpointBytes*checkpointShare > segment {
		l.g.log.Warn("replication: the segments are small for so large a catalog, they grow beyond their size: configure larger ones",
			"segmentBytes", segment, "catalogBytes", l.checkpointBytes)
	}
}

// propose takes requests from the queue, one batch, and reports whether it did
// anything.
func (l *loop) propose() bool {
	if l.spec == nil || l.inflight >= l.g.opts.InflightBytesMax || l.sent < len(l.appends) && l.full == nil {
		return false
	}
	requests, bytes := l.takeRequests()
	if len(requests) == 0 {
		return false
	}
	l.askRoom(bytes)
	p := &Proposer{l: l}
	for _, r := range requests {
		n := len(p.batch)
		p.waitFor = 0
		if err := r.Prepare(p); err != nil {
			if len(p.batch) != n {
				panic("replication: Prepare failed after it proposed: " + err.Error())
			}
			r.Done(err)
			continue
		}
		if p.waitFor <= l.g.Committed() {
			r.Done(nil)
			continue
		}
		l.await(p.waitFor, r.Done)
	}
	return l.offer(p)
}

// await keeps waiting sorted: nearly always lsn is the highest, but a request that was
// tried again waits for an earlier one.
func (l *loop) await(lsn logcore.LSN, done func(error)) {
	l.waiting = append(l.waiting, waiting{lsn, done})
	for i := len(l.waiting) - 1; i > 0 && l.waiting[i-1].lsn > lsn; i-- {
		l.waiting[i], l.waiting[i-1] = l.waiting[i-1], l.waiting[i]
	}
}

// takeRequests takes the next requests of the queue, about batchBytes of them, and
// says what they take on the disk at most.
func (l *loop) takeRequests() (taken []Request, diskBytes int64) {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	n, bytes := 0, int64(0)
	most := batchBytes(g.opts.Log.SegmentBytes)
	for n < len(g.queue) && (n == 0 || bytes+int64(g.queue[n].Bytes) <= most) {
		bytes += int64(g.queue[n].Bytes)
		n++
	}
	taken = g.queue[:n:n]
	g.queue = g.queue[n:]
	if len(g.queue) == 0 {
		g.queue = nil
	}
	g.queueBytes -= bytes
	return taken, bytes + int64(n)*entryOverhead
}

// batchBytes is how much is proposed together. It keeps well below what a segment has
// left when it is due to be sealed, so that the batch before finds its room there.
func batchBytes(segmentBytes int64) int64 {
	if segmentBytes == 0 {
		segmentBytes = hotlog.SegmentBytesDefault
	}
	return min(segmentBytes/16, batchBytesMax)
}

// offer hands a batch to Raft; false when it would not take it.
func (l *loop) offer(p *Proposer) bool {
	if len(p.batch) == 0 {
		return true
	}
	l.sinceCheckpoint += p.bytes
	err := l.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &l.state.Member, Entries: p.batch})
	if err != nil {
		l.g.log.Warn("replication: Raft dropped a proposal", "err", err)
		l.resign()
		return false
	}
	return true
}
