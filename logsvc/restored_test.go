package logsvc_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// TestFencedAcrossARestore (I4): the hot tier is lost right after a writer was granted its
// epoch; the shard is restored from what was archived before, and grants the same number
// again; the old writer's process lives on and finds the service at its address. Nothing of it is
// taken, whatever it calls.
func TestFencedAcrossARestore(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	c := n.client(client.Options{})
	w := openWriter(t, c, "held", client.WriterOptions{Create: true}) // holds its epoch in what is restored
	mustAppend(t, w, "1")
	if _, err := c.CreateLog(testContext(t), "a", "", 0); err != nil {
		t.Fatal(err)
	}
	addr := n.addr
	n.stop()
	archived := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(archived, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n = start(t, dir, addr, logsvc.Options{}, replication.Options{})
	old := openWriter(t, n.client(client.Options{}), "a", client.WriterOptions{})
	mustAppend(t, old, "acknowledged, and lost with the hot tier")
	n.stop()
	restore(t, filepath.Join(archived, "shard-0"))

	n = start(t, archived, addr, logsvc.Options{}, replication.Options{})
	c, raw, ctx := n.client(client.Options{}), n.raw(), testContext(t)
	fresh := openWriter(t, c, "a", client.WriterOptions{}) // nobody has to be waited for
	mustAppend(t, fresh, "new 1")
	if old.Epoch() != fresh.Epoch() || old.Incarnation() == fresh.Incarnation() {
		t.Fatalf("void: epochs %d and %d, incarnations %#x and %#x", old.Epoch(), fresh.Epoch(), old.Incarnation(), fresh.Incarnation())
	}
	_, err := old.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("old")}, nil)
	wantErr(t, "append on the old writer's stream", err, logcore.ErrFenced)
	epoch, was := uint64(old.Epoch()), old.Incarnation()
	_, err = raw.Append(ctx, &logcorev1.AppendRequest{Log: "a", Epoch: epoch, Incarnation: was, Entries: []*logcorev1.NewEntry{newEntry(2, "old")}})
	wantErr(t, "append by the old writer", wire.FromStatus(err), logcore.ErrFenced)
	_, err = raw.RenewWriter(ctx, &logcorev1.RenewWriterRequest{Log: "a", Epoch: epoch, Incarnation: was})
	wantErr(t, "renewal by the old writer", wire.FromStatus(err), logcore.ErrFenced)
	_, err = raw.CloseWriter(ctx, &logcorev1.CloseWriterRequest{Log: "a", Epoch: epoch, Incarnation: was})
	wantErr(t, "close by the old writer", wire.FromStatus(err), logcore.ErrFenced)
	mustAppend(t, fresh, "new 2")
	if got := bodies(readLog(t, c, "a", client.ReadOptions{})); got != "new 1 new 2" {
		t.Errorf("the log holds %q", got)
	}
	_, err = w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("2")}, nil)
	wantErr(t, "append by a writer whose epoch was restored", err, logcore.ErrFenced)
}

// restore does to a shard's directory what recovery does to an archive's entries.
func restore(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "raft.state")); err != nil {
		t.Fatal(err)
	}
	log, _, err := hotlog.Open(testContext(t), hotlog.Options{Dir: dir, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	tail, err := log.Entries(log.Last(), log.Last()+1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := replication.InitRestored(replication.Options{Log: hotlog.Options{Dir: dir}}, tail[0]); err != nil {
		t.Fatal(err)
	}
}
