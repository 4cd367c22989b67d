package catalog

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/logcore/logcore"
)

// How much of a log's history its pages are kept for. A page server collects what nobody
// can read any more, and what can be read is said here, in the order of the log: a page server
// that acts on the catalog as it was can never take away what a lease, a hold or a branch
// of the catalog as it is needs, because none is granted below a horizon.
//
// A log can be read at every LSN from its horizon on and at its pins: the LSNs of leases, and
// those where branches fork off. A hold keeps the horizon below it.

// Lease keeps one LSN of a log readable until it runs out. It does so for as long as the
// catalog lists it, whatever the time is: it is taken off the list by a later entry.
type Lease struct {
	ID      uint64 // random, not 0
	Log     logcore.LogID
	LSN     logcore.LSN
	Expires logcore.HLC
	Holder  string // for people
}

// Hold keeps the history of a log from an LSN on until it is lifted.
type Hold struct {
	Log  logcore.LogID
	LSN  logcore.LSN
	Name string
}

// Limits of what is kept of histories.
const (
	// LeaseTTLMin and LeaseTTLMax bound how long a lease lasts unless it is renewed, in milliseconds.
	LeaseTTLMin, LeaseTTLMax = 1_000, 3_600_000
	// LeasesMax is the most leases of a shard, HoldsMax the most holds.
	LeasesMax, HoldsMax = 8192, 1024
	// HoldNameMax is the longest name of a hold, LeaseHolderMax that of who holds a lease, in bytes.
	HoldNameMax, LeaseHolderMax = 64, 64
	// RetentionMsMax is the longest window, in milliseconds: a hundred years.
	RetentionMsMax = 100 * 366 * 86_400_000
)

// histories is what the catalog keeps of all logs' histories.
type histories struct {
	// epochFloor is the highest epoch that a deleted log had. New logs begin above it, so
	// that no writer of a deleted log is taken for one of a log that has its name now.
	epochFloor logcore.Epoch
	leases     map[uint64]Lease
	holds      map[holdKey]logcore.LSN
	children   map[logcore.LogID]int // branches that exist, by parent; derived
	// nextExpiry is at most the earliest expiry of a lease; derived.
	nextExpiry logcore.HLC
}

type holdKey struct {
	log  logcore.LogID
	name string
}

func newHistories() histories {
	return histories{leases: map[uint64]Lease{}, holds: map[holdKey]logcore.LSN{}, children: map[logcore.LogID]int{}, nextExpiry: maxHLC}
}

const maxHLC = ^logcore.HLC(0)

func (h histories) clone() histories {
	h.leases, h.holds, h.children = maps.Clone(h.leases), maps.Clone(h.holds), maps.Clone(h.children)
	return h
}

// EpochFloor returns the highest epoch that a deleted log had: a log that gets the name of one begins above it.
func (s *State) EpochFloor() logcore.Epoch { return s.histories.epochFloor }

// Leases returns every lease, by log, LSN and id.
func (s *State) Leases() []Lease {
	return slices.SortedFunc(maps.Values(s.histories.leases), func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.LSN, b.LSN), cmp.Compare(a.ID, b.ID))
	})
}

// Lease returns a lease by its id.
func (s *State) Lease(id uint64) (Lease, bool) {
	l, ok := s.histories.leases[id]
	return l, ok
}

// Holds returns every hold, by log and name.
func (s *State) Holds() []Hold {
	out := make([]Hold, 0, len(s.histories.holds))
	for k, lsn := range s.histories.holds {
		out = append(out, Hold{k.log, lsn, k.name})
	}
	slices.SortFunc(out, func(a, b Hold) int { return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Name, b.Name)) })
	return out
}

// owner returns the log whose history a reader of l at an LSN reads: l, or the ancestor that
// it had not forked off yet.
func (s *State) owner(l *Log, at logcore.LSN) *Log {
	for l.Parent != 0 && at <= l.BranchLSN {
		l = s.logs[l.Parent]
	}
	return l
}

