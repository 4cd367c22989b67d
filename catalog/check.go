package catalog

import (
	"fmt"

	"github.com/logcore/logcore"
)

// Check says whether a command would be valid as the entry with the given LSN. The
// errors are those of package logcore.
func (s *State) Check(c Command, lsn logcore.LSN) error {
	switch c.Op {
	case OpCreate:
		return s.checkCreate(c, lsn)
	case OpOpenWriter:
		l, err := s.ByID(c.Log)
		if err != nil {
			return err
		}
		if err := l.present(); err != nil {
			return err
		}
		if c.Epoch != l.Epoch+1 {
			return fmt.Errorf("%w: log %q: epoch %d after %d", logcore.ErrFenced, l.Name, c.Epoch, l.Epoch)
		}
		if len(c.Writer) > WriterNameMax {
			return fmt.Errorf("%w: writer name of %d bytes, at most %d", logcore.ErrInvalid, len(c.Writer), WriterNameMax)
		}
		if err := l.checkFormat(c.PayloadFormat); err != nil {
			return err
		}
		if !l.WriterOpen {
			return s.checkRoom(reserveWindow, "writers")
		}
		return nil
	case OpCloseWriter:
		_, err := s.CheckWriter(c.Log, c.Epoch)
		return err
	case OpTruncate:
		l, err := s.ByID(c.Log)
		if err != nil {
			return err
		}
		if err := l.present(); err != nil {
			return err
		}
		if last := lsn + l.Base; c.LSN > last {
			return &logcore.LagError{Asked: c.LSN, Available: last}
		}
		if c.LSN <= l.FirstLSN() {
			return fmt.Errorf("%w: log %q begins at LSN %d, nothing to truncate before %d", logcore.ErrInvalid, l.Name, l.FirstLSN(), c.LSN)
		}
		return nil
	case OpIncarnation:
		if c.Incarnation == 0 || c.Incarnation == s.Incarnation {
			return fmt.Errorf("%w: incarnation %#x after %#x", logcore.ErrInvalid, c.Incarnation, s.Incarnation)
		}
		return nil
	case OpNode:
		return s.checkNode(c)
	case OpPageServers:
		return s.stripes.Check(c.Stripes)
	case OpDelete, OpReset, OpRetention, OpHorizon, OpLease, OpHold:
		return s.checkHistory(c, lsn)
	case OpShards:
		return s.checkShards(c)
	case OpEnter:
		return s.checkEnter(c)
	case OpMove:
		return s.checkMove(c)
	case OpSettle:
		return s.checkSettle(c)
	case OpDrop:
		return s.checkDrop(c)
	case OpOwn:
		return s.checkOwn(c)
	case OpLeave:
		return s.checkLeave(c)
	case OpPlace:
		return s.checkPlace(c)
	}
	return fmt.Errorf("%w: catalog command %v", logcore.ErrUnsupportedVersion, c.Op)
}

// ValidatePayloadFormat checks the name of a payload format: up to PayloadFormatMax
// bytes of [a-z0-9.-]; empty means that it isn't said. The error wraps logcore.ErrInvalid.
func ValidatePayloadFormat(name string) error {
	ok := len(name) <= PayloadFormatMax
	for i := 0; i < len(name); i++ {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: payload format %q: want up to %d bytes of a-z, 0-9, . and -", logcore.ErrInvalid, name, PayloadFormatMax)
	}
	return nil
}

// checkFormat says whether a writer of such payloads may have the log.
func (l *Log) checkFormat(format string) error {
	if err := ValidatePayloadFormat(format); err != nil {
		return err
	}
	if l.PayloadFormat == "" || format == l.PayloadFormat {
		return nil
	}
	said := fmt.Sprintf("%q", format)
	if format == "" {
		said = "payloads it does not name"
	}
	return fmt.Errorf("%w: log %q holds %q, the writer would append %s: write to another log", logcore.ErrPayloadFormat, l.Name, l.PayloadFormat, said)
}

