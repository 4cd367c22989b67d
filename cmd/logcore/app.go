package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

// stdio is where a command reads and writes.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// app is what the commands share: the process's surroundings and the common flags.
type app struct {
	stdio
	getenv func(string) string

	addr       string          // --addr
	pageAddr   string          // --page-addr
	tls        client.TLSFiles // --tls-ca, --tls-cert, --tls-key
	timeout    time.Duration   // --timeout
	format     string          // -o
	progress   bool            // --progress
	jsonOutput bool            // --json of the demo
}

// run executes one command line and returns its exit code; the message of an error
// is on io.err by then.
func run(ctx context.Context, args []string, io stdio, getenv func(string) string) exit.Code {
	a := &app{stdio: io, getenv: getenv}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exit.OK
	}
	code := exit.Of(err)
	if !errors.Is(err, errReported) {
		fmt.Fprintf(io.err, "logcore: %s\n", strings.TrimPrefix(err.Error(), "logcore: "))
	}
	if errors.Is(err, client.ErrNotOffered) {
		fmt.Fprintln(io.err, a.notOffered(err))
	}
	switch code {
	case exit.Usage:
		fmt.Fprintf(io.err, "see: %s --help\n", cmd.CommandPath())
	case exit.Connect:
		fmt.Fprintf(io.err, "start a service with `logcore dev --dir DIR`, or name another with --addr HOST:PORT (LOGCORE_ADDR)\n")
	}
	return code
}

// notOffered says which address has what is missing at the one that was asked.
func (a *app) notOffered(err error) string {
	switch {
	case !strings.Contains(err.Error(), "PageService"):
		return a.addr + " is no log service; a page server has only pages: name the log service with --addr HOST:PORT (LOGCORE_ADDR), the page server with --page-addr"
	case a.pageAddr == "" || a.pageAddr == a.addr:
		return a.addr + " is a log service; pages come from a page server: name it with --page-addr HOST:PORT (LOGCORE_PAGE_ADDR)"
	}
	return a.pageAddr + " is no page server: name it with --page-addr HOST:PORT (LOGCORE_PAGE_ADDR)"
}

// errReported marks an error whose whole story is on stdout or stderr already.
var errReported = errors.New("reported")

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "logcore",
		Short: "The log is the database: append, archive over several clouds, materialise, recover",
		Long: `The log is the database: LogCore makes transactions durable in a log, archives it
encrypted and erasure-coded over several clouds, and serves any page at any LSN from it.

Begin with  logcore dev --dir ./lc  in one terminal and  logcore sqlite mydb  in another.

Exit codes: 0 ok, 1 error, 2 usage, 3 cannot connect, 4 the server answered with an error,
5 unhealthy, 6 integrity failure, 7 timeout, 8 permission.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.With(exit.Usage, err) })
	for _, c := range []*cobra.Command{
		a.devCommand(), a.demoCommand(), a.demoWriterCommand(), a.sqliteCommand(), a.postgresCommand(), a.logCommand(), a.pageCommand(), a.branchCommand(),
		a.statusCommand(), a.clusterCommand(), a.targetCommand(), a.recodeCommand(), a.scrubCommand(), a.compactCommand(), a.retentionCommand(), a.holdCommand(), a.manifestCommand(), a.restoreCommand(), a.verifyCommand(), a.keyCommand(), a.versionCommand(),
	} {
		root.AddCommand(c)
	}
	strict(root)
	return root
}

// strict makes every command refuse what it does not know with exit code 2: a group
// demands one of its commands, a command only the arguments it declares.
func strict(cmd *cobra.Command) {
	if !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return exit.Usagef("unknown command %q for %q%s", args[0], c.CommandPath(), suggest(c, args[0]))
			}
			return exit.Usagef("%q needs a command: one of %s", c.CommandPath(), strings.Join(subcommands(c), ", "))
		}
	} else {
		validate := cmd.Args
		if validate == nil {
			validate = cobra.NoArgs
		}
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := validate(c, args); err != nil {
				return exit.Usagef("%w; usage: %s", err, c.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

func subcommands(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

func suggest(cmd *cobra.Command, typed string) string {
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if names := cmd.SuggestionsFor(typed); len(names) > 0 {
		return "; did you mean " + strings.Join(names, " or ") + "?"
	}
	return ""
}
