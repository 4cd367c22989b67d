package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

// Disk is a shard's hot log as a member needs it: *hotlog.Log is one. Only the member
// that has it writes.
type Disk interface {
	// Submit queues entries that follow Last; done is called once, in the order of the
	// submissions, from any goroutine or from within another call of Disk: with nil once they and all
	// before them are durable. After an error everything submitted behind fails too, and Last is
	// back at Durable. logcore.ErrOverloaded: nothing was queued, try again after the
	// next completion. logcore.ErrDiskFull (to done) leaves the log in order.
	Submit(entries []logcore.Entry, done func(error)) error
	// Entries returns at least one entry of [lo, hi), as far as they are durable; below First it is
	// logcore.ErrTrimmed.
	Entries(lo, hi logcore.LSN, bytesMax int) ([]logcore.Entry, error)
	// Term returns the term of a durable entry, or of the one before First, 0 when that
	// is not known.
	Term(lsn logcore.LSN) (uint64, error)
	First() logcore.LSN   // of the oldest entry kept; Last+1 when there is none
	Last() logcore.LSN    // submitted
	Durable() logcore.LSN // on stable storage
	// TruncateTail drops what is above after, once what was submitted is completed. It is
	// durable on return; a crash meanwhile leaves a log that ends somewhere from after to its old end.
	TruncateTail(after logcore.LSN) error
	SealDue() bool                 // the open segment has passed the size to seal it at
	Pressure() (used, limit int64) // bytes in use and those that may be
	Segments() []hotlog.SegmentInfo
}

// StateStore keeps what a member must remember besides the log.
type StateStore interface {
	// Save returns when the state is durable: no vote, and no message of a new term, leaves
	// the member before. After an error the state may be the old one or the new one; one that
	// wraps logcore.ErrDiskFull left the old one.
	Save(MemberState) error
}

// Net carries messages to the other members of the group. It may lose, delay, repeat and reorder
// them.
type Net interface {
	// Send sends a message, or drops it; it must not block. The message must not be changed.
	Send(m *raftpb.Message)
}

// MemberOptions configures a Member.
type MemberOptions struct {
	// State is what the member remembers: as State.Save last had it. Required.
	State MemberState
	// Disk is the hot log, recovered. Required.
	Disk Disk
	// Store takes the state when it changes. Required.
	Store StateStore
	// Net reaches the other members; nil drops what is sent.
	Net Net
	// Now tells the time, for leases and measurements only; nil means time.Now. Clock stamps the
	// entries; nil means one over Now.
	Now   func() time.Time
	Clock *logcore.Clock
	// Rand chooses the election timeouts; nil means a source seeded at random.
	Rand *rand.Rand
	// QueueRequestsMax, QueueBytesMax and InflightBytesMax are those of Options.
	QueueRequestsMax int
	QueueBytesMax    int64
	InflightBytesMax int64
	// SegmentBytes is the size of the hot log's segments; 0 means its default.
	SegmentBytes int64
	// Wake is called, from any goroutine, when there is something for Advance to do that no call of
	// the driver brought: a request, or a completion of the disk. It must not block; nil means nobody
	// wants to know.
	Wake func()
	// Sent is called when messages with entries were handed to Net, before the entries go to this member's own disk: the
	// others' disks are further away than that, so whoever drives the member lets them go ahead. nil: nothing is done.
	Sent func()
	// OnSnapshot is told of a leader whose log begins behind the end of this one's: what
	// lies between must be fed (see Member.Feed). It must not block; nil means that nobody feeds.
	OnSnapshot func(*raftpb.Message)
	// QuietTicks is after how many ticks without anything to do the group falls quiet; 0 means never. All members
	// must have the same, and whoever drives them must Rouse those that have lost a member.
	QuietTicks int
	// Place names the member's directory in errors.
	Place       string
	Logger      *slog.Logger
	Corruptions prometheus.Counter
}

