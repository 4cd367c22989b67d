package transport

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/certs/certstest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// endpoint is a node of a test.
type endpoint struct {
	*Transport
	addr string
	got  chan *raftpb.Message
}

// book is who listens where.
type book struct {
	mu    sync.Mutex
	addrs map[uint64]string
}

func (b *book) resolve(node uint64) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	addr, ok := b.addrs[node]
	return addr, ok
}

func (b *book) set(node uint64, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs[node] = addr
}

func start(t *testing.T, b *book, node uint64, change func(*Options)) *endpoint {
	t.Helper()
	e := &endpoint{got: make(chan *raftpb.Message, 10_000)}
	opts := Options{Cluster: [16]byte{1}, Node: node, Resolve: b.resolve, Logger: quiet, Deliver: func(shard logcore.ShardID, m *raftpb.Message) {
		if shard != 7 {
			t.Errorf("shard %d", shard)
		}
		e.got <- m
	}}
	if change != nil {
		change(&opts)
	}
	tr, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	e.Transport = tr
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = l.Addr().String()
	if err := tr.Serve(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return e
}

func message(from, to uint64, index uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: &from, To: &to, Index: &index, Entries: []*raftpb.Entry{{Index: &index, Data: []byte("data")}}}
}

// arrives sends until a message gets through.
func arrives(t *testing.T, from, to *endpoint, fromNode, toNode uint64) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for i := uint64(1); ; i++ {
		from.Send(7, message(fromNode, toNode, i))
		select {
		case m := <-to.got:
			if m.GetFrom() != fromNode {
				continue // one sent twice before
			}
			if m.GetTo() != toNode || string(m.GetEntries()[0].GetData()) != "data" {
				t.Fatalf("got %+v", m)
			}
			return
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("nothing gets from node %d to node %d: %v", fromNode, toNode, from.Connected(toNode))
		}
	}
}

// refused sends until the connection is refused with a text, and sees that nothing gets through.
func refused(t *testing.T, from, to *endpoint, fromNode, toNode uint64, want string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		from.Send(7, message(fromNode, toNode, unwanted))
		time.Sleep(10 * time.Millisecond)
		err := from.Connected(toNode)
		if err != nil && strings.Contains(err.Error(), want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not refused with %q: %v", want, err)
		}
	}
	for {
		select {
		case m := <-to.got: // others may have sent theirs more than once
			if m.GetIndex() == unwanted {
				t.Fatalf("a message of a refused node got through: %v", m)
			}
		default:
			return
		}
	}
}

// unwanted marks the messages of a node that is to be refused.
const unwanted = 1 << 40

func newBook() *book { return &book{addrs: map[uint64]string{}} }

// TestBothWays: one link serves both directions, also for a node that doesn't know where the other
// is; messages come in order, and a restarted node is found again.
func TestBothWays(t *testing.T) {
	b := newBook()
	one, two := start(t, b, 1, nil), start(t, b, 2, nil)
	b.set(2, two.addr)
	arrives(t, one, two, 1, 2)
	arrives(t, two, one, 2, 1) // node 1's address is not known to it
	for i := uint64(100); i < 1100; i++ {
		one.Send(7, message(1, 2, i))
	}
	last := uint64(0)
	for last != 1099 {
		select {
		case m := <-two.got:
			if m.GetIndex() < last {
				t.Fatalf("%d after %d", m.GetIndex(), last)
			}
			last = m.GetIndex()
		case <-time.After(10 * time.Second):
			t.Fatalf("%d is the last that came", last)
		}
	}
	two.Close()
	again := start(t, b, 2, nil)
	b.set(2, again.addr)
	arrives(t, one, again, 1, 2)
	arrives(t, again, one, 2, 1)
}

