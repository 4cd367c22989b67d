package client

import (
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// How a writer and the session of an appender meet. Who holds a writer's mu may take a
// session's or an appender's, never the other way round.

// scheduleAndUnlock has the appender ask for what there is to send, and unlocks mu.
func (w *Writer) scheduleAndUnlock() {
	due := !w.scheduled && !w.held && w.err == nil
	w.scheduled = w.scheduled || due
	at := w.at
	w.mu.Unlock()
	if due {
		at.appender.schedule(w)
	}
}

// leaveLocked gives the channel up.
func (w *Writer) leaveLocked() {
	if w.session != nil {
		w.session.unacked.Add(-int64(w.sent))
		w.session.leave(w.channel)
		w.session, w.sent = nil, 0
	}
}

// take appends what there is to send to a message of s, which is made at the time now.
func (w *Writer) take(s *session, b []byte, now time.Time) []byte {
	w.mu.Lock()
	if !w.scheduled || w.at != s.a.m {
		w.mu.Unlock()
		return b // it went elsewhere
	}
	w.scheduled = false
	opening := w.session != s
	if w.err != nil || w.held || opening && len(w.queue) == 0 && !w.renewDue {
		w.mu.Unlock()
		return b
	}
	a := wire.LogAppend{}
	if opening {
		w.session, w.channel, w.sent = s, s.open(w), 0
		a.Log, a.Epoch, a.Incarnation = w.log, uint64(w.epoch), w.incarnation
	}
	a.Channel = w.channel
	from, size := w.sent, 0
	if from == 0 {
		w.progress = now // nobody waits for what was sent before
	}
	for ; w.sent < len(w.queue); w.sent++ {
		p := w.queue[w.sent]
		if n := p.entry.Size(); w.sent > from && size+n > messageBytesMax {
			break
		} else {
			size += n
		}
		p.attempts++
	}
	if size > 0 || w.renewDue {
		b = wire.BeginAppend(b, &a, size)
		for _, p := range w.queue[from:w.sent] {
			b = wire.AppendEntry(b, &p.entry)
		}
		w.renewDue = false
		s.unacked.Add(int64(w.sent - from))
	}
	if w.sent < len(w.queue) {
		w.scheduleAndUnlock() // the rest goes with the next message
		return b
	}
	w.mu.Unlock()
	return b
}

// acknowledge resolves the futures of the entries that an answer covers.
func (w *Writer) acknowledge(s *session, a *wire.LogAppended, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != s || w.err != nil {
		return nil
	}
	n := len(a.LSNs)
	if n == 0 || n > w.sent || w.queue[n-1].entry.Sequence != a.Through {
		return fmt.Errorf("log %q: acknowledgement of %d entries through sequence %d does not fit what was sent", w.log, n, a.Through)
	}
	for i, p := range w.queue[:n] {
		w.bytes -= p.bytes
		if p.last {
			p.future.appended = Appended{LSN: logcore.LSN(a.LSNs[i]), Time: logcore.HLC(a.Times[i])}
			s.settled = append(s.settled, &p.future)
		}
	}
	s.unacked.Add(-int64(n))
	w.lastLSN = max(w.lastLSN, logcore.LSN(a.LSNs[n-1]))
	w.pause = time.Duration(a.PauseMs) * time.Millisecond
	// The rest moves to the front, so that the list is not allocated again and again.
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	w.sent -= n
	w.progress, w.acked = now, true
	w.roomLocked()
	return nil
}

// broke is told that its channel of s is over.
func (w *Writer) broke(s *session, err error) {
	w.mu.Lock()
	if w.session == s && w.err == nil {
		s.unacked.Add(-int64(w.sent))
		w.session, w.sent = nil, 0
		w.faultLocked(err)
	}
	w.mu.Unlock()
	w.wake()
}

// unserved is told that m could not be reached at all.
func (w *Writer) unserved(m *member, err error) {
	w.mu.Lock()
	if w.at == m && w.scheduled {
		w.scheduled = false
		if w.session == nil && w.err == nil && !w.held {
			w.faultLocked(err)
		}
	}
	w.mu.Unlock()
	w.wake()
}

func (w *Writer) faultLocked(err error) { w.held, w.fault = true, err }

// waiting returns how long the writer has waited for an acknowledgement on s.
func (w *Writer) waiting(s *session) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != s || w.sent == 0 || w.err != nil {
		return 0
	}
	return time.Since(w.progress)
}
