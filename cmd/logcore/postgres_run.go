package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/postgres/compute"
	"github.com/logcore/logcore/engine/postgres/receiver"
	"github.com/logcore/logcore/internal/exit"
)

type postgresRunFlags struct {
	dir, socket, listen, binary, user string
	metrics                           string
	port                              int
	set                               []string
	takeover, logOnly                 bool
	branch                            string
	target                            targetFlags
}

func (a *app) postgresRunCommand() *cobra.Command {
	var f postgresRunFlags
	cmd := &cobra.Command{
		Use:   "run LOG --dir DIR [--branch NAME] [--lsn N|--time T]",
		Short: "Run PostgreSQL as a compute node of a log, which keeps everything",
		Long: `Make a data directory from the end of LOG, start the distribution's PostgreSQL 15 on it with LogCore as
its synchronous standby, and report when it takes connections. Each commit waits for the log, not
for a local disk. When the server dies, its directory is thrown away and made again from the log.
The log has to begin with a base backup, which  logcore postgres attach  takes. Another node that takes it over
fences this one, which then stops.

With --branch the node runs on that branch of LOG, which is made when it doesn't exist: as of --lsn or --time, or at the
end of LOG. A branch is a log of its own, on a timeline of its own; LOG goes on beside it. With --lsn, --position or --time but no --branch the
node is as of then, and what it writes is kept nowhere.

DIR is scratch space: DIR/pgdata is deleted and made anew each time. The settings fsync=off,
full_page_writes=off and synchronous_standby_names belong to the node; others can be given with --set.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			nodes := newNodeMetrics(args[0])
			o, err := f.options(a, args[0], nodes)
			if err != nil {
				return err
			}
			o.Monitor = receiver.NewMonitor(args[0])
			stop, err := a.serveAgent(f.metrics, o.Monitor, nodes.all()...)
			if err != nil {
				return err
			}
			defer stop()
			c, err := a.dialPatiently(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			t, err := f.target.target()
			if err != nil {
				return err
			}
			if f.branch == "" && t != (compute.Target{}) {
				return compute.RunDetached(cmd.Context(), c, o, t)
			}
			if f.branch != "" {
				if o.Log, err = a.ensureBranch(cmd.Context(), c, args[0], f); err != nil {
					return err
				}
			}
			return compute.Run(cmd.Context(), c, o)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "scratch directory for the node")
	cmd.Flags().IntVar(&f.port, "port", 5432, "port of the server, also in the name of its socket")
	cmd.Flags().StringVar(&f.listen, "listen", "", "TCP addresses to listen on (listen_addresses); none without it")
	cmd.Flags().StringVar(&f.socket, "socket-dir", "", "directory of the server's socket (default: the data directory)")
	cmd.Flags().StringVar(&f.binary, "postgres", "", "the server (default /usr/lib/postgresql/15/bin/postgres)")
	cmd.Flags().StringVar(&f.user, "user", "", "the role with REPLICATION that LogCore follows the server as (default postgres)")
	cmd.Flags().StringArrayVarP(&f.set, "set", "c", nil, "a setting of the server, such as shared_buffers=1GB; can be repeated")
	cmd.Flags().BoolVar(&f.takeover, "takeover", false, "take the log over from a node that still holds it: that one is fenced")
	cmd.Flags().StringVar(&f.branch, "branch", "", "run on this branch of LOG, and make it when it doesn't exist")
	cmd.Flags().BoolVar(&f.logOnly, "log-only", false, "don't ask the page server: apply the whole log to its base backup each time")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", "HTTP address of /metrics and /status; none without it")
	f.target.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("branch", "position")
	_ = cmd.MarkFlagRequired("dir") // the flag exists
	a.connectFlags(cmd)
	return cmd
}

// ensureBranch returns the branch to run on. One that exists is not made as of another moment.
func (a *app) ensureBranch(ctx context.Context, c *client.Client, parent string, f postgresRunFlags) (string, error) {
	info, err := c.Info(ctx, f.branch)
	switch {
	case err == nil && info.Parent != parent:
		return "", exit.Usagef("%s exists and is no branch of %s", f.branch, parent)
	case err == nil && (f.target.lsn != 0 || f.target.at != ""):
		return "", exit.Usagef("branch %s exists, made at LSN %d: run it without --lsn and --time, or choose another name", f.branch, info.BranchLSN)
	case err == nil:
		return f.branch, nil
	case !errors.Is(err, logcore.ErrLogNotFound):
		return "", err
	}
	point, err := a.pointInTime(ctx, c, parent, f.target.lsn, f.target.at)
	if err == nil && point == 0 {
		point, err = logEnd(ctx, c, parent)
	}
	if err == nil {
		_, err = c.CreateLog(ctx, f.branch, parent, point)
	}
	return f.branch, err
}

func (f *postgresRunFlags) options(a *app, log string, nodes nodeMetrics) (compute.RunOptions, error) {
	uid, gid, err := postgresUser(os.Getuid())
	if err != nil {
		return compute.RunOptions{}, err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return compute.RunOptions{}, err
	}
	host, _ := os.Hostname()
	processors := runtime.GOMAXPROCS(0)
	return compute.RunOptions{
		Log: log, Takeover: f.takeover, LogOnly: f.logOnly, Name: fmt.Sprintf("postgres run at %s, process %d", host, os.Getpid()),
		Server: compute.ServerOptions{Dir: filepath.Join(dir, "pgdata"), Binary: f.binary, Port: f.port, Listen: f.listen, SocketDir: f.socket, User: f.user,
			Set: f.set, UID: uid, GID: gid, Output: a.err},
		Own:      func(dir string) error { return ownAsPostgres(dir, os.Getuid()) },
		Building: func() { runtime.GOMAXPROCS(processors) },
		Ready: func(s compute.Started) {
			// Each commit goes through a handful of goroutines, one after the other. On one thread that is a matter of queues; on several each
			// step wakes a thread, and another one looks for work in vain.
			runtime.GOMAXPROCS(1)
			nodes.ready(s)
			fmt.Fprintf(a.out, "ready: PostgreSQL takes connections on port %d, as of LSN %d, position %v; data directory in %v (%s), start in %v\n",
				f.port, s.Result.LSN, s.Result.End, s.Build.Round(time.Millisecond), sourceText(s.Result), s.Start.Round(time.Millisecond))
		},
		Logger: agentLog(a),
	}, nil
}