// TestBothDial: two nodes that dial each other at once come to one link, over which both are served.
func TestBothDial(t *testing.T) {
	for range 5 {
		b := newBook()
		one, two := start(t, b, 1, nil), start(t, b, 2, nil)
		b.set(1, one.addr)
		b.set(2, two.addr)
		var sending sync.WaitGroup
		sending.Go(func() { arrives(t, one, two, 1, 2) })
		sending.Go(func() { arrives(t, two, one, 2, 1) })
		sending.Wait()
		arrives(t, one, two, 1, 2)
		one.Close()
		two.Close()
	}
}

// TestNeverWaits: a node that can't be reached costs the sender no time and no memory, and is reported.
func TestNeverWaits(t *testing.T) {
	b := newBook()
	lost := make(chan uint64, 1000)
	one := start(t, b, 1, func(o *Options) {
		o.Unreachable = func(n uint64) {
			select {
			case lost <- n:
			default:
			}
		}
	})
	b.set(2, "127.0.0.1:1")
	big := message(1, 2, 1)
	big.Entries[0].Data = make([]byte, 1<<20)
	begun := time.Now()
	for range 1000 {
		one.Send(7, big)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Fatalf("1000 messages to nobody took %v", took)
	}
	p := one.peer(2)
	p.mu.Lock()
	bytes := p.bytes
	p.mu.Unlock()
	if bytes > queueBytesMax {
		t.Fatalf("%d bytes wait, the limit is %d", bytes, queueBytesMax)
	}
	select {
	case n := <-lost:
		if n != 2 {
			t.Fatalf("node %d", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the loss was not reported")
	}
	one.Send(7, message(1, 1, 1)) // to itself: dropped
	one.Send(7, &raftpb.Message{})
}

// TestRefused: a node of another cluster, under another id or one that is in use, or with a clock that is far
// off, is told why, by both ends.
func TestRefused(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		b := newBook()
		one, two := start(t, b, 1, nil), start(t, b, 2, func(o *Options) { o.Cluster = [16]byte{2} })
		b.set(2, two.addr)
		refused(t, one, two, 1, 2, "belongs to cluster")
		if !errors.Is(one.Connected(2), ErrRefused) {
			t.Errorf("%v", one.Connected(2))
		}
	})
	t.Run("another node at the address", func(t *testing.T) {
		b := newBook()
		one, two := start(t, b, 1, nil), start(t, b, 2, nil)
		b.set(3, two.addr)
		refused(t, one, two, 1, 3, "this is node 2, not 3")
	})
	t.Run("the same node", func(t *testing.T) {
		b := newBook()
		one, copied := start(t, b, 1, nil), start(t, b, 1, nil)
		b.set(2, copied.addr)
		refused(t, one, copied, 1, 2, "in use by two processes")
	})
	t.Run("a node id in use", func(t *testing.T) {
		b := newBook()
		one, two, copied := start(t, b, 1, nil), start(t, b, 2, nil), start(t, b, 2, nil)
		b.set(1, one.addr)
		arrives(t, two, one, 2, 1)
		refused(t, copied, one, 2, 1, "in use by another process")
		arrives(t, two, one, 2, 1) // unharmed
	})
	t.Run("clock", func(t *testing.T) {
		b := newBook()
		one := start(t, b, 1, nil)
		two := start(t, b, 2, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(-2 * time.Hour) } })
		b.set(2, two.addr)
		refused(t, one, two, 1, 2, "2h0m0s apart")
	})
	t.Run("plain text", func(t *testing.T) {
		b := newBook()
		one := start(t, b, 1, nil)
		b.set(2, "192.0.2.1:7000")
		refused(t, one, one, 1, 2, "plain text")
		if !errors.Is(one.Connected(2), ErrPlainText) {
			t.Errorf("%v", one.Connected(2))
		}
		l, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Serve(l); !errors.Is(err, ErrPlainText) {
			t.Errorf("served in plain text on %v: %v", l.Addr(), err)
		}
	})
}

