//go:build postgres

package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// pgbenchInit makes pgbench's tables. fillfactor leaves room in the pages, so that updates stay in them and the data keeps its size.
func pgbenchInit(t testing.TB, s *server, scale, fillfactor int) {
	t.Helper()
	run(t, binaries+"pgbench", "-i", "-q", "-s", strconv.Itoa(scale), "-F", strconv.Itoa(fillfactor), "-h", s.socket, "-p", strconv.Itoa(s.port), "-U", "postgres", "postgres")
}

// A node with pgbench's data at scale 20 is killed at random moments under TPC-B with 8 clients; each time another is made of the page server's pages, and
// has every transaction that pgbench saw committed, whole, with indexes that agree.
func TestKilledAtScale(t *testing.T) {
	t.Parallel()
	const scale = 20
	service, first := newService(t), newServer(t, "max_wal_size=4GB")
	pgbenchInit(t, first, scale, 100)
	query(t, connect(t, first.connString()), "create extension amcheck")
	attach := service.attach(t, "bank", first)
	first.stop(t)
	attach.stop()
	n := startNode(t, service, "bank")
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	committed := 0
	for kill := 1; kill <= kills; kill++ {
		committed += pgbenchUntilKilled(t, n, time.Duration(300+rng.IntN(2000))*time.Millisecond)
		n.process.waitFor(t, "ready:", kill+1)
		there := checkTPCB(t, n.conn)
		// Each client may have had one more commit under way, which nobody was told of.
		if there < committed || there > committed+clients {
			t.Fatalf("after kill %d: %d transactions, pgbench saw %d committed", kill, there, committed)
		}
		committed = there
		checkIndexes(t, n.conn, kill == kills)
	}
	t.Logf("%d kills, %d transactions, none lost", kills, committed)
	if committed < kills*50 {
		t.Errorf("%d transactions: nothing was shown", committed)
	}
	out := n.process.output.String()
	allFromPages(t, out)
	n.process.stop()
	v := vanilla(t, service, "bank")
	if there := checkTPCB(t, v.connString()); there != committed {
		t.Errorf("a vanilla server that replays the log has %d transactions, want %d", there, committed)
	}
	checkIndexes(t, v.connString(), true)
}

// checkIndexes checks every B-tree, and that it has each row of its table; with tables pgbench's tables too.
func checkIndexes(t *testing.T, conn string, tables bool) {
	t.Helper()
	// Two million rows take longer than other statements may.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := connect(t, conn)
	defer c.Close(context.Background())
	ask := func(sql string) (n int) {
		t.Helper()
		results, err := c.Exec(ctx, "set statement_timeout = 0; "+sql).ReadAll()
		if err != nil {
			t.Fatalf("amcheck: %v", err)
		}
		if _, err := fmt.Sscan(string(results[1].Rows[0][0]), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := ask("select count(bt_index_check(c.oid, true)) from pg_class c join pg_am m on m.oid = c.relam where amname = 'btree' and relpersistence = 'p'"); n < 100 {
		t.Errorf("%d indexes checked", n)
	}
	if !tables {
		return
	}
	if n := ask("select count(*) from pg_class c, verify_heapam(c.oid) where c.relname like 'pgbench%' and c.relkind = 'r'"); n != 0 {
		t.Errorf("amcheck finds %d places in pgbench's tables", n)
	}
}

// pgbenchUntilKilled runs TPC-B until the node is killed, after a while, and returns how many transactions were acknowledged: pgbench writes a line for each.
func pgbenchUntilKilled(t *testing.T, n *node, after time.Duration) int {
	t.Helper()
	dir := workDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := asPostgres(t, exec.CommandContext(ctx, binaries+"pgbench", "-n", "-c", strconv.Itoa(clients), "-j", "2", "-T", "60", "-l", "--log-prefix="+dir+"/tx",
		"-h", n.dir, "-p", strconv.Itoa(n.port), "-U", "postgres", "postgres"))
	timer := time.AfterFunc(after, func() { killPostmaster(n.data) })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Fatalf("pgbench did not notice that the node was killed: %v\n%s", err, tail(out))
	}
	lines := run(t, "/bin/sh", "-c", "cat "+dir+"/tx* 2>/dev/null | wc -l")
	var acked int
	if _, err := fmt.Sscan(lines, &acked); err != nil {
		t.Fatal(err)
	}
	return acked
}

// checkTPCB compares pgbench's sums and returns how many transactions there are.
func checkTPCB(t *testing.T, conn string) int {
	t.Helper()
	var accounts, tellers, branches, history, count int
	row := queryOne(t, conn, `select (select sum(abalance) from pgbench_accounts) || ' ' || (select sum(tbalance) from pgbench_tellers) || ' ' ||
		(select sum(bbalance) from pgbench_branches) || ' ' || (select coalesce(sum(delta), 0) from pgbench_history) || ' ' || (select count(*) from pgbench_history)`)
	if _, err := fmt.Sscan(row, &accounts, &tellers, &branches, &history, &count); err != nil {
		t.Fatal(err)
	}
	if accounts != history || tellers != history || branches != history {
		t.Errorf("sums of accounts, tellers, branches and history: %s", row)
	}
	return count
}
