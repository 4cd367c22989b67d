//go:build postgres

package conformance

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A node whose agent is stopped still runs when another one is started on its log. Its commits wait; when the agent goes on it is
// fenced, says by whom, and none of them was acknowledged. The log stays one valid WAL: the other node's.
func TestSecondPrimaryWhileTheFirstIsStopped(t *testing.T) {
	t.Parallel()
	service, b := bankInALog(t)
	old := startNode(t, service, "bank")
	b.conn = old.conn
	for i := range clients { // what was acknowledged before
		b.commit(t, connect(t, b.conn), i)
	}
	if out, err := service.try(t, "postgres", "run", "bank", "--dir", workDir(t), "--port", strconv.Itoa(freePort(t))); err == nil || !contains(out, agentName(old)) {
		t.Errorf("a second node is not refused with the name of the first: %v\n%s", err, out)
	}

	if err := old.process.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = old.process.cmd.Process.Signal(syscall.SIGCONT) }) // it is gone, mostly
	ended := make(chan error, clients)
	for i := range clients {
		c := connect(t, old.conn)
		go func() {
			_, err := c.Exec(t.Context(), "begin; "+transfer(i, b.asked[i]+1)+"; commit").ReadAll()
			ended <- err
		}()
	}
	awaitCommits(t, old.conn, clients)

	second := startNode(t, service, "bank", "--takeover")
	b.conn = second.conn
	before := b.check(t)
	if before != clients {
		t.Errorf("the second node has %d transactions, want %d: those that were acknowledged", before, clients)
	}
	for i := range clients {
		b.commit(t, connect(t, second.conn), i) // under the numbers that the first used too
	}
	select {
	case err := <-ended:
		t.Fatalf("a commit of the first node did not wait: %v", err)
	default:
	}

	if err := old.process.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	saysFencedBy(t, old, second)
	for range clients {
		if err := <-ended; err == nil {
			t.Error("the first node acknowledged a commit after it was fenced")
		}
	}
	staysOneWAL(t, service, b, second, 2*clients)
}

// A node is under load when another one takes its log over: each transaction that it acknowledged is there, none after that is
// acknowledged, and it ends.
func TestSecondPrimaryUnderLoad(t *testing.T) {
	t.Parallel()
	service, b := bankInALog(t)
	old := startNode(t, service, "bank")
	b.conn = old.conn
	worked := b.start(t)
	awaitRows(t, old.conn, "select count(*) from history", 100)
	second := startNode(t, service, "bank", "--takeover")
	saysFencedBy(t, old, second)
	<-worked
	b.conn = second.conn
	there := b.check(t) // what one of the two acknowledged is here; the second has acknowledged nothing
	if there < 100 {
		t.Errorf("%d transactions: nothing was shown", there)
	}
	for i := range clients {
		b.commit(t, connect(t, second.conn), i)
	}
	staysOneWAL(t, service, b, second, there+clients)
}

// bankInALog returns a service with a log that has a bank's tables.
func bankInALog(t *testing.T) (*service, *bank) {
	t.Helper()
	service, first := newService(t), newServer(t)
	b := &bank{conn: first.connString()}
	b.setUp(t)
	attach := service.attach(t, "bank", first)
	first.stop(t)
	attach.stop()
	return service, b
}

// transfer is a transaction of a client of a bank, without its begin and commit.
func transfer(client, seq int) string {
	return fmt.Sprintf(`update accounts set balance = balance + 7 where id = %d; update tellers set balance = balance + 7 where id = %d; insert into history values (%d, %d, 7)`,
		1+client, 1+client, client, seq)
}

// commit runs one transaction of a client, which has to be acknowledged.
func (b *bank) commit(t *testing.T, c *pgconn.PgConn, client int) {
	t.Helper()
	b.asked[client]++
	query(t, c, "begin; "+transfer(client, b.asked[client])+"; commit")
	b.acked[client] = b.asked[client]
}

// start has the bank's clients work, until their connections break, and returns once they are open. The channel is closed when all have ended.
func (b *bank) start(t *testing.T) (worked chan struct{}) {
	t.Helper()
	open, worked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(worked)
		b.work(t, func() { close(open) })
	}()
	select {
	case <-open:
	case <-worked:
		t.Fatal("the clients did not connect")
	}
	return worked
}

// agentName is a part of the name that the agent of a node writes its log under.
func agentName(n *node) string { return fmt.Sprintf("process %d", n.process.cmd.Process.Pid) }

// saysFencedBy waits until the agent of a node ends because the other one has its log.
func saysFencedBy(t *testing.T, old, by *node) {
	t.Helper()
	said := old.process.ends(t)
	for _, want := range []string{"fenced", "postgres run at", agentName(by)} {
		if !contains(said, want) {
			t.Errorf("the first node does not say %q:\n%s", want, tail([]byte(said)))
		}
	}
	if pid := postmaster(old.data); pid != 0 && syscall.Kill(pid, 0) == nil {
		t.Error("the server of the node that was fenced goes on")
	}
}

// staysOneWAL checks that a node made again from the log has what the one before had, and so has a PostgreSQL that replays the log.
func staysOneWAL(t *testing.T, service *service, b *bank, n *node, there int) {
	t.Helper()
	killPostmaster(n.data)
	n.process.waitFor(t, "ready:", 2)
	if got := b.check(t); got != there {
		t.Errorf("made again the node has %d transactions, want %d", got, there)
	}
	allFromPages(t, n.process.output.String())
	n.process.stop()
	vanillaReplays(t, service, b, there)
}

// awaitCommits waits until so many clients wait for LogCore: in their commits, or for a row of another one that does.
func awaitCommits(t *testing.T, conn string, n int) {
	t.Helper()
	awaitRows(t, conn, "select count(*) from pg_stat_activity where wait_event = 'SyncRep' or wait_event_type = 'Lock'", n)
}

// awaitRows waits until a query that counts comes to n at least.
func awaitRows(t *testing.T, conn, count string, n int) {
	t.Helper()
	c := connect(t, conn)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got, err := strconv.Atoi(query(t, c, count)[0])
		if err != nil {
			t.Fatal(err)
		}
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d, want %d", count, got, n)
		}
	}
}
