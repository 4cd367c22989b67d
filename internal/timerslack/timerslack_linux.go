// Package timerslack lets a service's short sleeps take longer, so that fewer of them are had.
//
// Go's runtime has a monitor thread that sleeps 20 µs at a time while the process does anything, wakes up, looks whether some
// other thread has blocked in a system call, and sleeps again. With the kernel's usual timer slack, 50 µs, it wakes up
// about 10,000 times a second: of a service that commits one small append after the other that is a fifth to a third of its processor
// time, and each time it may keep the thread waiting that an answer depends on. What it finds out, it finds out early enough with
// every few hundred microseconds too.
//
// The slack belongs to each thread, which has it from the thread that created it, and the monitor is created before any
// code of the program runs. What is kept across exec is the slack of the thread that calls it; so a program that wants another
// slack executes itself once.
package timerslack

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Wide is the slack that a service has: well below what any of its timers is about.
const Wide = 400 * time.Microsecond

// Get returns the calling thread's timer slack.
func Get() (time.Duration, error) {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("timerslack: prctl: %w", err)
	}
	return time.Duration(ns), nil
}

// Widen gives every thread of this process a timer slack of at least Wide. Where it is less the process executes its own program
// again, with the same arguments, environment and process id, and Widen does not return: call it before
// anything else. It returns an error when that can't be done; the process goes on with the slack that it has.
func Widen() error {
	runtime.LockOSThread() // it is this thread's slack that is kept
	defer runtime.UnlockOSThread()
	before, err := Get()
	if err != nil || before >= Wide {
		return err
	}
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("timerslack: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(Wide), 0, 0, 0); err != nil {
		return fmt.Errorf("timerslack: prctl: %w", err)
	}
	// A kernel that takes the value and does not keep it would have the process execute itself for ever.
	if now, err := Get(); err != nil || now < Wide {
		return fmt.Errorf("timerslack: it is %v and stays so: %w", now, err)
	}
	err = syscall.Exec(path, os.Args, os.Environ())
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0) // as it was: it is this thread's alone
	return fmt.Errorf("timerslack: execute %s: %w", path, err)
}
