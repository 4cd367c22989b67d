package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/receiver"
	"github.com/logcore/logcore/internal/pause"
)

// attachRetryEvery is how long to wait after a lost connection to the PostgreSQL server.
const attachRetryEvery = time.Second

// attachStayEvery is how long to wait when the server, or the log, is refused, and --stay says to go on.
const attachStayEvery = 10 * time.Second

type attachFlags struct {
	server, standby, slot, metrics string
	takeover, stay                 bool
}

func (a *app) attachCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach LOG",
		Short: "Follow a running PostgreSQL server and keep its WAL in a log",
		Long: `Follow a running PostgreSQL 15 server and keep its write-ahead log in LOG, which is made when it
does not exist. To the server this is a physical standby. Nothing is installed in it; it needs
wal_level=replica, a role with the REPLICATION attribute, and a line in pg_hba.conf that lets it in.

A new log begins with a base backup. With  synchronous_standby_names = 'logcore'  each commit waits until
LogCore has made it durable; without it, a warning says that what was committed last can be lost.

Runs until it is interrupted. A lost connection to the server is made again, and so is one to
LogCore: meanwhile commits wait, and none is lost. It ends, with the reason, when the server is another
database cluster than the log's, went another way before the log's end, or no longer has the WAL that the log needs next. With --stay it
does not end, but says so in its metrics and tries again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := receiver.NewMonitor(args[0])
			stop, err := a.serveAgent(f.metrics, m)
			if err != nil {
				return err
			}
			defer stop()
			for {
				err := a.attach(cmd.Context(), args[0], f, m)
				if err == nil || !f.stay {
					return err
				}
				fmt.Fprintf(a.err, "%v; trying again\n", err)
				if !pause.For(cmd.Context(), attachStayEvery) {
					return nil
				}
				f.takeover = false // whoever has the log now took it from this one
			}
		},
	}
	cmd.Flags().StringVar(&f.server, "server", "", "how to reach the server: a URL or keywords as for psql, such as 'host=/var/run/postgresql user=postgres' (PGHOST, PGPORT, PGUSER and others otherwise)")
	cmd.Flags().StringVar(&f.standby, "standby-name", "", "the name that synchronous_standby_names lists (default logcore)")
	cmd.Flags().StringVar(&f.slot, "slot", "", "the physical replication slot, made when missing (default logcore)")
	cmd.Flags().BoolVar(&f.takeover, "takeover", false, "take the log over from an attach that still holds it: that one is fenced")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", "HTTP address of /metrics and /status; none without it")
	cmd.Flags().BoolVar(&f.stay, "stay", false, "don't end when the server or the log is refused: try again")
	a.connectFlags(cmd)
	return cmd
}

// attach follows the server until the context ends. A full or overloaded LogCore ends the writer, so that there is no gap in
// the log; another one goes on where the log ends.
func (a *app) attach(ctx context.Context, log string, f attachFlags, m *receiver.Monitor) error {
	c, err := a.dialPatiently(ctx)
	if err != nil {
		m.Ended(err)
		return err
	}
	defer c.Close()
	for {
		err := a.attachOnce(ctx, c, log, f, m)
		m.Ended(err)
		if err == nil || !errors.Is(err, logcore.ErrDiskFull) && !errors.Is(err, logcore.ErrOverloaded) {
			return err
		}
		fmt.Fprintf(a.err, "%v; commits wait; trying again\n", err)
		if !pause.For(ctx, attachRetryEvery) {
			return nil
		}
	}
}

// postgresServer returns how to reach the server that a flag names, or the environment.
func (a *app) postgresServer(flag string) string {
	switch {
	case flag != "":
		return flag
	case a.getenv("PGHOST") == "":
		return "host=/var/run/postgresql"
	}
	return "host=" + a.getenv("PGHOST") // the library reads the other variables itself
}

// attachOnce follows the server with one writer, over as many connections to the server as it takes.
func (a *app) attachOnce(ctx context.Context, c *client.Client, log string, f attachFlags, m *receiver.Monitor) (err error) {
	host, _ := os.Hostname()
	w, err := c.OpenWriter(ctx, log, client.WriterOptions{Name: fmt.Sprintf("postgres attach at %s, process %d", host, os.Getpid()),
		Takeover: f.takeover, Create: true, PayloadFormat: payload.Format, EndOnFailure: true})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		if cerr := w.Close(ctx); err == nil { // otherwise it says the same again
			err = cerr
		}
	}()
	r, err := receiver.New(receiver.Options{ConnString: a.postgresServer(f.server), StandbyName: f.standby, Slot: f.slot, Monitor: m, Logger: agentLog(a)}, receiver.OverClient(c, w))
	if err != nil {
		return err
	}
	for {
		fmt.Fprintf(a.err, "following the server into log %s\n", log)
		err := r.Run(ctx)
		if err == nil {
			fmt.Fprintf(a.err, "stopped: log %s has the WAL up to %v\n", log, r.Durable())
			return nil
		}
		if !errors.Is(err, receiver.ErrConnection) {
			return err
		}
		fmt.Fprintf(a.err, "%v; trying again\n", err)
		if !pause.For(ctx, attachRetryEvery) {
			return nil
		}
	}
}
