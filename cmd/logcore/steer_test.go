package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
)

// A running service is given another target, and lets one go; what can't be met is refused
// with what would help, before anything moves. After a restart it is all still so.
func TestSteerTheArchiveLive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	p := startDev(t, dir)
	at := []string{"--addr", p.addr}
	run := func(args ...string) result { t.Helper(); return cli(t, append(args, at...)...) }
	run("target", "remove", "b1").want(t, exit.Server, "c", "target add")
	run("target", "remove", "nothing").want(t, exit.Server, `"nothing"`, "a1, a2")
	run("target", "evacuate", "nothing").want(t, exit.Server, `"nothing"`)
	run("recode", "--k", "6", "--m", "3").want(t, exit.Server, "6+3", "add 3 more")
	run("recode", "--k", "0", "--m", "3").want(t, exit.Server, "0+3")
	run("recode", "--k", "3").want(t, exit.Usage, "--m")
	run("target", "add", "dir://relative").want(t, exit.Usage, "absolute")
	run("target", "add", "dir://"+filepath.Join(dir, "targets", "elsewhere")+"?name=a1").want(t, exit.Server, "a1")
	run("target", "add", "dir://"+filepath.Join(dir, "targets", "a1")+"?name=a1").want(t, exit.OK, "a1 is added") // it is
	other := filepath.Join(t.TempDir(), "full")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "photos.tar"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("target", "add", "dir://"+other+"?name=x1&provider=x").want(t, exit.Server, "not empty", "photos.tar")
	added := filepath.Join(t.TempDir(), "d1")
	run("target", "add", "dir://"+added+"?name=d1&provider=d&storage=0.02").want(t, exit.OK, "d1 is added")
	run("target", "evacuate", "b1").want(t, exit.OK, "b1")
	run("target", "remove", "b1").want(t, exit.OK, "b1")
	run("target", "remove", "b1").want(t, exit.OK, "b1") // again: nothing is left to do
	run("target", "add", "dir://"+filepath.Join(dir, "targets", "b1")+"?name=b1").want(t, exit.Server, "was removed")
	run("target", "remove", "b2").want(t, exit.Server, "add")
	run("recode", "--k", "3", "--m", "2", "--wait").want(t, exit.OK, "3+2")
	run("scrub").want(t, exit.OK, "0 repaired", "end of the archive")
	run("scrub", "--bytes", "1").want(t, exit.Server, "too small")
	run("scrub", "--money", "-1").want(t, exit.Usage, "--money")
	ls := run("target", "ls")
	ls.want(t, exit.OK, "d1", "conditional-put", "range", "read-after-write")
	if strings.Contains(ls.out, "b1 ") {
		t.Errorf("the removed target is shown:\n%s", ls.out)
	}
	run("status").want(t, exit.OK, "3+2", "archive RPO", "2000 ms allowed", "a day: storage", "without prices: a1")
	p.stop()
	p = startDev(t, dir)
	at = []string{"--addr", p.addr}
	run("target", "ls").want(t, exit.OK, "d1")
	run("status").want(t, exit.OK, "3+2")
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
}

// The same with the service stopped.
func TestSteerTheArchiveOffline(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	off := func(args ...string) result {
		t.Helper()
		return cli(t, append(args, "--offline", "--dir", dir)...)
	}
	cli(t, "target", "remove", "b1", "--dir", dir).want(t, exit.Usage, "--offline")
	off("target", "remove", "b1").want(t, exit.Usage, "target add")
	off("target", "remove", "nothing").want(t, exit.Usage, `"nothing"`)
	off("recode", "--k", "6", "--m", "3").want(t, exit.Usage, "add 3 more")
	added := filepath.Join(t.TempDir(), "d1")
	off("target", "add", "dir://"+added+"?name=d1&provider=d").want(t, exit.OK, "d1 is added")
	off("target", "remove", "b1").want(t, exit.OK, "b1")
	off("recode", "--k", "4", "--m", "1").want(t, exit.Usage, "provider")
	off("recode", "--k", "2", "--m", "2").want(t, exit.OK, "2+2")
	off("scrub").want(t, exit.OK, "end of the archive")
	p := startDev(t, dir)
	cli(t, "target", "ls", "--addr", p.addr).want(t, exit.OK, "d1")
	cli(t, "status", "--addr", p.addr).want(t, exit.OK, "2+2")
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
}