func (s *State) checkCreate(c Command, lsn logcore.LSN) error {
	if err := logcore.ValidateLogName(c.Name); err != nil {
		return err
	}
	if err := s.nameTaken(c.Name); err != nil {
		return err
	}
	if c.Log != s.nextLog {
		return fmt.Errorf("%w: log id %d, the next is %d", logcore.ErrInvalid, c.Log, s.nextLog)
	}
	if len(s.logs) >= LogsMax {
		return fmt.Errorf("%w: the shard holds %d logs, the most it can", logcore.ErrTooLarge, LogsMax)
	}
	if err := s.checkRoom(reserveLog, "logs"); err != nil {
		return err
	}
	if c.Parent == 0 {
		if c.LSN != 0 {
			return fmt.Errorf("%w: branch LSN %d without a parent", logcore.ErrInvalid, c.LSN)
		}
		return nil
	}
	parent, err := s.ByID(c.Parent)
	if err != nil {
		return err
	}
	if err := s.checkBranch(parent); err != nil {
		return err
	}
	return s.checkFork(parent, c.LSN, lsn)
}

// create carries out OpCreate.
func (s *State) create(c Command, lsn logcore.LSN) {
	l := &Log{ID: c.Log, Name: c.Name, Epoch: max(s.histories.epochFloor, c.Epoch), CreatedLSN: lsn, OriginLSN: lsn + 1, Parent: c.Parent, BranchLSN: c.LSN, Durability: c.Durability}
	if parent := s.logs[c.Parent]; parent != nil {
		l.Base = parent.Base // a family counts alike
		l.CreatedLSN = lsn + l.Base
		l.OriginLSN, l.TruncatedBefore = parent.OriginLSN, parent.TruncatedBefore
		l.LastLSN, l.LastTime = parent.LastLSN, parent.LastTime
		l.PayloadFormat = parent.PayloadFormat
		l.WindowMs, l.WindowBytes = parent.WindowMs, parent.WindowBytes
		if parent.LastLSN > c.LSN {
			// The parent's last entry at the fork is not known here; the fork is.
			l.LastLSN, l.LastTime = c.LSN, 0
		}
		s.histories.children[parent.ID]++
	}
	s.logs[l.ID], s.names[l.Name] = l, l.ID
	s.reserved += l.reserve()
	s.nextLog++
}

// applyCommand carries out a command that Check accepted, as the entry e.
func (s *State) applyCommand(c Command, e logcore.Entry) {
	switch c.Op {
	case OpCreate:
		s.create(c, e.LSN)
	case OpDelete, OpReset, OpRetention, OpHorizon, OpLease, OpHold:
		s.applyHistory(c, e)
	case OpOpenWriter:
		l := s.logs[c.Log]
		s.reserved -= l.reserve()
		l.Epoch, l.Writer, l.WriterOpen = c.Epoch, c.Writer, true
		l.Sequence, l.window = 0, window{}
		if c.PayloadFormat != "" {
			l.PayloadFormat = c.PayloadFormat
		}
		s.reserved += l.reserve()
	case OpCloseWriter:
		l := s.logs[c.Log]
		s.reserved -= l.reserve()
		l.WriterOpen, l.window = false, window{} // nothing of a closed epoch is answered again
		s.reserved += l.reserve()
	case OpTruncate:
		s.logs[c.Log].TruncatedBefore = c.LSN
	case OpNode:
		s.applyNode(c)
	case OpPageServers:
		s.applyStripes(c, e.LSN)
	case OpShards, OpEnter, OpMove, OpSettle, OpDrop:
		s.applyDirectory(c)
	case OpOwn:
		s.nextLog = firstLog(c.Shard)
	case OpLeave:
		s.applyLeave(c, e.LSN)
	case OpPlace:
		s.applyPlace(c, e.LSN)
	case OpIncarnation:
		s.Incarnation = c.Incarnation
		s.stripes.Servers = nil // they have pages of another history; those that come back say so
		clear(s.nodes)          // of the cluster that was; this one begins with one member
		for _, l := range s.logs {
			l.WriterOpen, l.window = false, window{}
		}
		s.reserved = reservePlacement * len(s.dir.byName)
		for _, l := range s.logs {
			s.reserved += l.reserve()
		}
	}
	s.histories.expire(e.Time)
}
