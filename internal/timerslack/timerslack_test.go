package timerslack_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/internal/timerslack"
)

// asProgram in the environment makes the test binary a program that widens its slack and says how it is then.
const asProgram = "LOGCORE_TIMERSLACK_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	err := timerslack.Widen()
	// The monitor is the first thread that the runtime creates. It can't be asked; threads that come later have the same.
	slacks := make(chan string)
	for range 4 {
		go func() {
			slack, err := timerslack.Get()
			slacks <- fmt.Sprint(slack, err)
		}()
		fmt.Println(<-slacks)
	}
	fmt.Println(err, os.Getpid(), os.Args[1:])
}

// TestWiden: a program that widens its slack has it in every thread, and is the same process with the same arguments;
// it does so once only.
func TestWiden(t *testing.T) {
	runtime.LockOSThread() // a child has the slack of the thread that starts it
	defer runtime.UnlockOSThread()
	for _, before := range []time.Duration{50 * time.Microsecond, 2 * timerslack.Wide} {
		cmd := exec.Command(os.Args[0], "some", "arguments of it")
		cmd.Env = append(os.Environ(), asProgram+"=1")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %v\n%s", before, err, &out)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		last := lines[len(lines)-1]
		if want := fmt.Sprintf("<nil> %d [some arguments of it]", pid); last != want {
			t.Errorf("%v: it says %q, want %q", before, last, want)
		}
		for _, l := range lines[:len(lines)-1] {
			if want := fmt.Sprint(max(before, timerslack.Wide), error(nil)); l != want {
				t.Errorf("%v: a thread has the slack %s, want %s", before, l, want)
			}
		}
	}
}
