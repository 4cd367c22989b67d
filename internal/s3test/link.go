package s3test

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link is the way to a cloud: a TCP proxy in this process that can be slow, hang, or break
// in the middle of a request. It counts what passes. TLS passes through it unopened.
type Link struct {
	listener net.Listener
	backend  func() string // host:port, asked for each connection

	delay    atomic.Int64 // nanoseconds that each byte waits, each way halved
	hangs    atomic.Bool
	cutAfter atomic.Int64 // bytes of requests after which every connection is cut; 0 = never
	sent     atomic.Int64
	received atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
	done  bool              // guarded by mu
	wait  sync.WaitGroup
}

// newLink puts a link in front of a host:port, which is asked for anew for each connection.
func newLink(backend func() string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{listener: l, backend: backend, conns: map[net.Conn]bool{}}
	k.wait.Go(k.accept)
	return k, nil
}

// Address is the link's host:port.
func (l *Link) Address() string { return l.listener.Addr().String() }

// SetDelay adds to every round trip from now on; 0 is as quick as it can be.
func (l *Link) SetDelay(d time.Duration) { l.delay.Store(int64(d)) }

// SetHang keeps every byte from passing, connections under way included, until it is
// called with false.
func (l *Link) SetHang(hang bool) { l.hangs.Store(hang) }

// SetCut breaks every connection once it has carried n bytes of requests, TLS handshake
// included: half a PUT, for example. 0 ends that.
func (l *Link) SetCut(n int64) { l.cutAfter.Store(n) }

// Sent returns the bytes that went to the cloud.
func (l *Link) Sent() int64 { return l.sent.Load() }

// Received returns the bytes that came from the cloud.
func (l *Link) Received() int64 { return l.received.Load() }

// Close breaks every connection and waits for their end.
func (l *Link) Close() error {
	l.mu.Lock()
	l.done = true
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	err := l.listener.Close()
	l.wait.Wait()
	return err
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.wait.Go(func() { l.carry(client) })
	}
}

// track keeps a connection where Close finds it; false when the link is closed already.
func (l *Link) track(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done {
		l.conns[c] = true
	}
	return !l.done
}

func (l *Link) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *Link) carry(client net.Conn) {
	defer l.drop(client)
	if !l.track(client) {
		return
	}
	cloud, err := net.DialTimeout("tcp", l.backend(), 5*time.Second)
	if err != nil {
		return
	}
	defer l.drop(cloud)
	if !l.track(cloud) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(cloud, client, &l.sent, true) })
	both.Go(func() { l.copy(client, cloud, &l.received, false) })
	both.Wait()
}

// parcel is bytes on their way, and when they may arrive.
type parcel struct {
	data []byte
	due  time.Time
}

// copy carries one direction. Bytes wait in a queue, so that a delay costs time, not
// throughput.
func (l *Link) copy(to, from net.Conn, count *atomic.Int64, requests bool) {
	queue := make(chan parcel, 1024)
	var out sync.WaitGroup
	out.Go(func() {
		defer to.Close()
		for p := range queue {
			if !l.hold(p.due, to) {
				continue // until the sender has noticed
			}
			if _, err := to.Write(p.data); err != nil {
				from.Close()
			}
			count.Add(int64(len(p.data)))
		}
	})
	total := int64(0)
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		total += int64(n)
		if cut := l.cutAfter.Load(); requests && cut > 0 && total > cut {
			n, err = max(n-int(total-cut), 0), errors.New("cut")
		}
		if n > 0 {
			queue <- parcel{buf[:n], time.Now().Add(time.Duration(l.delay.Load()) / 2)}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			break
		}
	}
	close(queue)
	out.Wait()
}

// hold waits until bytes may go; false when the link or the connection was closed.
func (l *Link) hold(due time.Time, to net.Conn) bool {
	for wait := time.Until(due); wait > 0 || l.hangs.Load(); wait = time.Until(due) {
		l.mu.Lock()
		open := l.conns[to] && !l.done
		l.mu.Unlock()
		if !open {
			return false
		}
		time.Sleep(min(max(wait, time.Millisecond), 5*time.Millisecond))
	}
	return true
}
