//go:build postgres

package conformance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore/engine/postgres/receiver"
)

// slowLog is a log in memory that takes its time.
type slowLog struct {
	mu       sync.Mutex
	payloads [][]byte
	underWay atomic.Int64
	last     chan struct{} // closed once the last submitted append is durable
	running  sync.WaitGroup
}

type slowAppend struct{ done chan struct{} }

func (a slowAppend) Done() <-chan struct{} { return a.done }
func (a slowAppend) Err() error            { return nil }

func (l *slowLog) Tail(context.Context) ([]byte, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.payloads) == 0 {
		return nil, false, nil
	}
	return l.payloads[len(l.payloads)-1], true, nil
}

func (l *slowLog) PartBytesMax() int { return 1 << 20 }

func (l *slowLog) Submit(_ context.Context, parts [][]byte, _ []byte) receiver.Pending {
	a := slowAppend{make(chan struct{})}
	before := l.last
	l.last = a.done
	l.underWay.Add(1)
	l.running.Go(func() {
		time.Sleep(50 * time.Millisecond)
		if before != nil {
			<-before
		}
		l.mu.Lock()
		l.payloads = append(l.payloads, parts...)
		l.mu.Unlock()
		l.underWay.Add(-1)
		close(a.done)
	})
	return a
}

// When the connection breaks, Run ends only once every append has an outcome: the log's end, where the next
// one goes on, would otherwise move on behind its back.
func TestABrokenConnectionLeavesNothingUnderWay(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	log := &slowLog{}
	defer log.running.Wait()
	r, err := receiver.New(receiver.Options{ConnString: s.connString()}, log)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	c := connect(t, s.connString())
	go func() { ended <- r.Run(t.Context()) }()
	for deadline := time.Now().Add(time.Minute); len(query(t, c, "select 1 from pg_stat_replication where state = 'streaming' and application_name = 'logcore'")) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("does not stream")
		}
	}
	query(t, c, "create table t as select generate_series(1, 100000)")
	for log.underWay.Load() < 3 {
		query(t, c, "insert into t select generate_series(1, 1000)")
	}
	query(t, c, "select pg_terminate_backend(pid) from pg_stat_replication")
	select {
	case err := <-ended:
		if n := log.underWay.Load(); n > 0 || !errors.Is(err, receiver.ErrConnection) {
			t.Errorf("%d appends are under way; %v", n, err)
		}
	case <-time.After(time.Minute):
		t.Fatal("goes on")
	}
}