func (o MemberOptions) withDefaults() MemberOptions {
	if o.Net == nil {
		o.Net = nowhere{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Clock == nil {
		o.Clock = logcore.NewClock(o.Now)
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	g := Options{QueueRequestsMax: o.QueueRequestsMax, QueueBytesMax: o.QueueBytesMax, InflightBytesMax: o.InflightBytesMax}.withDefaults()
	o.QueueRequestsMax, o.QueueBytesMax, o.InflightBytesMax = g.QueueRequestsMax, g.QueueBytesMax, g.InflightBytesMax
	if o.Wake == nil {
		o.Wake = func() {}
	}
	if o.Sent == nil {
		o.Sent = func() {}
	}
	if o.OnSnapshot == nil {
		o.OnSnapshot = func(*raftpb.Message) {}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Corruptions == nil {
		o.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "corruptions"})
	}
	return o
}

// nowhere is the net of a group of one.
type nowhere struct{}

func (nowhere) Send(*raftpb.Message) {}

// Member is one member of a shard's Raft group as a state machine driven by steps: it
// starts no goroutine, reads no clock but the one it was given, and waits for nothing but the
// state store and the rewriting of a conflicting tail. One goroutine at a time may drive it: the methods Tick, Step,
// Feed and Advance. Submit, ReadIndex and what view has may be called by any.
//
//	m, err := replication.NewMember(ctx, replication.MemberOptions{
//		State: replication.FoundingState(shard, 1, []uint64{1, 2, 3}, incarnation),
//		Disk: disk, Store: store, Net: net, Now: now, Rand: rand.New(rand.NewPCG(seed, 1))})
//	m.Advance()           // apply what is known to be committed
//	m.Tick()              // the time of one tick has passed; then
//	m.Step(message)       // a message of another member has come; then
//	m.Submit(request)     // something is to be written; then
//	m.Advance()           // carry out everything that there is to do now
//
// The disk's completions come through the callback given to Disk.Submit; the next Advance
// takes them. A crash is to drop the member and its disk's unsynced writes; NewMember over what the disk and
// the store hold then is the restart.
//
// Group drives a Member over a real hot log; the simulation drives several over disks and
// a network of its own. With the same seeds, inputs and clock readings a Member does the same.
type Member struct {
	view
	opts    MemberOptions
	log     *slog.Logger
	rn      *raft.RawNode
	storage *storage
	state   MemberState // as saved
	// identity is the state as it was at the start, of which any goroutine may read what never changes:
	// member, shard and incarnation.
	identity  MemberState
	election  election
	probation probation

	// What other goroutines leave here; guarded by view.mu.
	queue       []Request
	queueBytes  int64
	completions []error // of storage writes that finished, in order
	reads       []func(error)

	// spec is the catalog once everything proposed is applied; nil while not leading.
	// Invariant: spec.LSN is the LSN of the last entry proposed, so the next gets spec.LSN+1.
	spec          *catalog.State
	checkpointDue bool      // the open segment has no checkpoint yet, and none is proposed
	ledSince      time.Time // when this leadership began to take requests
	// checkpointBytes is the length of the last checkpoint, sinceCheckpoint what was
	// proposed after it.
	checkpointBytes, sinceCheckpoint int64
	housed                           logcore.LSN // of the last entry this leadership began with
	leadDue                          bool        // this member was elected and has applied its term's first entry
	changing                         logcore.LSN // of the change of members that was proposed last in this leadership
	transfer                         uint64      // the member that is asked to lead instead; 0: none
	slow                             slow
	quiet                            quietness
	heardAt                          map[uint64]int // the tick in which a member was heard of last

	// unchecked: the segment that the last applied entry lies in, or the one behind it when that
	// entry is a SEAL, has no checkpoint among what is applied.
	unchecked bool

	due      []raft.Ready    // taken from Raft and not carried out; oldest first
	appends  []storageAppend // handed to the hot log or about to be; oldest first
	sent     int             // appends[:sent] were handed over
	inflight int64           // bytes in appends
	waiting  []waiting       // requests proposed and not applied, by LSN
	reading  reading
	feeding  *feeding // while the log is fed by somebody else than the leader's appends
	full     error    // the disk had no room when last asked
	room     int64    // bytes it had, less what was proposed since
	held     bool     // an append was refused; it is tried again with the next tick
	told     bool     // that it is so
	failed   bool
}

// NewMember returns a member that goes on where its disk and state end. ctx bounds the
// search for the newest checkpoint. A log that ends below what the state says was
// committed wraps logcore.ErrCorrupt.
func NewMember(ctx context.Context, opts MemberOptions) (*Member, error) {
	opts = opts.withDefaults()
	state, disk := opts.State, opts.Disk
	if disk.Last() < logcore.LSN(state.Commit) {
		opts.Corruptions.Inc()
		return nil, &logcore.CorruptionError{Place: opts.Place, Object: "hot log", Offset: -1, LSN: disk.Last(),
			Reason: fmt.Sprintf("the log ends here, but entries up to LSN %d were committed: restore the directory from the archive, or replace the member", state.Commit)}
	}
	if state.Stale {
		return nil, fmt.Errorf("%w: %s: remove it from the group and add it anew with an empty directory", ErrStaleMember, opts.Place)
	}
	m := &Member{opts: opts, log: opts.Logger.With("shard", state.Shard), state: state, identity: state, heardAt: map[uint64]int{}, view: view{applied: catalog.NewState(), changed: make(chan struct{})}}
	m.storage = &storage{disk: disk, snapshot: m.snapshot}
	if err := m.storage.reload(); err != nil {
		return nil, err
	}
	commit := max(state.Commit, uint64(disk.First()-1))
	if state.soleVoter() { // what is durable here is durable at a quorum
		commit = uint64(m.storage.last)
	}
	start, err := findStart(ctx, disk, logcore.LSN(commit))
	if err != nil {
		return nil, err
	}
	if !state.soleVoter() && disk.Last() > 0 {
		m.probation.ticks = probationTicks
	}
	m.unchecked = true
	m.committed.Store(uint64(start - 1))
	m.showState()
	return m, m.startRaft(commit)
}

// startRaft begins with a fresh Raft state machine over what the disk holds, of which
// everything up to commit is committed.
func (m *Member) startRaft(commit uint64) (err error) {
	m.election.ticks = max(m.election.ticks, 1)
	implied, err := m.impliedCommit(logcore.LSN(commit))
	if err != nil {
		return err
	}
	if m.state.MembersLSN <= m.storage.last {
		implied = max(implied, m.state.MembersLSN) // it was applied
	}
	m.storage.initial = m.state
	m.storage.initial.Commit = uint64(implied)
	m.rn, err = raft.NewRawNode(&raft.Config{
		ID: m.state.Member, ElectionTick: electionTicks, HeartbeatTick: 1, Storage: m.storage, Applied: uint64(m.Committed()),
		AsyncStorageWrites: true, MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: applyBytesMax, MaxInflightMsgs: 256, MaxInflightBytes: inflightBytesMax,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true, Logger: raftLogger{m.opts.Logger},
	})
	if err != nil {
		return fmt.Errorf("replication: %w", err)
	}
	m.election.reset(m.opts.Rand)
	return nil
}

// showState publishes what changed in the state.
func (m *Member) showState() {
	m.term.Store(m.state.Term)
	members := membersOf(m.state)
	m.members.Store(&members)
}

// ID returns the member's own Raft id.
func (m *Member) ID() uint64 { return m.identity.Member }

// Shard returns the group's shard.
func (m *Member) Shard() logcore.ShardID { return m.identity.Shard }

// Incarnation returns the incarnation of the shard.
func (m *Member) Incarnation() uint64 { return m.identity.Incarnation }

// Submit queues a request and returns without waiting for it; Advance carries it out. A full queue is
// logcore.ErrOverloaded; after a failed write it is logcore.ErrPoisoned, after Close logcore.ErrClosed.
// When it returns an error Done is not called. It may be called from any goroutine.
func (m *Member) Submit(r Request) error {
	m.mu.Lock()
	if err := m.stateErr(); err != nil {
		m.mu.Unlock()
		return err
	}
	if len(m.queue) >= m.opts.QueueRequestsMax || len(m.queue) > 0 && m.queueBytes+int64(r.Bytes) > m.opts.QueueBytesMax {
		n, b := len(m.queue), m.queueBytes
		m.mu.Unlock()
		return fmt.Errorf("%w: shard %d: %d requests with %d bytes are waiting", logcore.ErrOverloaded, m.state.Shard, n, b)
	}
	m.queue = append(m.queue, r)
	m.queueBytes += int64(r.Bytes)
	m.mu.Unlock()
	m.opts.Wake()
	return nil
}

func (m *Member) stateErr() error {
	if m.err != nil {
		return m.err
	}
	if m.closing {
		return fmt.Errorf("replication: shard %d: %w", m.state.Shard, logcore.ErrClosed)
	}
	return nil
}

// Err returns why no request is taken any more, nil while they are. It may be called from any
// goroutine.
func (m *Member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stateErr()
}

// stored is called by the disk, in order.
func (m *Member) stored(err error) {
	m.mu.Lock()
	m.completions = append(m.completions, err)
	m.mu.Unlock()
	m.opts.Wake()
}

// Step takes a message that came from another member. A message that this member can't
// use is dropped with an error, which changes nothing.
func (m *Member) Step(msg *raftpb.Message) error {
	if m.failed {
		return m.Err()
	}
	if msg.GetTo() != m.state.Member || raft.IsLocalMsg(msg.GetType()) || msg.GetType() == raftpb.MsgProp {
		return fmt.Errorf("%w: replication: %v for member %d at member %d", logcore.ErrInvalid, msg.GetType(), msg.GetTo(), m.state.Member)
	}
	var err error
	m.guarded(func() { err = m.take(msg) })
	if errors.Is(err, raft.ErrStepPeerNotFound) {
		return fmt.Errorf("%w: replication: %v from member %d, which this group does not have", logcore.ErrInvalid, msg.GetType(), msg.GetFrom())
	}
	return err
}

// take is Step without the guard.
func (m *Member) take(msg *raftpb.Message) error {
	msg, done := m.hushed(msg)
	if done {
		return nil
	}
	m.rouse()
	switch msg.GetType() {
	case raftpb.MsgHeartbeat:
		// A leader never tells more than it knows this member to hold.
		if msg.GetTerm() >= m.state.Term && logcore.LSN(msg.GetCommit()) > m.storage.last && m.feeding == nil {
			return m.stale(msg)
		}
	case raftpb.MsgSnap:
		if m.feeding != nil || msg.GetTerm() < m.state.Term {
			return nil
		}
		if msg.GetSnapshot().GetMetadata().GetIndex() > uint64(m.Committed()) {
			m.opts.OnSnapshot(msg)
			return nil
		}
		// This member holds all of it already, fed by somebody who gave up before saying so: Raft
		// restores nothing then, and tells the leader.
	case raftpb.MsgApp:
		if m.feeding != nil {
			return nil
		}
	case raftpb.MsgHeartbeatResp:
		if msg.GetTerm() == m.state.Term && m.idle(msg) {
			return nil
		}
		m.storage.probing = true
		defer func() { m.storage.probing = false }()
	case raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgTimeoutNow:
		if msg.GetType() != raftpb.MsgTimeoutNow && m.commitByVote(msg, msg.GetRejectHint()) && m.failed {
			return m.Err()
		}
		if m.onProbation() {
			return nil
		}
	case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		if m.commitByVote(msg, msg.GetLogTerm()) {
			return m.failure()
		}
	}
	m.probation.see(msg)
	m.heardAt[msg.GetFrom()] = m.election.ticks
	if msg.GetFrom() == m.leader.Load() && msg.GetTerm() == m.state.Term {
		m.election.heard(m.opts.Rand)
	}
	return m.rn.Step(msg)
}

// stale ends a member that no longer holds what it had acknowledged, for good.
func (m *Member) stale(msg *raftpb.Message) error {
	next := m.state
	next.Stale = true
	if m.saveState(next) {
		m.fail(fmt.Errorf("%w: the leader, member %x, had its acknowledgement of LSN %d, but the log ends at %d: remove the member and add it anew with an empty directory",
			ErrStaleMember, msg.GetFrom(), msg.GetCommit(), m.storage.last))
	}
	return m.Err()
}
