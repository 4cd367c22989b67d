//go:build postgres

package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// A vanilla standby that stopped at a position has the same files as the directory made as
// of it: relations page by page, after masking, and the logs of transaction status byte by byte.
func TestStandbyAsOracle(t *testing.T) {
	t.Parallel()
	service := newService(t)
	s := newServerOf(t, []string{"--data-checksums"}, "max_prepared_transactions=5", "track_commit_timestamp=on", "wal_keep_size=10GB", "autovacuum_naptime=1s",
		"wal_consistency_checking='hash,gin,gist,spgist,brin'")
	c := connect(t, s.connString())
	query(t, c, "create table begin(i int)")
	standby := filepath.Join(workDir(t), "data")
	run(t, binaries+"pg_basebackup", "-D", standby, "-h", s.socket, "-p", fmt.Sprint(s.port), "-U", "postgres", "-X", "none", "--checkpoint=fast", "--no-sync")
	attach := service.attach(t, "oracle", s)
	workload(t, c)
	query(t, c, "checkpoint") // so that the standby writes its pages when it stops
	end := query(t, c, "select pg_create_restore_point('end')")[0]
	query(t, c, "select txid_current()")
	query(t, c, "select pg_switch_wal()")
	query(t, c, "select txid_current()")

	o := &server{data: standby, socket: filepath.Dir(standby), port: freePort(t)}
	o.configure(t, fmt.Sprintf("port=%d", o.port), fmt.Sprintf("unix_socket_directories='%s'", o.socket), "synchronous_standby_names=''", "hot_standby=off",
		fmt.Sprintf("restore_command='cp %s/pg_wal/%%f %%p'", s.data), "recovery_target_name='end'", "recovery_target_action='shutdown'")
	run(t, "/usr/bin/env", "touch", filepath.Join(standby, "recovery.signal"))
	runUntilItStops(t, o)
	attach.stop()
	s.stop(t)

	ours := filepath.Join(workDir(t), "data")
	if out := service.must(t, "postgres", "basebackup", "oracle", "--to", ours, "--position", end); !contains(out, fromPages) {
		t.Errorf("not made from pages:\n%s", out)
	}
	run(t, binaries+"pg_checksums", "--check", "-D", ours)
	compareClusters(t, standby, ours)
}

// workload does something of everything.
func workload(t *testing.T, c *pgconn.PgConn) {
	t.Helper()
	for _, sql := range []string{
		"create table a(i int primary key, v text, p point)",
		"insert into a select g, md5(g::text), point(g, g) from generate_series(1, 6000) g",
		"create index on a(v)", "create index on a using gin (string_to_array(v, 'a'))", "create index on a using hash (i)",
		"create index on a using brin (i)", "create index on a using gist (p)", "create index on a using spgist (p)",
		"delete from a where i % 3 = 0", "vacuum a", "update a set v = v || 'x' where i % 4 = 0",
		"insert into a select g, md5(g::text), point(g, -g) from generate_series(6001, 7000) g",
		"cluster a using a_pkey",
		"begin; savepoint s; update a set v = 'sub' where i < 100; release s; insert into a values (-1, 'q', null); prepare transaction 'kept'",
		"begin; delete from a where i = 200; prepare transaction 'gone'", "rollback prepared 'gone'",
		"begin; select 1 from a where i = 400 for key share; savepoint s; update a set v = 'm' where i = 400; rollback to s; commit",
		"create table dropped as select * from a", "drop table dropped",
		"create table cut as select * from a", "delete from cut where i > 100", "vacuum cut", "vacuum full cut", "truncate cut",
		"create unlogged table u(i int primary key)", "create sequence s", "select nextval('s')",
		"create database other", "create database copied strategy file_copy", "drop database copied",
		"vacuum freeze a", "analyze",
		"do $$ begin for i in 1..500 loop insert into a values (-1000 - i, 'loop', null); if i % 2 = 0 then commit; else rollback; end if; end loop; end $$",
	} {
		query(t, c, sql)
	}
}

