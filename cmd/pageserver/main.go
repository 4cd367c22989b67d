// Command pageserver is the page server's daemon: it follows the logs of a log service
// and serves any page of them at any LSN.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(int(code))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) exit.Code {
	cfg := config.DefaultPageServer()
	return roles.Daemon{
		Name:   "pageserver",
		Short:  "Serve pages at any LSN from the logs of a log service",
		Config: cfg,
		Logger: func(w io.Writer) *slog.Logger { return cfg.Logger(w) },
		Start: func(ctx context.Context, log *slog.Logger) (roles.Running, error) {
			return roles.StartPageServer(ctx, cfg, roles.Version(), log)
		},
	}.Run(ctx, args, stdout, stderr, getenv)
}
