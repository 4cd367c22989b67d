//go:build postgres

package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vanillaReplays shows that the log, with the checkpoints that LogCore put into it, is one
// valid WAL: a PostgreSQL replays it from the first base backup and gets to the same state.
func vanillaReplays(t *testing.T, service *service, b *bank, there int) {
	t.Helper()
	b.conn = vanilla(t, service, "bank").connString()
	if n := queryOne(t, b.conn, "select count(*) from history"); n != strconv.Itoa(there) {
		t.Errorf("a vanilla server that replays the log has %s transactions, want %d", n, there)
	}
	b.check(t)
}

// vanilla returns a PostgreSQL that has replayed a whole log by itself.
func vanilla(t *testing.T, service *service, log string) *server {
	t.Helper()
	dir := workDir(t)
	data, archive := filepath.Join(dir, "data"), filepath.Join(dir, "archive")
	service.must(t, "postgres", "export", log, "--base", data, "--wal", archive)
	s := &server{data: data, socket: dir, port: freePort(t)}
	s.configure(t, "listen_addresses=''", fmt.Sprintf("port=%d", s.port), fmt.Sprintf("unix_socket_directories='%s'", dir), "synchronous_standby_names=''",
		fmt.Sprintf("restore_command='cp %s/%%f %%p'", archive), "recovery_target_timeline='latest'")
	run(t, "/usr/bin/env", "touch", filepath.Join(data, "recovery.signal"))
	s.start(t)
	c := connect(t, s.connString())
	for deadline := time.Now().Add(time.Minute); query(t, c, "select pg_is_in_recovery()")[0] == "t"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still in recovery")
		}
	}
	return s
}

// moment is an answer that was recorded, and where in the log.
type moment struct {
	position, at, lsn string
	answer            string
}

// lastLSN returns the LSN of a log's last entry.
func (s *service) lastLSN(t testing.TB, log string) string {
	t.Helper()
	var logs []struct {
		Name string `json:"log"`
		Last uint64 `json:"last_lsn"`
	}
	if err := json.Unmarshal([]byte(s.must(t, "log", "ls", "-o", "json")), &logs); err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		if l.Name == log {
			return strconv.FormatUint(l.Last, 10)
		}
	}
	t.Fatalf("no log %s", log)
	return ""
}

const answer = "select count(*), coalesce(sum(hashtext(t::text)), 0) from t"

// Data directories as of earlier positions and times hold what was there then.
func TestEarlierMoments(t *testing.T) {
	t.Parallel()
	service := newService(t)
	s := newServer(t, "max_prepared_transactions=5", "track_commit_timestamp=on")
	c := connect(t, s.connString())
	query(t, c, "create table t(i int primary key, v text); create table p(i int); create unlogged table u(i int primary key); insert into u select generate_series(1, 100); create sequence s")
	attach := service.attach(t, "past", s)
	var moments []moment
	for i, sql := range []string{
		"insert into t select g, md5(g::text) from generate_series(1, 3000) g",
		"update t set v = 'changed' where i % 7 = 0; select nextval('s')",
		"delete from t where i % 5 = 0",
		"create index on t(v); create table t2 as select * from t",
		"truncate t; insert into t values (1, 'after'); drop table t2",
	} {
		query(t, c, sql)
		if i == 2 {
			query(t, c, "vacuum t")
			query(t, c, "create database other")
			query(t, c, "begin; insert into p values (1); prepare transaction 'p'")
		}
		m := moment{position: query(t, c, "select pg_current_wal_insert_lsn()")[0], answer: query(t, c, answer)[0], lsn: service.lastLSN(t, "past")}
		time.Sleep(20 * time.Millisecond)
		m.at = query(t, c, "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")[0]
		moments = append(moments, m)
		time.Sleep(20 * time.Millisecond)
		query(t, c, "select txid_current(), pg_switch_wal()") // so that something follows
	}
	attach.stop()
	s.stop(t)
	end := service.lastLSN(t, "past")
	for i, m := range moments {
		for _, by := range [][2]string{{"--position", m.position}, {"--time", m.at}, {"--lsn", m.lsn}} {
			t.Run(fmt.Sprintf("%d%s", i, by[0]), func(t *testing.T) {
				node := openAt(t, service, "past", by[0], by[1])
				nc := connect(t, node.connString())
				if got := query(t, nc, answer)[0]; got != m.answer {
					t.Errorf("%s %s: %s, want %s", by[0], by[1], got, m.answer)
				}
				if n := query(t, nc, "select count(*) from u")[0]; n != "0" {
					t.Errorf("the unlogged table has %s rows, want 0", n)
				}
				if prepared := query(t, nc, "select count(*) from pg_prepared_xacts")[0]; (prepared == "1") != (i >= 2) {
					t.Errorf("%s prepared transactions", prepared)
				}
				if i >= 2 {
					query(t, nc, "commit prepared 'p'")
					if n := query(t, nc, "select count(*) from p")[0]; n != "1" {
						t.Errorf("the prepared transaction brought %s rows", n)
					}
				}
				query(t, nc, "insert into t values (-2, 'new')") // it is a server like any other
				query(t, nc, "vacuum")
				query(t, nc, "checkpoint")
			})
		}
	}
	t.Run("detached", func(t *testing.T) {
		node := startNode(t, service, "past", "--lsn", moments[1].lsn)
		if got := queryOne(t, node.conn, answer); got != moments[1].answer {
			t.Errorf("%s, want %s", got, moments[1].answer)
		}
		queryOne(t, node.conn, "with d as (delete from t returning 1) select count(*) from d") // nobody waits for it, and it is kept nowhere
	})
	for i, m := range moments {
		if i == 1 || i == 3 {
			t.Run(fmt.Sprintf("branch%d", i), func(t *testing.T) { branchAt(t, service, fmt.Sprintf("branch%d", i), m) })
		}
	}
	if last := service.lastLSN(t, "past"); last != end {
		t.Errorf("the log ended at LSN %s, its branches moved that to %s", end, last)
	}
}

