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
)

// attachRetryEvery is how long to wait after a lost connection to the PostgreSQL server.
const attachRetryEvery = time.Second

type attachFlags struct {
	server, standby, slot string
	takeover              bool
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
database cluster than the log's, went another way before the log's end, or no longer has the WAL that the log needs next.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dialPatiently(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			return a.attach(cmd.Context(), c, args[0], f)
		},
	}
	cmd.Flags().StringVar(&f.server, "server", "", "how to reach the server: a URL or keywords as for psql, such as 'host=/var/run/postgresql user=postgres' (PGHOST, PGPORT, PGUSER and others otherwise)")
	cmd.Flags().StringVar(&f.standby, "standby-name", "", "the name that synchronous_standby_names lists (default logcore)")
	cmd.Flags().StringVar(&f.slot, "slot", "", "the physical replication slot, made when missing (default logcore)")
	cmd.Flags().BoolVar(&f.takeover, "takeover", false, "take the log over from an attach that still holds it: that one is fenced")
	a.connectFlags(cmd)
	return cmd
}

// attach follows the server until the context ends. A full or overloaded LogCore ends the writer, so that there is no gap in
// the log; another one goes on where the log ends.
func (a *app) attach(ctx context.Context, c *client.Client, log string, f attachFlags) error {
	server := f.server
	if server == "" {
		server = "host=" + a.getenv("PGHOST") // the library reads the other variables itself
		if a.getenv("PGHOST") == "" {
			server = "host=/var/run/postgresql"
		}
	}
	for {
		err := a.attachOnce(ctx, c, log, server, f)
		if err == nil || !errors.Is(err, logcore.ErrDiskFull) && !errors.Is(err, logcore.ErrOverloaded) {
			return err
		}
		fmt.Fprintf(a.err, "%v; commits wait; trying again\n", err)
		if !pause(ctx) {
			return nil
		}
	}
}

// attachOnce follows the server with one writer, over as many connections to the server as it takes.
func (a *app) attachOnce(ctx context.Context, c *client.Client, log, server string, f attachFlags) (err error) {
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
	r, err := receiver.New(receiver.Options{ConnString: server, StandbyName: f.standby, Slot: f.slot, Logger: agentLog(a)}, receiver.OverClient(c, w))
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
		if !pause(ctx) {
			return nil
		}
	}
}

// pause waits before the next attempt; false says that the context ended.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(attachRetryEvery):
		return true
	case <-ctx.Done():
		return false
	}
}
