// Command logsvc is the hot tier's daemon: it orders entries, makes them durable and
// archives them.
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
	"github.com/logcore/logcore/internal/timerslack"
)

func main() {
	_ = timerslack.Widen() // or it runs with more wake-ups
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(int(code))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) exit.Code {
	cfg := config.DefaultLogService()
	return roles.Daemon{
		Name:   "logsvc",
		Short:  "Serve logs: order entries, make them durable, archive them",
		Config: cfg,
		Logger: func(w io.Writer) *slog.Logger { return cfg.Logger(w) },
		Start: func(ctx context.Context, log *slog.Logger) (roles.Running, error) {
			return roles.StartLogService(ctx, cfg, roles.Version(), log)
		},
	}.Run(ctx, args, stdout, stderr, getenv)
}