// node is a compute node under test.
type node struct {
	process   *process
	data, dir string
	port      int
	conn      string
}

func startNode(t testing.TB, service *service, log string, flags ...string) *node {
	t.Helper()
	dir, port := workDir(t), freePort(t)
	n := &node{dir: dir, port: port, data: filepath.Join(dir, "pgdata"), conn: connString(dir, port)}
	n.process = service.background(t, append([]string{"postgres", "run", log, "--dir", dir, "--port", strconv.Itoa(port), "--socket-dir", dir, "--addr", service.addr}, flags...)...)
	n.process.waitFor(t, "ready:", 1)
	return n
}

// branchAt runs a node on a branch as of a moment: it has what was there then, keeps what is written to it,
// also when the node is killed, and its log is one that PostgreSQL itself replays, over the change of timeline.
func branchAt(t *testing.T, service *service, name string, m moment) {
	n := startNode(t, service, "past", "--branch", name, "--lsn", m.lsn)
	if got := queryOne(t, n.conn, answer); got != m.answer {
		t.Errorf("%s, want %s", got, m.answer)
	}
	c := connect(t, n.conn)
	query(t, c, "insert into t select g, 'branch' from generate_series(100001, 100500) g")
	want := query(t, c, answer)[0]
	killPostmaster(n.data)
	n.process.waitFor(t, "ready:", 2)
	if got := queryOne(t, n.conn, answer); got != want {
		t.Errorf("after the node was killed: %s, want %s", got, want)
	}
	if line := queryOne(t, n.conn, "select timeline_id from pg_control_checkpoint()"); line != "2" {
		t.Errorf("timeline %s, want 2", line)
	}
	allFromPages(t, n.process.output.String())
	n.process.stop()
	v := vanilla(t, service, name)
	if got := queryOne(t, v.connString(), answer); got != want {
		t.Errorf("a vanilla server that replays the branch: %s, want %s", got, want)
	}
	if out, err := service.try(t, "postgres", "run", "past", "--dir", n.dir, "--branch", name, "--lsn", m.lsn); err == nil || !contains(out, "exists") {
		t.Errorf("a branch made twice: %v\n%s", err, out)
	}
}

// fromPages says in the output of a command that the page server had what the data directory was made of.
const fromPages = "of the page server"

// allFromPages checks that every node that a command ran was made from pages.
func allFromPages(t *testing.T, out string) {
	t.Helper()
	if got, all := strings.Count(out, fromPages), strings.Count(out, "ready:"); got != all {
		t.Errorf("%d of %d nodes were made from pages:\n%s", got, all, tail([]byte(out)))
	}
}

// openAt starts a server on a data directory made as of some moment.
func openAt(t *testing.T, service *service, log string, flags ...string) *server {
	t.Helper()
	dir := workDir(t)
	s := &server{data: filepath.Join(dir, "data"), socket: dir, port: freePort(t)}
	if out := service.must(t, append([]string{"postgres", "basebackup", log, "--to", s.data}, flags...)...); !contains(out, fromPages) {
		t.Errorf("not made from pages:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(s.data, "backup_label")); err == nil {
		t.Error("there is a backup_label: the server would recover")
	}
	s.configure(t, fmt.Sprintf("port=%d", s.port), fmt.Sprintf("unix_socket_directories='%s'", dir), "synchronous_standby_names=''")
	if err := os.Remove(filepath.Join(s.data, "postgresql.auto.conf")); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if log := string(b); !contains(log, "database system was shut down at") || contains(log, "redo starts") {
		t.Errorf("the server recovered:\n%s", log)
	}
	return s
}
