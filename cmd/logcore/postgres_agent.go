package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/logcore/logcore/client"
)

// patience is how long an agent beside a PostgreSQL server tries to reach LogCore again. Meanwhile commits
// wait, and what was sent goes into the log once, under the numbers it has.
const patience = 7 * 24 * time.Hour

// dialPatiently is dial for an agent that outlives outages of the service.
func (a *app) dialPatiently(ctx context.Context) (*client.Client, error) {
	wait := min(a.timeout, 5*time.Second)
	if err := a.reachable(ctx, a.addr, wait); err != nil {
		return nil, err
	}
	return client.Dial(ctx, client.Options{Addr: a.addr, PageAddr: a.pageAddr, TLSFiles: a.tls, Timeout: a.timeout, DialTimeout: wait, RetryFor: patience, Logger: agentLog(a)})
}

// agentLog is where an agent tells what an operator should know.
func agentLog(a *app) *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelInfo}))
}
