package node

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// paced is the receiving end of a fetch, with the time that passes only when it is waited for, or as each message takes it.
type paced struct {
	grpc.ServerStreamingServer[logcorev1.FetchResponse]
	ctx   context.Context
	time  time.Time
	takes time.Duration // each message
	at    []time.Time   // when each was sent
	bytes []int64
}

func (p *paced) Context() context.Context { return p.ctx }

func (p *paced) Send(r *logcorev1.FetchResponse) error {
	p.at, p.bytes = append(p.at, p.time), append(p.bytes, int64(len(r.Frames)))
	p.time = p.time.Add(p.takes)
	return nil
}

func (p *paced) now() time.Time { return p.time }

func (p *paced) after(d time.Duration) <-chan time.Time {
	p.time = p.time.Add(d)
	passed := make(chan time.Time, 1)
	passed <- p.time
	return passed
}

// TestFetchRate: a node that catches up is sent no more than FetchBytesPerSecond, and no less where the way to it is faster: no message
// before those before it have taken their time. A way that is slower is not slowed down further.
func TestFetchRate(t *testing.T) {
	p := newProcess(t)
	p.log.SegmentBytes, p.log.CacheBytes = 6<<20, 16<<20
	p.start()
	for range 12 {
		appendOne(t, make([]byte, 900<<10), p)
	}
	const rate = 300 << 10
	p.Node.opts.FetchBytesPerSecond = rate // nobody fetches yet
	begun := time.Unix(1_700_000_000, 0)
	fetch := func(takes time.Duration) *paced {
		t.Helper()
		got := &paced{ctx: within(t), time: begun, takes: takes}
		p.Node.now, p.Node.after = got.now, got.after
		if err := p.members[0].fetch(got, 1, p.Group().Committed()); err != nil {
			t.Fatal(err)
		}
		if len(got.at) < 6 {
			t.Fatalf("void: %d messages", len(got.at))
		}
		return got
	}
	due := func(bytes int64) time.Duration { return time.Duration(float64(bytes) / rate * float64(time.Second)) }
	fast, sum := fetch(0), int64(0)
	for i, at := range fast.at {
		if want := due(sum); at.Sub(begun) != want {
			t.Errorf("message %d is sent %v after the first, want %v for the %d bytes before it", i, at.Sub(begun), want, sum)
		}
		sum += fast.bytes[i]
	}
	if sum < 12*900<<10 {
		t.Errorf("%d bytes were sent", sum)
	}
	const takes = time.Minute
	for i, at := range fetch(takes).at {
		if at.Sub(begun) != time.Duration(i)*takes {
			t.Errorf("message %d on a slow way is sent %v after the first", i, at.Sub(begun))
		}
	}

	// Whoever gives up while it waits is let go.
	ctx, cancel := context.WithCancel(within(t))
	gone := &paced{ctx: ctx, time: begun}
	p.Node.now = gone.now
	p.Node.after = func(time.Duration) <-chan time.Time { cancel(); return nil }
	if err := p.members[0].fetch(gone, 1, p.Group().Committed()); err != context.Canceled || len(gone.at) != 1 {
		t.Errorf("given up: %v after %d messages", err, len(gone.at))
	}
}

// TestFetchRateDefault: without a rate it is bounded all the same.
func TestFetchRateDefault(t *testing.T) {
	p := newProcess(t)
	p.start()
	appendOne(t, make([]byte, 1<<10), p)
	begun := time.Unix(1_700_000_000, 0)
	p.Node.now = func() time.Time { return begun }
	if wait := p.newPace().sent(256 << 20); wait != 2*time.Second {
		t.Errorf("256 MiB take %v, want 2 s at 128 MiB/s", wait)
	}
}
