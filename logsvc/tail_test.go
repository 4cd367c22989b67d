package logsvc_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

func counter(t *testing.T, reg *prometheus.Registry, name string) int64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return int64(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestThousandFollowers: a thousand logs on one shard, each followed. Every follower gets its
// own log's entries, all and in order, and the service does not look at each entry a
// thousand times for it.
func TestThousandFollowers(t *testing.T) {
	const logs, each = 1000, 10
	reg := prometheus.NewRegistry()
	n := start(t, t.TempDir(), "", logsvc.Options{Registerer: reg, HeartbeatEvery: time.Hour}, replication.Options{Log: hotlog.Options{SegmentBytes: 64 << 20}})
	c, ctx := n.client(client.Options{}), testContext(t)
	writers := make([]*client.Writer, logs)
	for i := range writers {
		writers[i] = openWriter(t, c, fmt.Sprint("log-", i), client.WriterOptions{Create: true})
		mustAppend(t, writers[i], fmt.Sprint(i, " first"))
	}
	var started, running sync.WaitGroup
	started.Add(logs)
	for i := range logs {
		running.Go(func() {
			got := 0
			for b, err := range c.Read(ctx, fmt.Sprint("log-", i), client.ReadOptions{Follow: true, Limit: each + 1}) {
				if err != nil {
					t.Errorf("log %d: %v", i, err)
					break
				}
				for _, e := range b.Entries {
					want := fmt.Sprint(i, " ", got)
					if got == 0 {
						want = fmt.Sprint(i, " first")
						started.Done()
					}
					if string(e.Payload) != want {
						t.Errorf("log %d: entry %d is %q", i, got, e.Payload)
					}
					got++
				}
			}
			if got != each+1 {
				t.Errorf("log %d: %d entries", i, got)
			}
		})
	}
	started.Wait()
	before := counter(t, reg, "logcore_read_entries_decoded_total")
	for k := range each {
		for i, w := range writers {
			w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i, " ", k+1)}, nil)
		}
	}
	running.Wait()
	decoded := counter(t, reg, "logcore_read_entries_decoded_total") - before
	if sent := counter(t, reg, "logcore_read_entries_sent_total"); sent != logs*(each+1) {
		t.Errorf("%d entries sent, want %d", sent, logs*(each+1))
	}
	// A few followers may still have caught up by themselves when it began.
	if decoded < logs*each || decoded > 20*logs*each {
		t.Errorf("%d entries looked at for %d appended", decoded, logs*each)
	}
}

// TestFollowerFallsBehind: one that does not keep up with the tail loses nothing.
func TestFollowerFallsBehind(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{Log: hotlog.Options{SegmentBytes: 64 << 20}})
	c, ctx, raw := n.client(client.Options{}), testContext(t), n.raw()
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	mustAppend(t, w, "0")
	stream, err := raw.Read(ctx, &logcorev1.ReadRequest{Log: "a", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := stream.Recv(); err != nil || len(msg.Entries) != 1 {
		t.Fatal(msg, err)
	}
	// Much more than the stream's windows and the follower's list hold, while nobody receives.
	const entries = 3000
	for i := range entries {
		w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Appendf(nil, "%d %08000d", i+1, 0)}, nil)
	}
	mustAppend(t, w, fmt.Sprint(entries+1))
	next := 1
	for next <= entries+1 {
		msg, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range msg.Entries {
			var got int
			if fmt.Sscan(string(e.Payload), &got); got != next {
				t.Fatalf("entry %d after %d", got, next-1)
			}
			next++
		}
	}
}

// TestFollowGathers: who follows a log with Gather gets every entry, in order, and no two batches sooner after each other than it asked for.
func TestFollowGathers(t *testing.T) {
	const entries, gather = 40, 200 * time.Millisecond
	n := start(t, t.TempDir(), "", logsvc.Options{HeartbeatEvery: time.Hour}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "gathered", client.WriterOptions{Create: true})
	mustAppend(t, w, "0")
	begun := make(chan struct{})
	var done sync.WaitGroup
	var got []string
	batches, began, took := 0, time.Now(), time.Duration(0)
	done.Go(func() {
		for b, err := range c.Read(ctx, "gathered", client.ReadOptions{Follow: true, Limit: entries, Gather: gather}) {
			if err != nil {
				t.Errorf("after %d entries: %v", len(got), err)
				return
			}
			if len(got) == 0 && len(b.Entries) > 0 {
				close(begun)
			}
			if len(b.Entries) > 0 {
				batches, took = batches+1, time.Since(began)
			}
			for _, e := range b.Entries {
				got = append(got, string(e.Payload))
			}
		}
	})
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatal("the first entry does not come")
	}
	for i := 1; i < entries; i++ {
		mustAppend(t, w, fmt.Sprint(i)) // each is durable before the next: without Gather nearly every one is a batch
	}
	done.Wait()
	if len(got) != entries {
		t.Fatalf("%d entries, want %d", len(got), entries)
	}
	for i, body := range got {
		if body != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q", i, body)
		}
	}
	// The first two may come one after the other: reading up to the tail is not held up. On a machine that is late more may come, in as much more time.
	if most := 2 + int(took/gather); batches > most {
		t.Errorf("%d batches in %v, at most %d", batches, took, most)
	}
}
