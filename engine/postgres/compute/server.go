package compute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/logcore/logcore"
)

// ServerOptions say how the server is run.
type ServerOptions struct {
	Dir         string // the data directory that Build made
	Binary      string // "" is Debian's /usr/lib/postgresql/15/bin/postgres
	Port        int
	Listen      string // listen_addresses; "" is none: only the socket
	SocketDir   string // "" is Dir
	StandbyName string // what synchronous_standby_names has
	User        string // the database role that LogCore follows the server as; "" is postgres
	Set         []string
	// UID and GID are whom the server runs as.
	UID, GID int
	Output   io.Writer // what the server says

	detached bool // no commit waits for the log
}

func (o ServerOptions) withDefaults() ServerOptions {
	if o.Binary == "" {
		o.Binary = "/usr/lib/postgresql/15/bin/postgres"
	}
	if o.SocketDir == "" {
		o.SocketDir = o.Dir
	}
	if o.StandbyName == "" {
		o.StandbyName = "logcore"
	}
	if o.User == "" {
		o.User = "postgres"
	}
	return o
}

// Server is a running PostgreSQL.
type Server struct {
	o      ServerOptions
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // once exited is closed
}

// settings make a server that keeps nothing: what it commits is in the log, and after
// a crash it is made again from there.
func (o ServerOptions) settings() []string {
	standby := o.StandbyName
	if o.detached {
		standby = ""
	}
	s := []string{
		"fsync=off", "full_page_writes=off", // a torn page dies with the node
		"synchronous_commit=on", "synchronous_standby_names=" + standby,
		"wal_level=replica", "max_wal_senders=10", "archive_mode=off", "restart_after_crash=off",
		"wal_consistency_checking=hash,gin,gist,spgist,brin", // pages that are not redone in Go come as images
		"listen_addresses=" + o.Listen, "port=" + strconv.Itoa(o.Port), "unix_socket_directories=" + o.SocketDir,
		"hba_file=" + filepath.Join(o.Dir, hbaFile), "ident_file=" + filepath.Join(o.Dir, identFile),
		"external_pid_file=" + filepath.Join(o.Dir, "logcore.pid"), "logging_collector=off", "log_destination=stderr",
	}
	return append(s, o.Set...)
}

// Start starts the server. It returns at once; Ready waits until it takes connections.
func Start(o ServerOptions) (*Server, error) {
	o = o.withDefaults()
	if o.Port < 1 || o.Port > 65535 || o.Dir == "" {
		return nil, fmt.Errorf("compute: %w: port %d, directory %q", logcore.ErrInvalid, o.Port, o.Dir)
	}
	if err := o.writeAccess(); err != nil {
		return nil, err
	}
	args := []string{"-D", o.Dir}
	for _, s := range o.settings() {
		args = append(args, "-c", s)
	}
	s := &Server{o: o, cmd: exec.Command(o.Binary, args...), exited: make(chan struct{})}
	s.cmd.Dir = o.Dir
	s.cmd.Stdout, s.cmd.Stderr = o.Output, o.Output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if os.Getuid() == 0 {
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID)}
	}
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("compute: %s: %w: may user %d run it, and enter %s?", o.Binary, err, o.UID, o.Dir)
	} else if err != nil {
		return nil, fmt.Errorf("compute: %s: %w: is PostgreSQL 15 installed?", o.Binary, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

const (
	hbaFile   = "logcore_hba.conf"
	identFile = "logcore_ident.conf"
)

// writeAccess writes the files that say who may connect: the cluster's own, with a line before them that
// lets this process follow the server through its socket.
func (o ServerOptions) writeAccess() error {
	me, err := user.Current()
	if err != nil {
		return fmt.Errorf("compute: %w", err)
	}
	for name, add := range map[string]struct{ from, line, otherwise string }{
		hbaFile:           {"pg_hba.conf", "local replication " + o.User + " peer map=logcore\n", "local all all peer\n"},
		identFile:         {"pg_ident.conf", "logcore " + me.Username + " " + o.User + "\n", ""},
		"postgresql.conf": {"postgresql.conf", "", "# The base backup had none.\n"},
	} {
		own, err := os.ReadFile(filepath.Join(o.Dir, add.from))
		if errors.Is(err, fs.ErrNotExist) {
			own, err = []byte(add.otherwise), nil
		}
		if err != nil {
			return fmt.Errorf("compute: %w", err)
		}
		path := filepath.Join(o.Dir, name)
		if err := os.WriteFile(path, append([]byte(add.line), own...), 0o600); err != nil {
			return fmt.Errorf("compute: %w", err)
		}
		if os.Getuid() == 0 {
			if err := os.Lchown(path, o.UID, o.GID); err != nil {
				return fmt.Errorf("compute: %w", err)
			}
		}
	}
	return nil
}

// ConnString is how to follow the server.
func (s *Server) ConnString() string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", s.o.SocketDir, s.o.Port, s.o.User)
}

// awaitConnections returns once the server takes connections.
func (s *Server) awaitConnections(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		c, err := pgconn.Connect(ctx, s.ConnString()+" replication=true")
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-time.After(askEvery):
		case <-s.exited:
			return fmt.Errorf("%w: PostgreSQL ended before it took connections: %w", errNodeDied, s.err)
		case <-ctx.Done():
			return fmt.Errorf("compute: the server takes no connections: %w", err)
		}
	}
}

// Exited is closed when the server is gone; Err says how, then.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Err is how the server ended, once Exited is closed; nil when it was told to stop.
func (s *Server) Err() error { return s.err }

// Stop ends the server and waits for it: politely, then, when ctx ends, by force.
func (s *Server) Stop(ctx context.Context) {
	_ = s.cmd.Process.Signal(syscall.SIGINT) // fast shutdown; an error says that it is gone
	select {
	case <-s.exited:
		return
	case <-ctx.Done():
	}
	s.Kill()
}

// Kill ends the server as a crash does, with all its processes, and waits for it.
func (s *Server) Kill() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // an error says that it is gone
	<-s.exited
}
