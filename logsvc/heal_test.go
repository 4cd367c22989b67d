package logsvc_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/client"
)

// TestShardsOfDifferentMoments: the shards of a service are put together from copies of different moments, as a restore from
// archives that end at different moments does, in every combination of two moments that follow each other. Logs moved, were created and
// branched between: whatever combination it is, every log that the oldest part knows is in one shard, has what it had by then, in order and once, is written to and
// moved again; every name can be used; and nothing hangs.
func TestShardsOfDifferentMoments(t *testing.T) {
	const shards = 3
	s := startShards(t, shards)
	c := s.client()
	moments := t.TempDir()
	acked := map[string][]string{} // of each log, in order
	at := []map[string]int{}       // at each moment: how many
	put := func(log, text string) {
		t.Helper()
		w := openWriter(t, c, log, client.WriterOptions{Create: true, Takeover: true})
		mustAppend(t, w, text)
		if err := w.Close(testContext(t)); err != nil {
			t.Fatal(err)
		}
		acked[log] = append(acked[log], text)
	}
	moment := func() {
		t.Helper()
		s.stop()
		if err := os.CopyFS(filepath.Join(moments, fmt.Sprint(len(at))), os.DirFS(s.dir)); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for log, texts := range acked {
			counts[log] = len(texts)
		}
		at = append(at, counts)
		s.start()
	}
	put("db", "db 0")
	for i := range 3 { // one in each shard
		put(fmt.Sprint("log", i), fmt.Sprint("log", i, " 0"))
	}
	moment()
	mustMove(t, c, "db", 1)
	put("db", "db 1")
	put("log1", "log1 1")
	for i := range 3 {
		put(fmt.Sprint("new", i), "new")
	}
	moment()
	fork := mustInfo(t, c, "db").LastLSN
	if _, err := c.CreateLog(testContext(t), "db/b", "db", fork); err != nil {
		t.Fatal(err)
	}
	put("db/b", "b 2")
	mustMove(t, c, "db", 2)
	put("db", "db 2")
	mustMove(t, c, "log1", (mustInfo(t, c, "log1").Shard+1)%shards)
	put("log1", "log1 2")
	moment()
	mustMove(t, c, "db", 0)
	put("db", "db 3")
	mustMove(t, c, "db", 1)
	put("db", "db 4")
	moment()
	s.stop()

	combinations := 0
	for a := range at {
		for b := range at {
			for d := range at {
				if max(a, b, d) > min(a, b, d)+1 {
					continue
				}
				combinations++
				t.Run(fmt.Sprint(a, b, d), func(t *testing.T) {
					torn := &sharded{t: t, dir: t.TempDir(), n: shards, addr: "127.0.0.1:0"}
					for shard, of := range []int{a, b, d} {
						name := fmt.Sprint("shard-", shard)
						if err := os.CopyFS(filepath.Join(torn.dir, name), os.DirFS(filepath.Join(moments, fmt.Sprint(of), name))); err != nil {
							t.Fatal(err)
						}
					}
					torn.start()
					t.Cleanup(torn.stop)
					torn.isWhole(at[min(a, b, d)], acked)
				})
			}
		}
	}
	if combinations != 22 {
		t.Errorf("void: %d combinations", combinations)
	}
}

// isWhole checks a service that was put together: it has what it must, and everything goes on.
func (s *sharded) isWhole(must map[string]int, acked map[string][]string) {
	s.t.Helper()
	t, c := s.t, s.client()
	ctx := testContext(t)
	for log, texts := range acked {
		if strings.Contains(log, "/") && must[log] == 0 {
			continue // a branch that its family may not have
		}
		w, err := c.OpenWriter(ctx, log, client.WriterOptions{Create: true, Takeover: true})
		if err != nil {
			t.Fatalf("%s: %v", log, err)
		}
		if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("again")}, nil); err != nil {
			t.Fatalf("%s: %v", log, err)
		}
		info := mustInfo(t, c, log)
		got := strings.Split(lines(readSome(t, c, log)), "\n")
		n := len(got) - 1
		all := texts
		if log == "db/b" {
			all = append(slices.Clone(acked["db"][:2]), texts...)
		}
		if n < 0 || got[n] != "again" || n < must[log] || n > len(all) {
			t.Fatalf("%s, in shard %d, has %q; %d of %q must be there", log, info.Shard, got, must[log], all)
		}
		// In order and once; what is lost is lost where a shard's copy ends, so not only at the end.
		next := 0
		for i, text := range got[:n] {
			at := slices.Index(all[next:], text)
			if at < 0 || i < must[log] && at != 0 {
				t.Fatalf("%s has %q, of %q", log, got, all)
			}
			next += at + 1
		}
		if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("more")}, nil); err != nil {
			t.Fatalf("%s: %v", log, err)
		}
	}
	if left, err := c.MoveLog(ctx, "db", (mustInfo(t, c, "db").Shard+1)%3); err != nil || left == 0 {
		t.Fatalf("db moves: %d, %v", left, err)
	}
	if got := lines(readSome(t, c, "db")); !strings.HasSuffix(got, "again\nmore") {
		t.Fatalf("db has %q after another move", got)
	}
	// Each name is in one shard, and that is where the directory has it.
	for log := range acked {
		if strings.Contains(log, "/") {
			continue
		}
		in := map[int]logcore.LogID{}
		for i, g := range s.groups {
			g.View(func(state *catalog.State) {
				if l, err := state.ByName(log); err == nil {
					in[i] = l.ID
				}
			})
		}
		if info := mustInfo(t, c, log); len(in) != 1 || in[int(info.Shard)] != info.ID {
			t.Errorf("%s is found as log %d in shard %d, by shard it is %v", log, info.ID, info.Shard, in)
		}
	}
	// The branch's name can be had, whatever became of it.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := c.CreateLog(ctx, "db/b", "db", mustInfo(t, c, "db").LastLSN)
		if err == nil || errors.Is(err, logcore.ErrLogExists) {
			if _, err := c.Info(ctx, "db/b"); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("db/b: %v", err)
		}
	}
}

// readSome reads a log.
func readSome(t testing.TB, c *client.Client, log string) []client.LogEntry {
	t.Helper()
	var out []client.LogEntry
	for b, err := range c.Read(testContext(t), log, client.ReadOptions{}) {
		if err != nil {
			t.Fatalf("%s: %v", log, err)
		}
		out = append(out, b.Entries...)
	}
	return out
}

// lines returns the payloads, a line each.
func lines(entries []client.LogEntry) string {
	var out []string
	for _, e := range entries {
		out = append(out, string(e.Payload))
	}
	return strings.Join(out, "\n")
}