// Retention, holds and compaction: what is set is shown, what makes no sense refused.
func TestRetentionAndHolds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	p := startDev(t, dir)
	run := func(args ...string) result { t.Helper(); return cli(t, append(args, "--addr", p.addr)...) }
	const name = "db"
	run("retention", "set", name, "90d").want(t, exit.OK, name, "2160h")
	run("retention", "set", "--all", "36h").want(t, exit.OK, "(every log)", "36h")
	run("retention", "set", name, "1s").want(t, exit.Server, "at least")
	run("retention", "set", name, "soon").want(t, exit.Usage, "90d")
	run("retention", "set", "90d").want(t, exit.Usage, "--all")
	run("retention", "set", "no-such-log", "90d").want(t, exit.Server, "no-such-log")
	run("retention", "lock", "30d").want(t, exit.OK, "locked for 720h")
	run("retention", "lock", "forever").want(t, exit.Usage, "none")
	run("retention", "lock", "none").want(t, exit.OK)
	run("hold", "add", name, "case 17").want(t, exit.OK, "case 17")
	run("hold", "add", "case 17").want(t, exit.Usage, "--all")
	run("hold", "ls").want(t, exit.OK, "case 17")
	run("compact", "--dry-run").want(t, exit.OK, "would be erased", "0 entries")
	run("compact").want(t, exit.OK, "saved")
	run("hold", "release", name).want(t, exit.OK, name)
	run("retention", "set", name, "forever").want(t, exit.OK, "36h")
	p.stop()
}

// A manifest that is lost on every target is rebuilt from the fragments; one that is there is
// let be.
func TestManifestRebuild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	cli(t, "manifest", "rebuild", "--dir", dir).want(t, exit.Usage, "verify --repair")
	found, err := filepath.Glob(filepath.Join(dir, "targets", "*", "lc1-*", "*", "manifest"))
	if err != nil || len(found) != 6 {
		t.Fatal(found, err)
	}
	for _, path := range found {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	cli(t, "verify", "--dir", dir).want(t, exit.Integrity)
	cli(t, "manifest", "rebuild", "--dir", dir).want(t, exit.OK, "rebuilt from", "signed anew", "under hold")
	p := startDev(t, dir)
	for deadline := time.Now().Add(time.Minute); cli(t, "status", "--addr", p.addr).code != exit.OK && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	cli(t, "hold", "ls", "--addr", p.addr).want(t, exit.OK, "rebuilt")
	cli(t, "sqlite", "db", "--addr", p.addr, "-c", "SELECT count(*) FROM t1").want(t, exit.OK, "2000")
	p.stop()
	cli(t, "verify", "--dir", dir).want(t, exit.OK, "every byte is what was written")
}

// What can't be met is refused before a new service is made.
func TestPlacementAtTheBeginning(t *testing.T) {
	base := t.TempDir()
	var urls []string
	for _, name := range []string{"t1", "t2", "t3", "t4", "t5", "t6"} {
		urls = append(urls, "dir://"+filepath.Join(base, name)+"?provider=one")
	}
	dir := filepath.Join(base, "lc")
	cli(t, "dev", "--dir", dir, "--targets", strings.Join(urls, ",")).want(t, exit.Usage, `"one"`, "provider=")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s was made: %v", dir, err)
	}
}

// An auditor gets public keys.
func TestKeyPublic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	cli(t, "key", "generate", path).want(t, exit.OK)
	cli(t, "key", "public", path).want(t, exit.OK, "PUBLIC KEY")
	cli(t, "key", "public", path+"x").want(t, exit.Failure, "key file")
}

// An auditor with a public key proves an archive that he can't read; with another key he is
// told whose it is.
func TestVerifyWithAPublicKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lc")
	smallDatabase(t, dir)
	fields := strings.Fields(cli(t, "key", "public", filepath.Join(dir, "key")).out)
	public := fields[len(fields)-1]
	var urls []string
	for _, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		urls = append(urls, "dir://"+filepath.Join(dir, "targets", name)+"?name="+name)
	}
	targets := strings.Join(urls, ",")
	cli(t, "verify", "--targets", targets, "--public-key", public).want(t, exit.OK, "every byte is what was written")
	cli(t, "verify", "--targets", targets, "--public-key", strings.Repeat("ab", 32)).want(t, exit.Failure, "unknown key", public)
	cli(t, "verify", "--targets", targets, "--public-key", "abc").want(t, exit.Usage, "hexadecimal")
	cli(t, "verify", "--dir", dir, "--public-key", public).want(t, exit.Usage, "--targets")
}
