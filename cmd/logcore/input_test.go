package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/s3test"
)

// Every command line that makes no sense is refused with exit code 2, names what is
// wrong, and says where help is.
func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		args string
		text string
	}{
		{"", "needs a command"},
		{"nonsense", `unknown command "nonsense"`},
		{"statis", "did you mean status?"},
		{"status extra", `unknown command "extra"`},
		{"status --nonsense", "unknown flag: --nonsense"},
		{"status -o yaml", "want one of table, json"},
		{"status --timeout soon", "invalid argument"},
		{"log", "needs a command: one of"},
		{"log nonsense", `unknown command "nonsense" for "logcore log"`},
		{"log info", "accepts 1 arg"},
		{"log read l --from 9 --to 3", "--to 3 is below --from 9"},
		{"log read l --from x", "invalid argument"},
		{"log append l -d x -f y", "give one of them"},
		{"page get db", "requires at least 2 arg"},
		{"page get db x", `"x" is no page number`},
		{"page get db 1 --lsn 4 --time 2026-01-01", "give one of them"},
		{"branch create a", "accepts 2 arg"},
		{"sqlite", "want NAME"},
		{"sqlite db import", "want NAME"},
		{"sqlite db nonsense f", "want NAME"},
		{"sqlite db improt f", "did you mean import?"},
		{"sqlite db --lsn 3 --time 2026-01-01", "give one of them"},
		{"dev", "--dir is required"},
		{"dev --dir /tmp/x --entry-bytes-max many", "is not a size"},
		{"restore", "--to DIR is required"},
		{"restore --to /tmp/x", "--targets"},
		{"restore --to /tmp/x --lsn 1 --time 2026-01-01", "give one of them"},
		{"restore --dir /tmp/x --lsn 1", "new directory with --to"},
		{"verify", "give --dir DIR"},
		{"verify --dir /nonexistent", "holds no LogCore service"},
		{"key generate", "accepts 1 arg"},
		{"demo --transactions 3", "want at least 100"},
	} {
		cli(t, strings.Fields(tc.args)...).want(t, exit.Usage, tc.text, "--help")
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, args := range []string{"--help", "help", "dev --help", "demo --help", "sqlite --help", "log --help", "log read --help", "page get --help",
		"branch create --help", "status --help", "target ls --help", "restore --help", "verify --help", "key generate --help", "version --help"} {
		cli(t, strings.Fields(args)...).want(t, exit.OK, "Usage:")
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, args := range []string{"status", "log ls", "sqlite db -c SELECT", "page get db 1", "target ls"} {
		cli(t, append(strings.Fields(args), "--addr", addr, "--timeout", "300ms")...).want(t, exit.Connect, addr, "nothing listens there", "logcore dev")
	}
	cli(t, "status", "--addr", "127.0.0.1").want(t, exit.Connect, "not HOST:PORT")
	cli(t, "status", "--addr", "nothing.invalid:7420", "--tls-ca", "system").want(t, exit.Connect, "no such host")
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cli(t, "status", "--addr", l.Addr().String(), "--timeout", "300ms").want(t, exit.Connect, "is the address right?")
}

// What a running service refuses: its code, and a message that names the thing.
func TestServiceRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	p := startDev(t, dir, "--entry-bytes-max", "64KiB")
	online := func(args ...string) result { return cli(t, append(args, "--addr", p.addr)...) }
	online("log", "append", "notes", "-d", "x").want(t, exit.OK)
	online("sqlite", "db", "-c", "CREATE TABLE t(x)").want(t, exit.OK)

	online("log", "info", "nothing").want(t, exit.Server, "log not found", `"nothing"`)
	online("log", "read", "nothing").want(t, exit.Server, "log not found")
	online("page", "get", "nothing", "0").want(t, exit.Server, "log not found")
	online("sqlite", "nothing", "--read-only", "-c", "SELECT 1").want(t, exit.Server, "log not found")
	online("log", "append", "bad name!", "-d", "x").want(t, exit.Server, "bad name!")
	online("sqlite", "bad name!", "-c", "SELECT 1").want(t, exit.Usage, "bad name!")
	online("branch", "create", "db", "db").want(t, exit.Server, "exists")

	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 64<<10+1), 0o600); err != nil {
		t.Fatal(err)
	}
	online("log", "append", "notes", "-f", big).want(t, exit.Failure, "too large", "65536")

	// In the future: a bounded wait, then how far it is behind.
	online("page", "get", "db", "0", "--lsn", "100000", "--timeout", "500ms").want(t, exit.Timeout, "100000", "in the future")
	online("sqlite", "db", "--lsn", "100000", "--timeout", "500ms", "-c", "SELECT 1").want(t, exit.Timeout, "100000", "in the future")
	online("log", "read", "notes", "--from", "100000", "--to", "100001").want(t, exit.Timeout, "100001", "in the future")
	online("sqlite", "db", "--time", "1999-01-01", "-c", "SELECT 1").want(t, exit.Server, "had no change yet at 1999-01-01", "first change is at LSN")
	online("sqlite", "db", "--time", "2999-01-01", "-c", "SELECT 1").want(t, exit.Usage, "in the future")
	online("sqlite", "dbb", "-c", "SELECT * FROM t").want(t, exit.Failure, "no such table: t", "log dbb does not exist")
	online("sqlite", "db", "--time", "yesterday", "-c", "SELECT 1").want(t, exit.Usage, "yesterday")

	online("sqlite", "db", "-c", "SELECT * FROM missing").want(t, exit.Failure, "no such table: missing")
	online("sqlite", "db", "--read-only", "-c", "INSERT INTO t VALUES(1)").want(t, exit.Failure, "readonly")
	online("sqlite", "db", "import", big, "--read-only").want(t, exit.Usage, "import writes")
	online("sqlite", "db", "import", big).want(t, exit.Failure, "not a database")

	// Offline commands keep away from a service that runs.
	cli(t, "log", "check", filepath.Join(dir, "logsvc", "shard-0")).want(t, exit.Failure, "in use")
	cli(t, "verify", "--dir", dir).want(t, exit.Failure, "in use")
	cli(t, "restore", "--dir", dir).want(t, exit.Failure, "logsvc")
	cli(t, "log", "dump", filepath.Join(dir, "nothing")).want(t, exit.Failure, "nothing")
	shard := filepath.Join(dir, "logsvc", "shard-0")
	cli(t, "log", "check", dir).want(t, exit.Usage, "no segment files", "did you mean "+shard+"?")
	cli(t, "log", "dump", filepath.Dir(shard)).want(t, exit.Usage, "did you mean "+shard+"?")
	cli(t, "log", "check", filepath.Join(dir, "targets")).want(t, exit.Usage, "no segment files in "+filepath.Join(dir, "targets"))

	// After all that nothing is lost and nothing is broken.
	online("status").want(t, exit.OK, "healthy")
	online("log", "read", "notes", "-o", "raw").want(t, exit.OK, "x")
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK)
}