// CheckReadable says whether a log can be read at an LSN: logcore.ErrTrimmed when that is
// below its horizon and nothing keeps it. An LSN ahead of the log is none of its business.
func (s *State) CheckReadable(l *Log, at logcore.LSN) error {
	owner := s.owner(l, at)
	if at >= owner.Horizon || s.pinned(owner, at) {
		return nil
	}
	return fmt.Errorf("%w: the history of log %q is kept from LSN %d on, not at %d", logcore.ErrTrimmed, owner.Name, owner.Horizon, at)
}

// pinned reports whether a lease or a branch keeps one LSN of a log itself.
func (s *State) pinned(owner *Log, at logcore.LSN) bool {
	for _, lease := range s.histories.leases {
		if lease.LSN == at && s.owner(s.logs[lease.Log], at) == owner {
			return true
		}
	}
	for _, l := range s.logs {
		if l.Parent != 0 && l.BranchLSN == at && s.owner(s.logs[l.Parent], at) == owner {
			return true
		}
	}
	return false
}

// holdFloor returns the lowest LSN that holds keep of the log itself, and which hold does.
func (s *State) holdFloor(log *Log) (floor logcore.LSN, by holdKey) {
	floor = ^logcore.LSN(0)
	for k, at := range s.histories.holds {
		l := s.logs[k.log]
		for ; l != log && l.Parent != 0 && at <= l.BranchLSN; l = s.logs[l.Parent] {
		}
		if l != log {
			continue
		}
		if log.Parent != 0 && at <= log.BranchLSN {
			at = log.BranchLSN // of the branch itself it keeps everything
		}
		if at < floor || at == floor && k.name < by.name {
			floor, by = at, k
		}
	}
	return floor, by
}

// HorizonMax is how far the holds let a log's horizon come.
func (s *State) HorizonMax(l *Log) logcore.LSN {
	floor, _ := s.holdFloor(l)
	return floor
}

// LeaseRanOut reports whether an entry with a time would take a lease off the list.
func (s *State) LeaseRanOut(now logcore.HLC) bool {
	if now <= s.histories.nextExpiry {
		return false
	}
	for _, l := range s.histories.leases {
		if l.Expires < now {
			return true
		}
	}
	return false
}

// Blockers says what keeps a log from being deleted or reset, in words, at most a few
// of each; nothing when it may go.
func (s *State) Blockers(l *Log) []string {
	const few = 5
	var out []string
	add := func(what string) {
		if len(out) < few {
			out = append(out, what)
		}
	}
	if n := s.histories.children[l.ID]; n > 0 {
		var names []string
		for _, c := range s.Logs() {
			if c.Parent == l.ID && len(names) < few {
				names = append(names, c.Name)
			}
		}
		add(fmt.Sprintf("%d branches of it (%s)", n, strings.Join(names, ", ")))
	}
	for _, lease := range s.Leases() {
		if lease.Log == l.ID {
			add(fmt.Sprintf("the lease %016x of %q on LSN %d", lease.ID, lease.Holder, lease.LSN))
		}
	}
	for _, h := range s.Holds() {
		if h.Log == l.ID {
			add(fmt.Sprintf("the hold %q from LSN %d on", h.Name, h.LSN))
		}
	}
	return out
}

// checkHistory is Check for the commands about histories.
func (s *State) checkHistory(c Command, lsn logcore.LSN) error {
	l, err := s.ByID(c.Log)
	if err != nil {
		return err
	}
	if err := l.present(); err != nil {
		return err
	}
	switch c.Op {
	case OpDelete:
		return s.checkGone(l, "deleted")
	case OpReset:
		if err := s.checkGone(l, "reset"); err != nil {
			return err
		}
		return s.checkFork(s.logs[l.Parent], c.LSN, lsn)
	case OpRetention:
		if c.WindowMs > RetentionMsMax {
			return fmt.Errorf("%w: a window of %d ms, at most %d", logcore.ErrInvalid, c.WindowMs, uint64(RetentionMsMax))
		}
	case OpHorizon:
		return s.checkHorizon(l, c.LSN, lsn)
	case OpLease:
		return s.checkLease(l, c, lsn)
	case OpHold:
		return s.checkHold(l, c, lsn)
	}
	return nil
}

