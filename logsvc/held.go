package logsvc

import (
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// heldMax bounds the answers that one stream holds; beyond it nothing more is taken from
// its messages that are done, so the client's windows fill.
const heldMax = 1 << 14

// heldAnswers are the answers of a stream that wait for the archive, in the order of their
// LSNs. Others overtake them: each is one channel's, and a channel's stay in order.
type heldAnswers struct{ queue []heldAnswer }

type heldAnswer struct {
	ch      *channel
	b       []byte      // encoded
	lsn     logcore.LSN // its index: it may go once the archive covers that; 0 = once what is before has gone
	begun   time.Time
	entries int
	bytes   int
}

func (h *heldAnswers) hold(a heldAnswer) {
	a.ch.holding++
	h.queue = append(h.queue, a)
}

func (h *heldAnswers) empty() bool { return len(h.queue) == 0 }
func (h *heldAnswers) full() bool  { return len(h.queue) >= heldMax }

// take returns the answers at the front that the archive covers.
func (h *heldAnswers) take(covered logcore.LSN) (free []heldAnswer) {
	n := 0
	for n < len(h.queue) && h.queue[n].lsn <= covered {
		h.queue[n].ch.holding--
		n++
	}
	free, h.queue = h.queue[:n:n], h.queue[n:]
	return free
}

// last is the highest LSN that is waited for.
func (h *heldAnswers) last() (lsn logcore.LSN) {
	for i := len(h.queue) - 1; i >= 0 && lsn == 0; i-- {
		lsn = h.queue[i].lsn
	}
	return lsn
}

// release sends what was held and is covered by now, and asks for the rest.
func (st *logsStream) release(l *lane) error {
	if l.held.empty() {
		return nil
	}
	free := l.held.take(l.s.archived())
	if !l.held.empty() {
		l.s.coverage.ask(l.held.last())
	}
	for len(free) > 0 {
		var raw wire.Raw
		b := raw.New(answerBytes)
		n := 0
		for ; n < len(free) && (n == 0 || len(b) < answerBytes/2); n++ {
			b = append(b, free[n].b...)
			if free[n].entries > 0 {
				l.s.metrics.acknowledged(free[n].begun, free[n].entries, free[n].bytes)
			}
		}
		free = free[n:]
		raw.Set(b)
		if err := st.server.SendMsg(&raw); err != nil {
			return err
		}
	}
	return nil
}