// What keeps the service from starting: no port, not this machine, someone else's
// directory, a damaged key, a running twin.
func TestDevRefuses(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lc")
	p := startDev(t, dir)
	dev := func(dir string, args ...string) result {
		return cli(t, append([]string{"dev", "--dir", dir, "--metrics", ""}, args...)...)
	}
	dev(filepath.Join(root, "other"), "--listen", p.addr).want(t, exit.Failure, p.addr, "in use by another process", "another port")
	dev(filepath.Join(root, "other"), "--listen", "0.0.0.0:0").want(t, exit.Usage, "0.0.0.0", "loopback")
	dev(filepath.Join(root, "other"), "--listen", "127.0.0.1:0", "--metrics", "10.1.2.3:80").want(t, exit.Usage, "10.1.2.3", "loopback")
	dev(filepath.Join(root, "other"), "--listen", "127.0.0.1:0", "--metrics", p.addr).want(t, exit.Failure, p.addr, "in use by another process", "--metrics HOST:PORT")
	dev(filepath.Join(root, "other"), "--listen", "127.0.0.1:0", "--entry-bytes-max", "1").want(t, exit.Usage, "entry_bytes_max")
	dev(filepath.Join(root, "other"), "--listen", "127.0.0.1:0", "--targets", "dir:///a,dir:///b").want(t, exit.Usage, "2 targets: want 6")
	if _, err := os.Stat(filepath.Join(root, "other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused left a directory behind: %v", err)
	}
	dev(dir, "--listen", "127.0.0.1:0").want(t, exit.Failure, "in use")
	p.stop()

	foreign := filepath.Join(root, "foreign")
	if err := os.MkdirAll(filepath.Join(foreign, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	dev(foreign, "--listen", "127.0.0.1:0").want(t, exit.Usage, "photos", "new or empty")
	dev(filepath.Join(root, "bad"), "--listen", "127.0.0.1:0", "--targets", "ftp://x,dir://relative,dir:///c,dir:///d,dir:///e,dir:///f").want(t, exit.Usage, "ftp")
	if _, err := os.Stat(filepath.Join(root, "bad")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused left a directory behind: %v", err)
	}

	key := filepath.Join(dir, "key")
	flip(t, key, 60, 1)
	dev(dir, "--listen", "127.0.0.1:0").want(t, exit.Failure, key, "damaged", "restore it from your copy")
	flip(t, key, 60, 1)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	dev(dir, "--listen", "127.0.0.1:0").want(t, exit.Failure, key, "chmod 600")
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "logcore.yaml")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(good, "colour: blue\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	dev(dir, "--listen", "127.0.0.1:0").want(t, exit.Usage, "colour", "unknown key")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p = startDev(t, dir)
	p.stop()
}

// A file of a newer version is refused as such, never taken for damage and never
// touched.
func TestNewerVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	state := filepath.Join(dir, "logsvc", "shard-0", "raft.state")
	flipBoth := func() {
		for _, slot := range []int64{0, 4096} {
			flip(t, state, slot+6, 3) // min_reader_version 2 → 10
			flip(t, state, slot+4, 3) // format_version 2 → 10
		}
	}
	flipBoth()
	r := cli(t, "dev", "--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "").want(t, exit.Failure, "raft.state", "newer build")
	if strings.Contains(r.err, "corrupt") {
		t.Errorf("a newer version is called corrupt: %s", r.err)
	}
	flipBoth()
	startDev(t, dir).stop()
}

// The hot tier is gone and someone starts the service all the same: an empty log beside
// a full archive would be the beginning of another history.
func TestLostHotTierIsNotStartedEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	for _, gone := range []string{"logsvc/shard-0", "logsvc"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		cli(t, "dev", "--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "").want(t, exit.Failure, "holds no hot log", "logcore restore")
		cli(t, "restore", "--dir", dir).want(t, exit.OK, "lost         nothing", "logcore dev --dir")
		p := startDev(t, dir)
		cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT count(*) FROM t3").want(t, exit.OK, "2000")
		p.stop()
	}
}

// A lost cloud: the service starts and serves, and status says so with exit code 5.
func TestUnhealthy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "targets", "c1")); err != nil {
		t.Fatal(err)
	}
	p := startDev(t, dir)
	cli(t, "status", "--addr", p.addr).want(t, exit.Unhealthy, "c1", "healthy            false")
	cli(t, "target", "ls", "--addr", p.addr).want(t, exit.OK, "c1")
	cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT count(*) FROM t3").want(t, exit.OK, "2000")
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "not every target could be read", "c1")
}