func runUntilItStops(t *testing.T, s *server) {
	t.Helper()
	cmd := asPostgres(t, exec.CommandContext(t.Context(), binaries+"postgres", "-D", s.data))
	out, err := cmd.CombinedOutput()
	if !contains(string(out), "recovery stopping at restore point") {
		t.Fatalf("the standby: %v\n%s", err, tail(out))
	}
}

var relationName = regexp.MustCompile(`^[0-9]+(_vm|_init)?(\.[0-9]+)?$`)

// compareClusters compares the files of two data directories.
func compareClusters(t *testing.T, theirs, ours string) {
	t.Helper()
	pages, files := 0, 0
	for _, top := range []string{"base", "global", "pg_tblspc", "pg_xact", "pg_commit_ts", "pg_multixact"} {
		err := filepath.WalkDir(filepath.Join(theirs, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(theirs, path)
			if err != nil {
				return err
			}
			name := d.Name()
			relation := relationName.MatchString(name) && !strings.HasPrefix(top, "pg_x") && !strings.HasPrefix(top, "pg_c") && !strings.HasPrefix(top, "pg_m")
			if !relation && (top == "base" || top == "global" || top == "pg_tblspc") && name != "pg_filenode.map" {
				return nil
			}
			a, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(filepath.Join(ours, rel))
			if err != nil && !(os.IsNotExist(err) && len(bytes.Trim(a, "\x00")) == 0) {
				t.Errorf("%s is missing", rel)
				return nil
			}
			files++
			if !relation {
				if n := min(len(a), len(b)); !bytes.Equal(a[:n], b[:n]) || len(bytes.Trim(a[n:], "\x00")) > 0 || len(bytes.Trim(b[n:], "\x00")) > 0 {
					t.Errorf("%s differs", rel)
				}
				return nil
			}
			pages += comparePages(t, rel, a, b)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d files and %d pages compared", files, pages)
	if pages < 2000 || files < 300 {
		t.Errorf("%d files and %d pages, want 300 and 2,000", files, pages)
	}
}

// What GiST and hash pages end with; a B-tree's have a number of vacuums there, which is less.
const (
	hashMark = 0xFF80
	gistMark = 0xFF81
)

// comparePages compares a relation file's pages as the server's own check does. The masks of heap
// and B-tree are for their pages only; which a page is its special area tells.
func comparePages(t *testing.T, rel string, a, b []byte) int {
	t.Helper()
	if len(a) != len(b) && len(bytes.Trim(a[min(len(a), len(b)):], "\x00")) > 0 {
		t.Errorf("%s has %d bytes, want %d", rel, len(b), len(a))
		return 0
	}
	n := min(len(a), len(b)) / page.Bytes
	for i := range n {
		x, y := page.Page(a[i*page.Bytes:(i+1)*page.Bytes]), page.Page(b[i*page.Bytes:(i+1)*page.Bytes])
		if bytes.Equal(x, y) {
			continue
		}
		if strings.Contains(rel, "_vm") {
			x.SetLSN(0)
			y.SetLSN(0)
		} else {
			m := wal.ManagerGeneric
			switch page.Bytes - x.Special() {
			case 0:
				m = wal.ManagerHeap
			case 16:
				if id := binary.LittleEndian.Uint16(x[page.Bytes-2:]); id != gistMark && id != hashMark {
					m = wal.ManagerBtree
				}
			}
			redo.Mask(m, x, uint32(i))
			redo.Mask(m, y, uint32(i))
		}
		if !bytes.Equal(x, y) {
			at := 0
			for x[at] == y[at] {
				at++
			}
			t.Errorf("%s: page %d (special area %d bytes) differs from byte %d on:\nwant LSN %v, %x\n got LSN %v, %x", rel, i, page.Bytes-x.Special(), at,
				wal.Position(page.Page(a[i*page.Bytes:]).LSN()), x[at:min(at+64, page.Bytes)], wal.Position(page.Page(b[i*page.Bytes:]).LSN()), y[at:min(at+64, page.Bytes)])
		}
	}
	return n
}
