package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/internal/exit"
)

// openTerminal returns both ends of a new pseudo-terminal.
func openTerminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// The interactive shell on a real terminal: a statement over two lines, an error that
// does not end it, dot commands.
func TestInteractiveShell(t *testing.T) {
	p := startDev(t, filepath.Join(t.TempDir(), "lc"))
	near, far := openTerminal(t)
	cmd := exec.Command(filepath.Join(binaries, "logcore"), "sqlite", "db", "--addr", p.addr)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = far, far, far
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	far.Close()
	said := make(chan string, 64)
	go func() {
		defer close(said)
		buf := make([]byte, 4096)
		for {
			n, err := near.Read(buf)
			if n > 0 {
				said <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	var all strings.Builder
	expect := func(text string) {
		t.Helper()
		from := all.Len()
		deadline := time.After(30 * time.Second)
		for !strings.Contains(all.String()[max(0, from-len(text)):], text) {
			select {
			case s, open := <-said:
				if !open {
					t.Fatalf("the shell ended without saying %q:\n%s", text, all.String())
				}
				all.WriteString(s)
			case <-deadline:
				t.Fatalf("the shell does not say %q:\n%s", text, all.String())
			}
		}
	}
	say := func(line string) {
		t.Helper()
		if _, err := near.WriteString(line + "\r"); err != nil {
			t.Fatal(err)
		}
	}
	expect("logcore> ")
	say("CREATE TABLE t(name);")
	say("INSERT INTO t")
	expect("    ...> ")
	say("VALUES('tea');")
	say("SELECT nonsense FROM t;")
	expect("no such column: nonsense")
	say(".mode csv")
	say("SELECT name||'!' AS n FROM t;")
	expect("tea!")
	say(".quit")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the shell ended with %v\n%s", err, all.String())
	}
	cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT name FROM t").want(t, exit.OK, "tea")
}