// checkGone says whether a branch may be deleted.
func (s *State) checkGone(l *Log, done string) error {
	if l.Parent == 0 {
		return fmt.Errorf("%w: log %q is no branch: only branches are %s", logcore.ErrInvalid, l.Name, done)
	}
	if by := s.Blockers(l); len(by) > 0 {
		return fmt.Errorf("%w: branch %q can't be %s while there are %s", logcore.ErrInvalid, l.Name, done, strings.Join(by, "; "))
	}
	return nil
}

// CheckFork says whether a log of this shard can be branched at an LSN, as far as the state knows.
func (s *State) CheckFork(parent *Log, at logcore.LSN) error { return s.checkFork(parent, at, s.LSN+1) }

// checkFork says whether a log can be branched at an LSN.
func (s *State) checkFork(parent *Log, at, index logcore.LSN) error {
	if err := parent.present(); err != nil {
		return err
	}
	switch lsn := index + parent.Base; {
	case at == 0:
		return fmt.Errorf("%w: a branch of %q needs the LSN to fork at", logcore.ErrInvalid, parent.Name)
	case at >= lsn:
		return &logcore.LagError{Asked: at, Available: lsn - 1}
	case at+1 < parent.FirstLSN():
		return fmt.Errorf("%w: log %q begins at LSN %d, it can't be branched at %d", logcore.ErrTrimmed, parent.Name, parent.FirstLSN(), at)
	}
	return s.CheckReadable(parent, at)
}

func (s *State) checkHorizon(l *Log, at, index logcore.LSN) error {
	lsn := index + l.Base
	if at >= lsn {
		return &logcore.LagError{Asked: at, Available: lsn - 1}
	}
	if at < l.Horizon {
		return fmt.Errorf("%w: the horizon of log %q is at LSN %d, it does not go back to %d", logcore.ErrInvalid, l.Name, l.Horizon, at)
	}
	if floor, by := s.holdFloor(l); at > floor {
		return fmt.Errorf("%w: the hold %q of log %q keeps its history from LSN %d on, the horizon can't be %d", logcore.ErrInvalid, by.name, s.logs[by.log].Name, floor, at)
	}
	return nil
}

func (s *State) checkLease(l *Log, c Command, index logcore.LSN) error {
	lsn := index + l.Base
	was, renewed := s.histories.leases[c.Lease]
	switch {
	case c.Lease == 0:
		return fmt.Errorf("%w: lease 0", logcore.ErrInvalid)
	case renewed && (was.Log != c.Log || was.LSN != c.LSN):
		return fmt.Errorf("%w: lease %016x is on LSN %d of log %d, not on %d of %d", logcore.ErrInvalid, c.Lease, was.LSN, was.Log, c.LSN, c.Log)
	case c.TTLMs == 0 && !renewed:
		return fmt.Errorf("%w: there is no lease %016x: it ran out or was given back", logcore.ErrInvalid, c.Lease)
	case c.TTLMs == 0:
		return nil
	case c.TTLMs < LeaseTTLMin || c.TTLMs > LeaseTTLMax || len(c.Writer) > LeaseHolderMax:
		return fmt.Errorf("%w: a lease of %d ms for a holder of %d bytes: want %d to %d ms, at most %d bytes", logcore.ErrInvalid, c.TTLMs, len(c.Writer), LeaseTTLMin, LeaseTTLMax, LeaseHolderMax)
	case renewed:
		return nil
	case len(s.histories.leases) >= LeasesMax:
		return fmt.Errorf("%w: the shard has %d leases, the most it can", logcore.ErrTooLarge, LeasesMax)
	case c.LSN == 0:
		return fmt.Errorf("%w: a lease on LSN 0 of log %q", logcore.ErrInvalid, l.Name)
	case c.LSN >= lsn:
		return &logcore.LagError{Asked: c.LSN, Available: lsn - 1}
	}
	return s.CheckReadable(l, c.LSN)
}

