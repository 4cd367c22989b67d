package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/engine/postgres/compute"
)

type postgresRunFlags struct {
	dir, socket, listen, binary, user string
	port                              int
	set                               []string
	takeover                          bool
}

func (a *app) postgresRunCommand() *cobra.Command {
	var f postgresRunFlags
	cmd := &cobra.Command{
		Use:   "run LOG --dir DIR",
		Short: "Run PostgreSQL as a compute node of a log, which keeps everything",
		Long: `Make a data directory from the end of LOG, start the distribution's PostgreSQL 15 on it with LogCore as
its synchronous standby, and report when it takes connections. Each commit waits for the log, not
for a local disk. When the server dies, its directory is thrown away and made again from the log.
The log has to begin with a base backup, which  logcore postgres attach  takes. Another node that takes it over
fences this one, which then stops.

DIR is scratch space: DIR/pgdata is deleted and made anew each time. The settings fsync=off,
full_page_writes=off and synchronous_standby_names belong to the node; others can be given with --set.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(a, args[0])
			if err != nil {
				return err
			}
			c, err := a.dialPatiently(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
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
	_ = cmd.MarkFlagRequired("dir") // the flag exists
	a.connectFlags(cmd)
	return cmd
}

func (f *postgresRunFlags) options(a *app, log string) (compute.RunOptions, error) {
	uid, gid, err := postgresUser(os.Getuid())
	if err != nil {
		return compute.RunOptions{}, err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return compute.RunOptions{}, err
	}
	host, _ := os.Hostname()
	return compute.RunOptions{
		Log: log, Takeover: f.takeover, Name: fmt.Sprintf("postgres run at %s, process %d", host, os.Getpid()),
		Server: compute.ServerOptions{Dir: filepath.Join(dir, "pgdata"), Binary: f.binary, Port: f.port, Listen: f.listen, SocketDir: f.socket, User: f.user,
			Set: f.set, UID: uid, GID: gid, Output: a.err},
		Own: func(dir string) error { return ownAsPostgres(dir, os.Getuid()) },
		Ready: func(s compute.Started) {
			fmt.Fprintf(a.out, "ready: PostgreSQL takes connections on port %d, as of LSN %d, position %v; data directory in %v (base backup %s, WAL %s), start in %v\n",
				f.port, s.Result.LSN, s.Result.End, s.Build.Round(time.Millisecond), sizeText(s.Result.BaseBytes), sizeText(s.Result.WALBytes), s.Start.Round(time.Millisecond))
		},
		Logger: agentLog(a),
	}, nil
}
