package logsvc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// logsStream is an AppendLogs call of the generated client: what it sends and gets is
// plain protobuf.
type logsStream struct {
	t      *testing.T
	stream logcorev1.LogCoreService_AppendLogsClient
	heard  []*logcorev1.LogAppended
}

func openLogsStream(t *testing.T, raw logcorev1.LogCoreServiceClient) *logsStream {
	t.Helper()
	stream, err := raw.AppendLogs(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return &logsStream{t: t, stream: stream}
}

func (s *logsStream) send(appends ...*logcorev1.LogAppend) {
	s.t.Helper()
	if err := s.stream.Send(&logcorev1.AppendLogsRequest{Appends: appends}); err != nil {
		s.t.Fatal(err)
	}
}

// hear returns the next thing said of any channel.
func (s *logsStream) hear() *logcorev1.LogAppended {
	s.t.Helper()
	for len(s.heard) == 0 {
		msg, err := s.stream.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		s.heard = msg.Appends
	}
	next := s.heard[0]
	s.heard = s.heard[1:]
	return next
}

func (s *logsStream) want(channel uint32, through uint64, reason logcorev1.ErrorReason) {
	s.t.Helper()
	a := s.hear()
	if a.Channel != channel || a.ThroughSequence != through || a.Detail.GetReason() != reason || (a.Code != 0) != (reason != 0) {
		s.t.Fatalf("heard %v, want channel %d through %d, %v", a, channel, through, reason)
	}
	if n := len(a.Lsns); reason == 0 && (n == 0 || len(a.Times) != n) {
		s.t.Fatalf("heard %v: no places", a)
	}
}

func open(t *testing.T, raw logcorev1.LogCoreServiceClient, log string) *logcorev1.OpenWriterResponse {
	t.Helper()
	o, err := raw.OpenWriter(testContext(t), &logcorev1.OpenWriterRequest{Log: log, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func logAppend(channel uint32, log string, o *logcorev1.OpenWriterResponse, entries ...*logcorev1.NewEntry) *logcorev1.LogAppend {
	return &logcorev1.LogAppend{Channel: channel, Log: log, Epoch: o.Epoch, Incarnation: o.Incarnation, Entries: entries}
}

const (
	ok       = logcorev1.ErrorReason_ERROR_REASON_UNSPECIFIED
	gap      = logcorev1.ErrorReason_ERROR_REASON_SEQUENCE_GAP
	notFound = logcorev1.ErrorReason_ERROR_REASON_LOG_NOT_FOUND
	invalid  = logcorev1.ErrorReason_ERROR_REASON_INVALID
	fenced   = logcorev1.ErrorReason_ERROR_REASON_FENCED
)

// TestChannelsFailAlone: what is wrong with one log's entries ends its channel, and no
// other; the log goes on under another channel.
func TestChannelsFailAlone(t *testing.T) {
	n, c := simple(t)
	raw := n.raw()
	a, b := open(t, raw, "a"), open(t, raw, "b")
	s := openLogsStream(t, raw)
	s.send(logAppend(1, "a", a, newEntry(1, "a1"), newEntry(2, "a2")),
		logAppend(2, "b", b, newEntry(2, "b2")),
		logAppend(3, "none", a, newEntry(1, "x")))
	s.want(1, 2, ok)
	s.want(2, 0, gap)
	s.want(3, 0, notFound)
	damaged := newEntry(3, "a3")
	damaged.PayloadCrc32C++
	s.send(logAppend(4, "b", b, newEntry(1, "b1")), logAppend(1, "", a, damaged), logAppend(2, "", b, newEntry(2, "b2")))
	s.want(4, 1, ok)
	s.want(1, 0, invalid)
	s.send(logAppend(4, "", b, newEntry(2, "b2")), logAppend(5, "a", &logcorev1.OpenWriterResponse{Epoch: a.Epoch + 1, Incarnation: a.Incarnation - 1}, newEntry(3, "a3")))
	s.want(4, 2, ok)
	s.want(5, 0, fenced)
	s.send(logAppend(6, "a", a, newEntry(1, "a1"), newEntry(2, "a2"), newEntry(3, "a3"))) // the first two again
	s.want(6, 3, ok)
	if got := bodies(readLog(t, c, "a", client.ReadOptions{})) + " | " + bodies(readLog(t, c, "b", client.ReadOptions{})); got != "a1 a2 a3 | b1 b2" {
		t.Errorf("the logs hold %s", got)
	}
	// What is no message of the service ends the stream, after what came before it.
	s.send(logAppend(6, "", a, newEntry(4, "a4")))
	s.send(logAppend(0, "a", a, newEntry(5, "a5")))
	s.want(6, 4, ok)
	if msg, err := s.stream.Recv(); err == nil {
		t.Errorf("channel 0: heard %v", msg)
	}
}

// TestNothingBehindARefusal: as TestNothingBehindARefusedMessage, for a channel. What is
// sent behind is valid by itself when its turn comes, and is not written; other channels go on.
func TestNothingBehindARefusal(t *testing.T) {
	n, c := simple(t)
	raw := n.raw()
	a, b := open(t, raw, "a"), open(t, raw, "b")
	s := openLogsStream(t, raw)
	leave := n.holdLoop()
	queued := func(want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); n.group.Status().Queued < want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the messages don't arrive")
			}
		}
	}
	s.send(logAppend(1, "a", a, newEntry(2, "refused: a gap")), logAppend(2, "b", b, newEntry(1, "b1")))
	queued(1)
	between := openLogsStream(t, raw)
	between.send(logAppend(1, "a", a, newEntry(1, "between")))
	queued(2)
	s.send(logAppend(1, "", a, newEntry(2, "late")), logAppend(2, "", b, newEntry(2, "b2")))
	queued(3)
	leave()
	between.want(1, 1, ok)
	s.want(1, 0, gap)
	s.want(2, 1, ok)
	s.want(2, 2, ok)
	if got := bodies(readLog(t, c, "a", client.ReadOptions{})); got != "between" {
		t.Errorf("the log holds %q", got)
	}
}

// TestChannelRenewsLease: a channel that has nothing to write keeps its log.
func TestChannelRenewsLease(t *testing.T) {
	const lease = 300 * time.Millisecond
	n := start(t, t.TempDir(), "", logsvc.Options{Lease: lease}, replication.Options{})
	raw := n.raw()
	a := open(t, raw, "a")
	s := openLogsStream(t, raw)
	for i := range uint32(5) {
		time.Sleep(lease / 2)
		// The other channel's answer says that the renewal was carried out.
		s.send(logAppend(1, "a", a), logAppend(2+i, "none", a))
		s.want(2+i, 0, notFound)
	}
	if _, err := raw.OpenWriter(testContext(t), &logcorev1.OpenWriterRequest{Log: "a"}); err == nil {
		t.Error("another writer took the log away")
	}
}

// TestManyLogsOneStream: many writers of one client share a stream, and each gets what is
// its own.
func TestManyLogsOneStream(t *testing.T) {
	n := start(t, t.TempDir(), "", logsvc.Options{}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	const logs, each = 60, 50
	writers := make([]*client.Writer, logs)
	futures := make([][]*client.Future, logs)
	for i := range writers {
		writers[i] = openWriter(t, c, fmt.Sprint("log-", i), client.WriterOptions{Create: true})
	}
	for k := range each {
		for i, w := range writers {
			futures[i] = append(futures[i], w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i, "/", k)}, nil))
		}
	}
	for i := range writers {
		var acked []client.Appended
		for _, f := range futures[i] {
			a, err := f.Wait(ctx)
			if err != nil {
				t.Fatal(err)
			}
			acked = append(acked, a)
		}
		for k, e := range readLog(t, c, fmt.Sprint("log-", i), client.ReadOptions{}) {
			if string(e.Payload) != fmt.Sprint(i, "/", k) || e.LSN != acked[k].LSN || e.Time != acked[k].Time {
				t.Fatalf("log %d, entry %d: %q at LSN %d, acknowledged at %+v", i, k, e.Payload, e.LSN, acked[k])
			}
		}
	}
}