func (s *State) checkHold(l *Log, c Command, index logcore.LSN) error {
	lsn := index + l.Base
	key := holdKey{c.Log, c.Name}
	was, replaced := s.histories.holds[key]
	switch {
	case len(c.Name) == 0 || len(c.Name) > HoldNameMax:
		return fmt.Errorf("%w: a hold's name has 1 to %d bytes, not %d", logcore.ErrInvalid, HoldNameMax, len(c.Name))
	case c.LSN == 0 && !replaced:
		return fmt.Errorf("%w: log %q has no hold %q", logcore.ErrInvalid, l.Name, c.Name)
	case c.LSN == 0:
		return nil
	case c.LSN >= lsn:
		return &logcore.LagError{Asked: c.LSN, Available: lsn - 1}
	case !replaced && len(s.histories.holds) >= HoldsMax:
		return fmt.Errorf("%w: the shard has %d holds, the most it can", logcore.ErrTooLarge, HoldsMax)
	case replaced && c.LSN >= was:
		return nil
	}
	if owner := s.owner(l, c.LSN); c.LSN < owner.Horizon {
		return fmt.Errorf("%w: the history of log %q is kept from LSN %d on, it can't be held from %d", logcore.ErrTrimmed, owner.Name, owner.Horizon, c.LSN)
	}
	return nil
}

// applyHistory carries out a command about histories that Check accepted.
func (s *State) applyHistory(c Command, e logcore.Entry) {
	h, l := &s.histories, s.logs[c.Log]
	switch c.Op {
	case OpDelete:
		s.remove(l)
	case OpReset:
		s.remove(l)
		s.create(Command{Log: s.nextLog, Name: l.Name, Parent: l.Parent, LSN: c.LSN, Durability: l.Durability}, e.LSN)
		fresh := s.logs[s.names[l.Name]]
		fresh.WindowMs, fresh.WindowBytes = l.WindowMs, l.WindowBytes
	case OpRetention:
		l.WindowMs, l.WindowBytes = c.WindowMs, c.WindowBytes
	case OpHorizon:
		l.Horizon = c.LSN
	case OpLease:
		if c.TTLMs == 0 {
			delete(h.leases, c.Lease)
			break
		}
		expires := e.Time + logcore.HLC(c.TTLMs)<<hlcMillisecondShift
		h.leases[c.Lease] = Lease{c.Lease, c.Log, c.LSN, expires, c.Writer}
		h.nextExpiry = min(h.nextExpiry, expires)
	case OpHold:
		if c.LSN == 0 {
			delete(h.holds, holdKey{c.Log, c.Name})
			break
		}
		h.holds[holdKey{c.Log, c.Name}] = c.LSN
	}
}

// hlcMillisecondShift: a hybrid logical clock counts milliseconds above its counter.
const hlcMillisecondShift = 16

// remove takes a log out of the catalog.
func (s *State) remove(l *Log) {
	s.histories.epochFloor = max(s.histories.epochFloor, l.Epoch)
	s.histories.leave(l)
	s.reserved -= l.reserve()
	delete(s.logs, l.ID)
	delete(s.names, l.Name)
}

func (h *histories) leave(l *Log) {
	if h.children[l.Parent]--; h.children[l.Parent] <= 0 {
		delete(h.children, l.Parent)
	}
}

// expire takes the leases off the list that ran out before a time.
func (h *histories) expire(now logcore.HLC) {
	if now <= h.nextExpiry {
		return
	}
	h.nextExpiry = maxHLC
	for id, l := range h.leases {
		if l.Expires < now {
			delete(h.leases, id)
		} else {
			h.nextExpiry = min(h.nextExpiry, l.Expires)
		}
	}
}

