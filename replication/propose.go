package replication

import (
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

// Proposer is what a request's Prepare gets: the catalog as it will be, and the way
// to add to it. It is valid during that call only.
type Proposer struct {
	m       *Member
	batch   []proposed
	bytes   int64
	waitFor logcore.LSN // the highest LSN the present request depends on
}

// Catalog returns the catalog once everything proposed so far is applied. It is
// read-only: Propose changes it.
func (p *Proposer) Catalog() *catalog.State { return p.m.spec }

// Propose adds an entry, stamps it, and returns the place it will have. The entry must
// be valid in Catalog: one that isn't is a bug, and panics. The draft belongs to the group from here on.
func (p *Proposer) Propose(d Draft) catalog.Place {
	spec := p.m.spec
	var now logcore.HLC
	if len(p.batch) == 0 {
		now = p.m.opts.Clock.Now()
	} else {
		now = p.m.opts.Clock.Next() // the batch is of one time
	}
	d.setTime(now)
	place := catalog.Place{LSN: spec.LSN + 1, Time: now}
	if err := spec.Apply(d.entry(place.LSN, 0)); err != nil {
		panic("replication: an invalid entry was proposed: " + err.Error())
	}
	p.batch = append(p.batch, proposed{data: d})
	p.bytes += int64(len(d))
	p.waitFor = place.LSN
	return place
}

// Command proposes a catalog command after checking it.
func (p *Proposer) Command(c catalog.Command) (catalog.Place, error) {
	if err := p.m.spec.Check(c, p.m.spec.LSN+1); err != nil {
		return catalog.Place{}, err
	}
	return p.command(c), nil
}

func (p *Proposer) command(c catalog.Command) catalog.Place {
	payload := c.Encode()
	return p.Propose(append(NewDraft(logcore.KindCatalog, logcore.TxID{}, len(payload)), payload...))
}

// WaitFor keeps the request from being done, or refused, before lsn, which was proposed before, is
// applied. One that waits when the leadership is lost learns that instead.
func (p *Proposer) WaitFor(lsn logcore.LSN) { p.waitFor = max(p.waitFor, lsn) }

// After makes all times that are given from now on greater than t, a reading of another shard of the
// same cluster.
func (p *Proposer) After(t logcore.HLC) { p.m.opts.Clock.Restore(t) }

// Term returns the term of the present leadership.
func (p *Proposer) Term() uint64 { return p.m.state.Term }

// Since returns when the present leadership began to take requests.
func (p *Proposer) Since() time.Time { return p.m.ledSince }

// Alone reports whether this member is the whole group: what it does not know is not so.
func (p *Proposer) Alone() bool { return p.m.state.soleVoter() }

// Shard returns the group's shard.
func (p *Proposer) Shard() logcore.ShardID { return p.m.state.Shard }

// DiskFull returns why nothing new should be written now, nil when there is room.
func (p *Proposer) DiskFull() error { return p.m.full }

// lead begins to take requests: everything of earlier terms is applied.
func (m *Member) lead() {
	m.leadDue = false
	m.catalogMu.RLock()
	m.spec = m.applied.Clone()
	m.catalogMu.RUnlock()
	m.checkpointDue = m.unchecked
	m.changing = 0
	m.opts.Clock.Restore(m.spec.Time) // whatever the wall clock says now, times go on rising
	m.ledSince = m.opts.Now()
	m.measure()
	m.askRoom(m.checkpointBytes)
	if !m.announceIncarnation() || m.houseDue() && !m.house() {
		return
	}
	// Open returns, and readers come, once what the shard itself needs is applied too: a
	// reader must not see the incarnation that a restored log had before.
	m.housed = m.spec.LSN
	m.settleIn(m.Committed())
}

// settleIn opens the group once lsn, which is applied, covers what lead proposed.
func (m *Member) settleIn(lsn logcore.LSN) {
	if m.spec == nil || lsn < m.housed || m.leading.Load() {
		return
	}
	m.ledSince = m.opts.Now()
	m.leading.Store(true)
	m.announce()
	m.log.Info("replication: leading", "term", m.state.Term, "lsn", lsn)
}

// resign stops taking requests. Whether what was proposed is committed is up to the
// next leader.
func (m *Member) resign() {
	m.spec = nil
	m.storage.floor = 0
	m.leading.Store(false)
	m.finishAll(errLeadershipLost)
	m.log.Info("replication: no longer leading", "term", m.state.Term, "leader", m.leader.Load())
	m.announce()
}

// announceIncarnation proposes the incarnation of a shard that was created or restored.
func (m *Member) announceIncarnation() bool {
	if !m.state.AnnounceIncarnation || m.spec.Incarnation == m.state.Incarnation {
		return true
	}
	p := &Proposer{m: m}
	p.command(catalog.Command{Op: catalog.OpIncarnation, Incarnation: m.state.Incarnation})
	return m.offer(p)
}

// house proposes what the shard itself needs: the seal of a full segment, and the
// checkpoint that every segment begins with.
func (m *Member) house() bool {
	p := &Proposer{m: m}
	if m.leaveDue() {
		p.leaveJoint()
	}
	if m.sealDue() {
		p.Propose(NewDraft(logcore.KindSeal, logcore.TxID{}, 0))
		m.checkpointDue = true
	}
	if m.checkpointDue {
		payload := m.spec.EncodeCheckpoint()
		p.Propose(append(NewDraft(logcore.KindCheckpoint, logcore.TxID{}, len(payload)), payload...))
		m.checkpointDue = false
		m.checkpointBytes = int64(len(payload))
	}
	m.room -= p.bytes
	ok := m.offer(p)
	m.sinceCheckpoint = 0
	return ok
}

// houseDue reports whether house has something to do and there is room for it.
func (m *Member) houseDue() bool {
	return m.checkpointDue && m.full == nil || m.sealDue() || m.leaveDue()
}

// checkpointShare: a segment takes at least so many times its checkpoint of other
// entries, so that checkpoints are at most a fifth of what is written. When the catalog outgrows
// the segments, they grow instead.
const checkpointShare = 4

// sealDue asks the hot log, which knows only of what it was given: entries that still
// wait for room on the disk come first. While there is no room for another segment the
// open one stays open: its last eighth is for the few entries that must go on, and a
// sealed tail without a successor could take none.
func (m *Member) sealDue() bool {
	if m.sent < len(m.appends) || m.sinceCheckpoint < checkpointShare*m.checkpointBytes || !m.opts.Disk.SealDue() {
		return false
	}
	used, limit := m.opts.Disk.Pressure() // the open segment has nothing left to count
	return limit-used > m.checkpointBytes
}

// measure finds out, when leading begins, what the newest segment holds.
func (m *Member) measure() {
	m.checkpointBytes = int64(len(m.spec.EncodeCheckpoint()))
	m.sinceCheckpoint = 0
	if segments := m.opts.Disk.Segments(); len(segments) > 0 {
		m.sinceCheckpoint = max(segments[len(segments)-1].Bytes-m.checkpointBytes, 0)
	}
	if segment := m.opts.SegmentBytes; segment > 0 && m.checkpointBytes*checkpointShare > segment {
		m.log.Warn("replication: the segments are small for so large a catalog, they grow beyond their size: configure larger ones",
			"segmentBytes", segment, "catalogBytes", m.checkpointBytes)
	}
}

// propose takes requests from the queue, one batch, and reports whether it did
// anything.
func (m *Member) propose() bool {
	if m.spec == nil || m.transfer != 0 || m.inflight >= m.opts.InflightBytesMax || m.sent < len(m.appends) && m.full == nil {
		return false
	}
	requests, bytes := m.takeRequests()
	if len(requests) == 0 {
		return false
	}
	m.askRoom(bytes)
	p := &Proposer{m: m}
	for _, r := range requests {
		n := len(p.batch)
		p.waitFor = 0
		if err := r.Prepare(p); err != nil {
			if len(p.batch) != n {
				panic("replication: Prepare failed after it proposed: " + err.Error())
			}
			m.refuse(r, p.waitFor, err)
			continue
		}
		if p.waitFor <= m.Committed() {
			r.Done(nil)
			continue
		}
		m.await(p.waitFor, r.Done)
	}
	ok := m.offer(p)
	if m.transfer != 0 && ok {
		m.rn.TransferLeader(m.transfer)
	}
	return ok
}

// refuse tells a request why it was not carried out, once lsn is applied if that is why: what this member proposed and nobody
// committed is no reason.
func (m *Member) refuse(r Request, lsn logcore.LSN, err error) {
	if lsn <= m.Committed() {
		r.Done(err)
		return
	}
	m.await(lsn, func(lost error) {
		if lost != nil {
			err = lost
		}
		r.Done(err)
	})
}

// await keeps waiting sorted: nearly always lsn is the highest, but a request that was
// tried again waits for an earlier one.
func (m *Member) await(lsn logcore.LSN, done func(error)) {
	m.waiting = append(m.waiting, waiting{lsn, done})
	for i := len(m.waiting) - 1; i > 0 && m.waiting[i-1].lsn > lsn; i-- {
		m.waiting[i], m.waiting[i-1] = m.waiting[i-1], m.waiting[i]
	}
}

// takeRequests takes the next requests of the queue, about batchBytes of them, and
// says what they take on the disk at most.
func (m *Member) takeRequests() (taken []Request, diskBytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, bytes := 0, int64(0)
	most := batchBytes(m.opts.SegmentBytes)
	for n < len(m.queue) && (n == 0 || bytes+int64(m.queue[n].Bytes) <= most) {
		bytes += int64(m.queue[n].Bytes)
		n++
	}
	taken = m.queue[:n:n]
	m.queue = m.queue[n:]
	if len(m.queue) == 0 {
		m.queue = nil
	}
	m.queueBytes -= bytes
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
