package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
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
	// within reports whether the shell says text before d has passed.
	within := func(text string, d time.Duration) bool {
		t.Helper()
		from := all.Len()
		deadline := time.After(d)
		for !strings.Contains(all.String()[max(0, from-len(text)):], text) {
			select {
			case s, open := <-said:
				if !open {
					t.Fatalf("the shell ended without saying %q:\n%s", text, all.String())
				}
				all.WriteString(s)
			case <-deadline:
				return false
			}
		}
		return true
	}
	expect := func(text string) {
		t.Helper()
		if !within(text, 30*time.Second) {
			t.Fatalf("the shell does not say %q:\n%s", text, all.String())
		}
	}
	say := func(line string) {
		t.Helper()
		if _, err := near.WriteString(line + "\r"); err != nil {
			t.Fatal(err)
		}
	}
	press := func(keys string) {
		t.Helper()
		if _, err := near.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	// signals waits until Ctrl-C is a signal, no key: no line is edited.
	signals := func() {
		t.Helper()
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			state, err := unix.IoctlGetTermios(int(near.Fd()), unix.TCGETS)
			if err != nil || time.Since(began) > 30*time.Second {
				t.Fatalf("the terminal stays raw: %v", err)
			}
			if state.Lflag&unix.ISIG != 0 {
				return
			}
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

	// Ctrl-C drops what is typed, and ends a statement that runs.
	say("SELECT 'half'")
	expect("    ...> ")
	press("more\x03")
	expect("^C")
	say("SELECT 'still '||'here';")
	expect("still here")
	expect("logcore> ") // the terminal is raw now: Ctrl-C would else take the next line with it
	say("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n;")
	// The terminal also takes signals in the moment before the statement runs, when
	// Ctrl-C means nothing: a person presses it again.
	for tries := 0; ; tries++ {
		signals()
		press("\x03")
		if within("interrupted", time.Second) {
			break
		}
		if tries == 30 {
			t.Fatalf("Ctrl-C does not end the statement:\n%s", all.String())
		}
	}
	say("SELECT 'and '||'goes on';")
	expect("and goes on")

	// What people bring along from other shells.
	say(`\d`)
	expect(".tables and .schema")
	say("BEGIN; INSERT INTO t VALUES('cup');")
	say("exit")
	expect("open transaction rolled back")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the shell ended with %v\n%s", err, all.String())
	}
	cli(t, "sqlite", "db", "--addr", p.addr, "-o", "csv", "-c", "SELECT name FROM t").want(t, exit.OK, "name\ntea\n")
}