func newAuthority(t *testing.T) *certstest.Authority {
	t.Helper()
	a, err := certstest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue writes the files of a node to dir: a certificate for 127.0.0.1 that is good for so long.
func issue(t *testing.T, a *certstest.Authority, dir string, good time.Duration) certs.Files {
	t.Helper()
	f, err := a.Issue(dir, good, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func withCertificates(t *testing.T, f certs.Files) func(*Options) {
	t.Helper()
	c, err := certs.Load(certs.Options{Files: f, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Certificates = c }
}

// TestCertificates: nodes with certificates of one CA talk; one of another CA, one whose certificate
// expired, and one without any, don't, whichever of them dials.
func TestCertificates(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	b := newBook()
	one := start(t, b, 1, withCertificates(t, issue(t, ca, t.TempDir(), time.Hour)))
	two := start(t, b, 2, withCertificates(t, issue(t, ca, t.TempDir(), time.Hour)))
	stranger := start(t, b, 3, withCertificates(t, issue(t, foreign, t.TempDir(), time.Hour)))
	plain := start(t, b, 4, nil)
	b.set(1, one.addr)
	b.set(2, two.addr)
	b.set(3, stranger.addr)
	b.set(4, plain.addr)
	arrives(t, one, two, 1, 2)
	arrives(t, two, one, 2, 1)
	refused(t, one, stranger, 1, 3, "unknown authority")
	refused(t, stranger, one, 3, 1, "unknown authority")
	refused(t, plain, one, 4, 1, "unreachable")
	refused(t, one, plain, 1, 4, "unreachable")
	arrives(t, one, two, 1, 2)

	// One that expired while its node runs is refused by the others.
	past := func() time.Time { return time.Now().Add(-30 * time.Minute) }
	old, err := certs.Load(certs.Options{Files: issue(t, ca, t.TempDir(), -time.Minute), Now: past, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	expired := start(t, b, 5, func(o *Options) { o.Certificates = old })
	b.set(5, expired.addr)
	refused(t, one, expired, 1, 5, "expired")
	refused(t, expired, one, 5, 1, "expired")
	arrives(t, one, two, 1, 2)
}

// certsReadAgain is the time after which files that changed are in use.
const certsReadAgain = 1100 * time.Millisecond

// TestCertificatesAreReadAgain: a node goes over to another CA without a restart; a broken file changes
// nothing.
func TestCertificatesAreReadAgain(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	b := newBook()
	dirs := []string{t.TempDir(), t.TempDir()}
	one := start(t, b, 1, withCertificates(t, issue(t, before, dirs[0], time.Hour)))
	two := start(t, b, 2, withCertificates(t, issue(t, before, dirs[1], time.Hour)))
	b.set(1, one.addr)
	b.set(2, two.addr)
	arrives(t, one, two, 1, 2)
	if err := os.WriteFile(filepath.Join(dirs[0], "cert.pem"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(certsReadAgain)
	broken := start(t, b, 5, withCertificates(t, issue(t, before, t.TempDir(), time.Hour)))
	b.set(5, broken.addr)
	arrives(t, broken, one, 5, 1) // the certificate that was read before stays
	for _, dir := range dirs {
		issue(t, after, dir, time.Hour)
	}
	time.Sleep(certsReadAgain)
	third := start(t, b, 3, withCertificates(t, issue(t, after, t.TempDir(), time.Hour)))
	b.set(3, third.addr)
	arrives(t, one, third, 1, 3)
	arrives(t, third, two, 3, 2)
	old := start(t, b, 4, withCertificates(t, issue(t, before, t.TempDir(), time.Hour)))
	refused(t, old, one, 4, 1, "unknown authority")
}

// TestFrames: what comes over a link for or from somebody else ends the link; it is not delivered.
func TestFrames(t *testing.T) {
	b := newBook()
	one, two := start(t, b, 1, nil), start(t, b, 2, nil)
	b.set(2, two.addr)
	arrives(t, one, two, 1, 2)
	p := one.peer(2)
	for _, m := range []*raftpb.Message{message(9, 2, 1), message(1, 9, 1)} {
		p.send(7, m)
	}
	arrives(t, one, two, 1, 2) // over a new link, behind them
	for len(two.got) > 0 {
		if m := <-two.got; m.GetFrom() != 1 || m.GetTo() != 2 { // others may have been sent more than once
			t.Fatalf("delivered %v", m)
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := Dial("example.org:1", nil); !errors.Is(err, ErrPlainText) {
		t.Errorf("%v", err)
	}
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "10.0.0.1:1": false, "nonsense": false, ":7": false} {
		if certs.Loopback(addr) != want {
			t.Errorf("certs.Loopback(%q) = %v", addr, !want)
		}
	}
}

// TestMeet: a node is dialled although nothing is to be sent.
func TestMeet(t *testing.T) {
	b := newBook()
	one, two := start(t, b, 1, nil), start(t, b, 2, nil)
	b.set(2, two.addr)
	one.Meet(2)
	one.Meet(1)
	deadline := time.Now().Add(10 * time.Second)
	for one.Connected(2) != nil || two.Connected(1) != nil {
		if time.Now().After(deadline) {
			t.Fatalf("%v, %v", one.Connected(2), two.Connected(1))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestGone: the end of a node that was connected is noticed at once, and told once.
func TestGone(t *testing.T) {
	b := newBook()
	gone := make(chan uint64, 10)
	one := start(t, b, 1, func(o *Options) { o.Gone = func(n uint64) { gone <- n } })
	two := start(t, b, 2, nil)
	b.set(2, two.addr)
	b.set(3, "127.0.0.1:1") // never was there
	arrives(t, one, two, 1, 2)
	one.Send(7, message(1, 3, 1))
	two.Close()
	select {
	case n := <-gone:
		if n != 2 {
			t.Fatalf("node %d is gone", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	one.Send(7, message(1, 2, 1))
	time.Sleep(100 * time.Millisecond)
	if len(gone) != 0 {
		t.Fatal("told twice")
	}
}

// TestNotesWait: a message that only says what is committed wakes nobody by itself; it goes with the next one, or in a
// while.
func TestNotesWait(t *testing.T) {
	b := newBook()
	one, two := start(t, b, 1, nil), start(t, b, 2, nil)
	b.set(2, two.addr)
	note := func() *raftpb.Message {
		m := message(1, 2, 7)
		m.Entries = nil
		return m
	}
	p := newPeer(one.Transport, 2) // that nobody runs
	p.link = &link{}
	p.noting.Store(true) // as if the timer ran: it doesn't
	p.send(7, note())
	p.send(7, note())
	if len(p.wake) != 0 {
		t.Fatal("a note woke the sender")
	}
	p.send(7, message(1, 2, 8))
	if len(p.wake) != 1 {
		t.Fatal("an append behind notes did not wake the sender")
	}
	if _, batch := p.take(); len(batch) != 3 {
		t.Fatalf("%d messages in a frame, want both notes and the append", len(batch))
	}
	<-p.wake
	p.noting.Store(false)
	p.send(7, note())
	select {
	case <-p.wake:
	case <-time.After(20 * time.Second):
		t.Fatal("a note waits for ever")
	}
	p.link = nil
	if p.take(); len(p.queue) != 1 {
		t.Fatal("a note was lost")
	}
	p.send(7, note())
	select { // a node that can't be reached is dialled, whatever is to be said to it
	case <-p.wake:
	case <-time.After(20 * time.Second):
		t.Fatal("a note to nobody waits for ever")
	}
	arrives(t, one, two, 1, 2)
	for one.Send(7, note()); ; {
		select {
		case m := <-two.got:
			if m.GetIndex() != 7 {
				continue // sent twice before
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a note does not arrive")
		}
		break
	}
}
