package logsvc_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

const benchBody = 128

func benchNode(b *testing.B) *node {
	return start(b, b.TempDir(), "", logsvc.Options{}, replication.Options{Log: hotlog.Options{SegmentBytes: 128 << 20}})
}

// BenchmarkAppendUnary is one 128-byte append at a time, each durable before the next.
func BenchmarkAppendUnary(b *testing.B) {
	n := benchNode(b)
	raw, ctx := n.raw(), context.Background()
	open, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "a", Create: true})
	if err != nil {
		b.Fatal(err)
	}
	body := string(make([]byte, benchBody))
	for i := 0; b.Loop(); i++ {
		if _, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(uint64(i+1), body)}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendStream64 keeps 64 appends of 128 bytes in flight on one stream.
func BenchmarkAppendStream64(b *testing.B) { benchStream(b, 64) }

// BenchmarkAppendStream256 is as many as one log may have.
func BenchmarkAppendStream256(b *testing.B) { benchStream(b, 256) }

// BenchmarkAppendStream1 is the stream with one append in flight.
func BenchmarkAppendStream1(b *testing.B) { benchStream(b, 1) }

func benchStream(b *testing.B, inflight int) {
	n := benchNode(b)
	c, ctx := n.client(client.Options{InflightEntriesMax: inflight}), context.Background()
	w := openWriter(b, c, "a", client.WriterOptions{Create: true})
	body := make([]byte, benchBody)
	var last *client.Future
	for b.Loop() {
		last = w.Submit(ctx, logcore.TxID{1}, [][]byte{body}, nil)
	}
	if _, err := last.Wait(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppendLogs1000 keeps 256 appends in flight over a thousand logs of one client.
func BenchmarkAppendLogs1000(b *testing.B) {
	n := benchNode(b)
	c, ctx := n.client(client.Options{}), context.Background()
	writers := make([]*client.Writer, 1000)
	for i := range writers {
		writers[i] = openWriter(b, c, fmt.Sprint("log-", i), client.WriterOptions{Create: true})
	}
	body := make([]byte, benchBody)
	var ring [256]*client.Future
	i := 0
	for b.Loop() {
		slot := &ring[i%len(ring)]
		if *slot != nil {
			if _, err := (*slot).Wait(ctx); err != nil {
				b.Fatal(err)
			}
		}
		*slot = writers[i%len(writers)].Submit(ctx, logcore.TxID{1}, [][]byte{body}, nil)
		i++
	}
}
