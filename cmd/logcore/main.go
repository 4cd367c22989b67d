// Command logcore is LogCore's command line: it runs the whole service on one
// machine, reads and writes logs, pages and SQLite databases, restores everything
// from the archive, and verifies every byte of it.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/logcore/logcore/internal/timerslack"
)

func main() {
	if serves(os.Args[1:]) {
		_ = timerslack.Widen() // or it runs with more wake-ups
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}, os.Getenv)
	stop()
	os.Exit(int(code))
}

// serves reports whether a command goes on as long as there is something to serve: a whole service, or what passes a server's commits on.
func serves(args []string) bool {
	for _, command := range [][]string{{"dev"}, {"postgres", "run"}, {"postgres", "attach"}} {
		if len(args) >= len(command) && slices.Equal(args[:len(command)], command) {
			return true
		}
	}
	return false
}
