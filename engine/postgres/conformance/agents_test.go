//go:build postgres

package conformance

import (
	"strconv"
	"testing"
)

// The attach of a server, and the log service, are killed under load, in turn. Commits wait until both are back; each that was
// acknowledged is in the log, none by half.
func TestAttachAndServiceKilledUnderLoad(t *testing.T) {
	t.Parallel()
	service, s := newService(t), newServer(t)
	b := &bank{conn: s.connString()}
	b.setUp(t)
	attach := service.attach(t, "bank", s)
	worked := b.start(t)
	c := connect(t, s.connString())
	done := func() int { // a transaction that waits for LogCore is not seen
		t.Helper()
		n, err := strconv.Atoi(query(t, c, "select count(*) from history")[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	waits := func(who string) {
		t.Helper()
		if who == "LogCore" {
			attach.waitFor(t, "LogCore does not acknowledge", 1)
			service.shows(t, "logcore_unreachable", "bank")
		} else { // what it had acknowledged has arrived once the server has noticed
			awaitRows(t, s.connString(), "select (count(*) = 0)::int from pg_stat_replication", 1)
		}
		awaitCommits(t, s.connString(), clients)
		before := done()
		for range 50 { // it takes a while to ask
			if after := done(); after != before {
				t.Fatalf("%d transactions were acknowledged while %s was away", after-before, who)
			}
		}
		awaitCommits(t, s.connString(), clients)
	}
	for range 3 {
		awaitRows(t, s.connString(), "select count(*) from history", done()+50)
		attach.kill()
		waits("attach")
		attach = service.background(t, "postgres", "attach", "bank", "--server", s.connString(), "--addr", service.addr, "--takeover")
		awaitRows(t, s.connString(), "select count(*) from history", done()+50)
		service.process.kill()
		waits("LogCore")
		service.start(t)
	}
	awaitRows(t, s.connString(), "select count(*) from history", done()+50)
	s.kill()
	<-worked
	attach.stop()
	b.conn = openAt(t, service, "bank").connString()
	t.Logf("%d transactions, none lost", b.check(t))
}

// The agent of a node, its run, is killed under load: its server dies with it, and another run makes the node again. Each transaction that
// was acknowledged is there.
func TestRunKilledUnderLoad(t *testing.T) {
	t.Parallel()
	service, b := bankInALog(t)
	n := startNode(t, service, "bank")
	there := 0
	for range 3 {
		b.conn = n.conn
		worked := b.start(t)
		awaitRows(t, n.conn, "select count(*) from history", there+50)
		n.process.kill()
		<-worked // its server went with it
		n = startNode(t, service, "bank", "--takeover")
		b.conn = n.conn
		if there = b.check(t); t.Failed() {
			t.FailNow()
		}
		allFromPages(t, n.process.output.String())
	}
	t.Logf("%d transactions, none lost", there)
	n.process.stop()
	vanillaReplays(t, service, b, there)
}
