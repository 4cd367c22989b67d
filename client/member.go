package client

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const (
	membersMax = 64      // addresses that one client knows
	routesMax  = 1 << 16 // logs whose shard is remembered
)

// member is one process of the service: a connection, made when it is first used.
type member struct {
	addr     string
	conn     *grpc.ClientConn
	logs     logcorev1.LogCoreServiceClient
	admin    logcorev1.AdminServiceClient
	archive  logcorev1.ArchiveServiceClient
	history  logcorev1.HistoryServiceClient
	stripes  logcorev1.StripeServiceClient
	appender *appender
	failed   time.Time // when it could not be reached, or was of no use, last; guarded by the router's mu
}

// router knows the members, in which shard logs are and who led which shard when last heard of. It only ever saves a
// detour: a member that does not lead says so, and where a log is that has moved.
type router struct {
	dial func(addr string) (*member, error)

	mu      sync.Mutex
	members []*member                   // those given first, then those heard of; guarded by mu
	current *member                     // leads shard 0, and what nothing else is known of; guarded by mu
	shards  map[string]logcore.ShardID  // of logs that are not in shard 0; guarded by mu
	leaders map[logcore.ShardID]*member // of the other shards; guarded by mu
}

func newRouter(dial func(addr string) (*member, error)) *router {
	return &router{dial: dial, shards: map[string]logcore.ShardID{}, leaders: map[logcore.ShardID]*member{}}
}

// learn takes in what a refusal says about the shard that a log is in, and whether it is one that sends elsewhere.
func (r *router) learn(log string, err error) (elsewhere bool) {
	shard, ok := wire.ShardHint(err)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case shard == 0:
		delete(r.shards, log)
	case log != "" && len(r.shards) < routesMax:
		r.shards[log] = logcore.ShardID(shard)
	}
	return true
}

// to returns the member to ask about a log.
func (r *router) to(log string) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.toLocked(log)
}

func (r *router) toLocked(log string) *member {
	if m := r.leaders[r.shards[log]]; m != nil {
		return m
	}
	return r.current
}

// all returns every member.
func (r *router) all() []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members)
}

// several reports whether there is more than one member to ask.
func (r *router) several() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.members) > 1
}

// other returns a member to read from besides m, nil when there is none.
func (r *router) other(m *member) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next := r.nextLocked(m); next != m {
		return next
	}
	return nil
}

// nextLocked returns the member behind m in the list that has not failed lately; when all have, the one whose failure is
// oldest; m itself when it is the only one.
func (r *router) nextLocked(m *member) *member {
	at, best := slices.Index(r.members, m), m
	for i := 1; i < len(r.members); i++ {
		other := r.members[(at+i)%len(r.members)]
		switch {
		case time.Since(other.failed) >= hintsIgnored:
			return other
		case best == m || other.failed.Before(best.failed):
			best = other
		}
	}
	return best
}

// leads notes that a member leads everything, as far as is known.
func (r *router) leads(m *member) {
	r.mu.Lock()
	r.current = m
	r.mu.Unlock()
}

// hintsIgnored is how long nobody is sent to a member that just failed: the others need a
// moment to notice that it leads no more.
const hintsIgnored = 1500 * time.Millisecond

// fails notes that a member is of no use at present.
func (r *router) fails(m *member) {
	r.mu.Lock()
	m.failed = time.Now()
	r.mu.Unlock()
}

// moved is told that from does not lead a log, with the address of who does as a hint if
// that is known. It returns whom to ask next: where the
// hint points, else the next in the list. When somebody else has found a way already, it is that;
// and from itself, if it points at a member that has just failed: it will know better soon.
func (r *router) moved(log string, from *member, hint string) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.toLocked(log); at != from {
		return at
	}
	next := r.nextLocked(from)
	if hint != "" {
		if m := r.knownLocked(hint); m != nil {
			next = m
		}
		if time.Since(next.failed) < hintsIgnored {
			return from
		}
	}
	if shard := r.shards[log]; shard != 0 {
		r.leaders[shard] = next
	} else {
		r.current = next // for all logs of the shard
	}
	return next
}

// knownLocked returns the member at an address, which may be a new one; nil when it can't
// be had.
func (r *router) knownLocked(addr string) *member {
	for _, m := range r.members {
		if m.addr == addr {
			return m
		}
	}
	if len(r.members) >= membersMax {
		return nil
	}
	m, err := r.dial(addr)
	if err != nil {
		return nil // no address at all
	}
	r.members = append(r.members, m)
	return m
}