func TestWrongS3Credentials(t *testing.T) {
	servers := s3test.StartTest(t, s3test.Options{Clouds: []string{"a", "b", "c"}, Buckets: []string{"bucket1", "bucket2"}})
	wrong := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(wrong, []byte("access_key = logcore-test\nsecret_key = wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"s3", "minio"} {
		var urls []string
		for i := range 6 {
			url := servers.URL(scheme, string("abc"[i/2]), fmt.Sprintf("bucket%d", 1+i%2), fmt.Sprintf("t%d", i+1))
			urls = append(urls, strings.ReplaceAll(url, strings.ReplaceAll(servers.CredentialsFile(), "/", "%2F"), strings.ReplaceAll(wrong, "/", "%2F")))
		}
		dir := filepath.Join(t.TempDir(), "lc")
		cli(t, "dev", "--dir", dir, "--listen", "127.0.0.1:0", "--metrics", "", "--targets", strings.Join(urls, ",")).want(t, exit.Permission, "t1", "access denied")
		key := filepath.Join(t.TempDir(), "key")
		cli(t, "key", "generate", key).want(t, exit.OK, key)
		cli(t, "restore", "--to", dir, "--key", key, "--targets", strings.Join(urls, ",")).want(t, exit.Permission, "t1", "access denied")
	}
}