// empty reports whether there is nothing to write into a checkpoint beside the logs.
func (s *State) historyEmpty() bool {
	if s.histories.epochFloor != 0 || len(s.histories.leases) > 0 || len(s.histories.holds) > 0 {
		return false
	}
	for _, l := range s.logs {
		if l.hasHistory() {
			return false
		}
	}
	return true
}

func (l *Log) hasHistory() bool { return l.Horizon != 0 || l.WindowMs != 0 || l.WindowBytes != 0 }

// appendHistory writes the histories behind the logs of a checkpoint.
func (s *State) appendHistory(b []byte) []byte {
	var logs []*Log
	for _, l := range s.Logs() {
		if l.hasHistory() {
			logs = append(logs, l)
		}
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(s.histories.epochFloor))
	for _, n := range []int{len(logs), len(s.histories.leases), len(s.histories.holds)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	for _, l := range logs {
		for _, v := range []uint64{uint64(l.ID), uint64(l.Horizon), l.WindowMs, l.WindowBytes} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	for _, l := range s.Leases() {
		for _, v := range []uint64{uint64(l.Log), uint64(l.LSN), l.ID, uint64(l.Expires)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(l.Holder))), l.Holder...)
	}
	for _, h := range s.Holds() {
		b = binary.LittleEndian.AppendUint64(b, uint64(h.Log))
		b = binary.LittleEndian.AppendUint64(b, uint64(h.LSN))
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(h.Name))), h.Name...)
	}
	return b
}

func (s *State) decodeHistory(src *source) error {
	s.histories.epochFloor = logcore.Epoch(src.u64())
	logs, leases, holds := int(src.u32()), int(src.u32()), int(src.u32())
	if src.bad || logs > len(s.logs) || leases > LeasesMax || holds > HoldsMax {
		return corrupt("checkpoint: histories of %d logs, %d leases, %d holds", logs, leases, holds)
	}
	var prev logcore.LogID
	for range logs {
		l := s.logs[logcore.LogID(src.u64())]
		if src.bad || l == nil || l.ID <= prev {
			return corrupt("checkpoint: the history of a log after log %d that is not there", prev)
		}
		l.Horizon, l.WindowMs, l.WindowBytes = logcore.LSN(src.u64()), src.u64(), src.u64()
		if src.bad || !l.hasHistory() || l.WindowMs > RetentionMsMax {
			return corrupt("checkpoint: log %d with horizon %d, window %d ms", l.ID, l.Horizon, l.WindowMs)
		}
		prev = l.ID
	}
	for range leases {
		l := Lease{Log: logcore.LogID(src.u64()), LSN: logcore.LSN(src.u64()), ID: src.u64(), Expires: logcore.HLC(src.u64())}
		n := int(src.u16())
		l.Holder = string(src.bytes(min(n, LeaseHolderMax+1)))
		_, twice := s.histories.leases[l.ID]
		if src.bad || n > LeaseHolderMax || s.logs[l.Log] == nil || l.ID == 0 || l.LSN == 0 || twice {
			return corrupt("checkpoint: lease %016x on log %d: cut short, doubled or of no log", l.ID, l.Log)
		}
		s.histories.leases[l.ID] = l
		s.histories.nextExpiry = min(s.histories.nextExpiry, l.Expires)
	}
	for range holds {
		k := holdKey{log: logcore.LogID(src.u64())}
		at, n := logcore.LSN(src.u64()), int(src.u16())
		k.name = string(src.bytes(min(n, HoldNameMax+1)))
		_, twice := s.histories.holds[k]
		if src.bad || n == 0 || n > HoldNameMax || s.logs[k.log] == nil || at == 0 || twice {
			return corrupt("checkpoint: hold %q on log %d: cut short, doubled or of no log", k.name, k.log)
		}
		s.histories.holds[k] = at
	}
	if s.historyEmpty() {
		return corrupt("checkpoint: histories with nothing in them")
	}
	return nil
}
