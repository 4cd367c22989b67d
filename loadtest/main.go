// Command loadtest puts load on a LogCore service, measures it, and checks afterwards that
// nothing that was acknowledged is missing.
//
//	go run ./loadtest append --addr 127.0.0.1:7070 --logs 4 --inflight 256 --duration 10s --verify --json
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes: what was acknowledged is what counts.
const (
	exitOK      = 0
	exitWrong   = 1 // verification found something missing or wrong
	exitUsage   = 2
	exitNotDone = 3 // the load could not be carried out
)

// codedError says which exit code an error means.
type codedError struct {
	code int
	err  error
}

func (e codedError) Error() string { return e.err.Error() }
func (e codedError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	root := &cobra.Command{Use: "loadtest", Short: "Put load on a LogCore service and check what it acknowledged", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(appendCommand(), tieringChaosCommand(), tieringBenchCommand(), pageBenchCommand())
	root.SetArgs(args)
	root.AddCommand(benchCommand(), echoCommand(), replicationChaosCommand())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "loadtest:", err)
	if coded, ok := err.(codedError); ok {
		return coded.code
	}
	return exitUsage
}
