package client_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/replication"
)

// TestSilentMember: the member that a client writes to hangs without a word, as a stopped
// process does; the client finds the one that leads long before its patience ends, writes everything
// once, and other calls find it too.
func TestSilentMember(t *testing.T) {
	s := startService(t, replication.Options{})
	silent, other := startProxy(t, s.addr), startProxy(t, s.addr)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	ctx := testContext(t)
	c := dial(t, client.Options{Addrs: []string{silent.addr, nobody.Addr().String(), other.addr}, Timeout: 20 * time.Second, ProbeAfter: 100 * time.Millisecond})
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for round, p := range []*proxy{silent, other} {
		if _, err := appendOne(ctx, w, fmt.Sprint(round, " before")); err != nil {
			t.Fatal(err)
		}
		p.deaf.Store(true) // in one round or the other it is the one in use
		begun := time.Now()
		var futures []*client.Future
		for i := range 50 {
			futures = append(futures, w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, round, " ", i)}, nil))
		}
		for _, f := range futures {
			if _, err := f.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Info(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 10*time.Second { // half the patience
			t.Errorf("found after %v", took)
		}
		p.deaf.Store(false)
		p.cut() // what was held back is gone
	}
	if n := len(readAll(t, c, "a")); n != 102 {
		t.Errorf("%d entries, want 102", n)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestHedgedRead: a read that any member may answer is answered by the other one soon, when
// the first hangs; and no more often than the budget allows.
func TestHedgedRead(t *testing.T) {
	s := startService(t, replication.Options{})
	one, two := startProxy(t, s.addr), startProxy(t, s.addr)
	ctx := testContext(t)
	c := dial(t, client.Options{Addrs: []string{one.addr, two.addr}, Timeout: 20 * time.Second})
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(ctx, w, "x"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	read := func() time.Duration {
		t.Helper()
		begun, n := time.Now(), 0
		for b, err := range c.Read(ctx, "a", client.ReadOptions{MaxStaleness: time.Minute}) {
			if err != nil {
				t.Fatal(err)
			}
			n += len(b.Entries)
		}
		if n != 1 {
			t.Fatalf("%d entries", n)
		}
		return time.Since(begun)
	}
	for range 50 { // connects both, and fills the budget
		read()
	}
	for _, p := range []*proxy{one, two} {
		p.deaf.Store(true) // in one round or the other it is the one that is asked first
		if took := read(); took > 10*time.Second {
			t.Errorf("answered after %v", took)
		}
		p.deaf.Store(false)
		p.cut()
	}
}
