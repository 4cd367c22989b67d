package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// hedge says when a read that any member may answer is asked of a second one too: when the
// first has taken longer than 95 of 100 reads do, and, so that a service that is slow as a whole
// isn't asked twice as much, for one read in hedgeOneIn at most.
type hedge struct {
	mu     sync.Mutex
	p95    time.Duration // of the time to the first answer, about; guarded by mu
	budget float64       // hedges that may be made; guarded by mu
}

const (
	hedgeOneIn     = 10
	hedgeBudgetMax = 10
	hedgeFirst     = 20 * time.Millisecond // before anything is known
	hedgeMin       = time.Millisecond
	hedgeMax       = time.Second
	hedgeAgain     = 10 // times that a member which fails is asked again while the other is silent
)

// after returns how long to wait for the first member.
func (h *hedge) after() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.p95 == 0 {
		h.p95, h.budget = hedgeFirst, 1
	}
	return h.p95
}

// spend takes a hedge out of the budget, false when it is used up.
func (h *hedge) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.budget < 1 {
		return false
	}
	h.budget--
	return true
}

// took notes how long a first answer took: the estimate moves up by 19 small steps for one that
// was above it, down by one for one that was below, so it rests where 19 of 20 are below.
func (h *hedge) took(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	step := h.p95 / 200
	if d > h.p95 {
		h.p95 += 19 * step
	} else {
		h.p95 -= step
	}
	h.p95 = min(max(h.p95, hedgeMin), hedgeMax)
	h.budget = min(h.budget+1.0/hedgeOneIn, hedgeBudgetMax)
}

type readStream = grpc.ServerStreamingClient[logcorev1.ReadResponse]

// begun is a read whose first answer has come: a message, the end, or an error.
type begun struct {
	m      *member
	st     readStream
	first  *logcorev1.ReadResponse // nil: the stream has ended, or err
	err    error
	cancel context.CancelFunc
}

// begin begins the read at a member, and, where any may answer, at a second one that is
// asked when the first is slow or fails. It returns the one that answered first. Its cancel must be called.
func (r *reader) begin(ctx context.Context, m *member) begun {
	answers := make(chan begun, 2)
	pending := map[*member]context.CancelFunc{}
	ask := func(m *member) {
		ctx, cancel := context.WithCancel(ctx)
		pending[m] = cancel
		go func() { answers <- r.ask(ctx, m, cancel) }() // awaited below
	}
	started := time.Now()
	ask(m)
	var slow <-chan time.Time
	second, free := r.second(m), 0
	if second != nil {
		timer := time.NewTimer(r.c.hedge.after())
		defer timer.Stop()
		slow = timer.C
	}
	for {
		select {
		case b := <-answers:
			delete(pending, b.m)
			if b.err != nil && second != nil {
				ask(second) // not a hedge: the first is out of it
				second = nil
			}
			if b.err != nil && len(pending) > 0 {
				b.cancel()
				if free++; free <= hedgeAgain { // the other may do better, or this one soon: a connection may just be made
					second, slow = b.m, time.After(hedgeFirst)
				}
				continue
			}
			for _, cancel := range pending {
				cancel()
				<-answers
			}
			if b.err == nil && r.opts.MaxStaleness > 0 {
				r.c.hedge.took(time.Since(started))
			}
			return b
		case <-slow:
			slow = nil
			if second != nil && (free > 0 || r.c.hedge.spend()) {
				ask(second)
				second = nil
			}
		}
	}
}

// second is the member that may be asked besides m; nil: none.
func (r *reader) second(m *member) *member {
	if r.opts.MaxStaleness <= 0 || r.opts.Follow {
		return nil
	}
	return r.c.router.other(m)
}

// ask opens the read at one member and waits for the first answer.
func (r *reader) ask(ctx context.Context, m *member, cancel context.CancelFunc) begun {
	b := begun{m: m, cancel: cancel}
	staleness := uint32(min(max(r.opts.MaxStaleness.Milliseconds(), 0), 1<<31))
	if r.opts.MaxStaleness > 0 && staleness == 0 {
		staleness = 1
	}
	b.st, b.err = m.logs.Read(ctx, &logcorev1.ReadRequest{Log: r.log, FromLsn: uint64(r.opts.From),
		ToLsn: uint64(r.opts.To), Follow: r.opts.Follow, Limit: r.opts.Limit, MaxStalenessMs: staleness,
		GatherMs: uint32((min(max(r.opts.Gather, 0), time.Second) + time.Millisecond - 1) / time.Millisecond)})
	if b.err == nil {
		b.first, b.err = b.st.Recv()
	}
	if errors.Is(b.err, io.EOF) {
		b.first, b.err = nil, nil
	}
	if b.err != nil {
		b.err = remote(b.err, m.addr)
	}
	return b
}
