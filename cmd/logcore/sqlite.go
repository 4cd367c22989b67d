package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/sqlite"
	"github.com/logcore/logcore/internal/exit"
)

type sqliteFlags struct {
	command  string
	lsn      uint64
	at       string
	readOnly bool
	takeover bool
	replace  bool
}

func (a *app) sqliteCommand() *cobra.Command {
	var f sqliteFlags
	cmd := &cobra.Command{
		Use:   "sqlite NAME [import FILE | export FILE]",
		Short: "Work on an SQLite database that lives in a log",
		Long: `Work on the SQLite database that the log NAME holds: a shell on a terminal, the SQL
of -c, or that on standard input. The database is created by its first write.

import FILE makes its content that of an SQLite file, in one transaction; export
FILE writes it to a new file. --lsn and --time read the database as it was.`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 1:
				return nil
			case len(args) == 3 && (args[1] == "import" || args[1] == "export"):
				return nil
			}
			for _, verb := range []string{"import", "export"} {
				if len(args) > 1 && strings.HasPrefix(args[1], verb[:2]) {
					return fmt.Errorf("want NAME, NAME import FILE or NAME export FILE; did you mean %s?", verb)
				}
			}
			return errors.New("want NAME, NAME import FILE or NAME export FILE")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.lsn != 0 && f.at != "" {
				return exit.Usagef("--lsn and --time: give one of them")
			}
			return a.sqlite(cmd.Context(), args, f, cmd.Flags().Changed("command"))
		},
	}
	cmd.Flags().StringVarP(&f.command, "command", "c", "", "run this SQL and end")
	cmd.Flags().Uint64Var(&f.lsn, "lsn", 0, "read the database as of this LSN")
	cmd.Flags().StringVar(&f.at, "time", "", "read the database as of this time")
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "refuse to write")
	cmd.Flags().BoolVar(&f.replace, "replace", false, "let import replace a database that holds something, and export a file that exists")
	cmd.Flags().BoolVar(&f.takeover, "takeover", false, "fence another writer even when it is alive")
	a.connectFlags(cmd)
	a.outputFlag(cmd, "table", "json", "csv")
	a.progressFlag(cmd)
	return cmd
}

func (a *app) sqlite(ctx context.Context, args []string, f sqliteFlags, isCommand bool) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	opts, err := a.sqliteOptions(ctx, c, args[0], f)
	if err != nil {
		return err
	}
	if len(args) == 3 {
		if isCommand {
			return exit.Usagef("-c goes with NAME alone")
		}
		if args[1] == "import" && (opts.ReadOnly || opts.LSN != 0) {
			return exit.Usagef("import writes: --read-only, --lsn and --time don't go with it")
		}
		return a.sqliteFile(ctx, opts, args[1], args[2], f.replace)
	}
	return a.withDatabase(ctx, opts, func(db *sqlite.Database, conn *sqlite3.Conn) error {
		s := &shell{app: a, conn: conn, format: a.format}
		s.banner = fmt.Sprintf("SQLite %s in log %q at %s, LSN %d%s.", sqliteVersion(conn), args[0], a.addr, db.LSN(), writable(opts))
		defer s.abandon(ctx)
		if isCommand {
			return a.nameMissingLog(ctx, c, args[0], db.Explain(s.exec(ctx, a.out, f.command)))
		}
		if a.interactive() {
			s.explain = db.Explain
			return s.interactive(ctx, a.in.(*os.File))
		}
		return db.Explain(s.script(ctx, a.in))
	})
}

// nameMissingLog adds to an error about a missing table that the whole log is missing: its
// name may be misspelt.
func (a *app) nameMissingLog(ctx context.Context, c *client.Client, log string, err error) error {
	if err == nil || !strings.Contains(err.Error(), "no such table") {
		return err
	}
	if _, infoErr := c.Info(ctx, log); errors.Is(infoErr, logcore.ErrLogNotFound) {
		return fmt.Errorf("%w (log %s does not exist; `logcore log ls` lists them)", err, log)
	}
	return err
}

// interactive reports whether a person sits there.
func (a *app) interactive() bool { return isTerminal(a.in) && isTerminal(a.out) }

func writable(o sqlite.Options) string {
	if o.ReadOnly || o.LSN != 0 {
		return ", read-only"
	}
	return ""
}

func sqliteVersion(conn *sqlite3.Conn) string {
	stmt, _, err := conn.Prepare("SELECT sqlite_version()")
	if err != nil {
		return "?"
	}
	defer stmt.Close()
	if !stmt.Step() {
		return "?"
	}
	return stmt.ColumnText(0)
}

// sqliteOptions turns the flags into options; a log that is only read must exist.
func (a *app) sqliteOptions(ctx context.Context, c *client.Client, name string, f sqliteFlags) (sqlite.Options, error) {
	if err := logcore.ValidateLogName(name); err != nil {
		return sqlite.Options{}, exit.With(exit.Usage, err)
	}
	call, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	point, err := a.pointInTime(call, c, name, f.lsn, f.at)
	if err != nil {
		return sqlite.Options{}, err
	}
	follow := f.readOnly && point == 0 && a.interactive()
	if f.readOnly && point == 0 && !follow {
		if point, err = logEnd(call, c, name); err != nil {
			return sqlite.Options{}, err
		}
	}
	host, _ := os.Hostname()
	source := sqlite.NewSource(c, name, fmt.Sprintf("logcore sqlite, %s pid %d", host, os.Getpid()))
	return sqlite.Options{Log: name, Source: source, LSN: point, ReadOnly: f.readOnly || point != 0, Follow: follow,
		Takeover: f.takeover, CommitTimeout: a.timeout, ReadTimeout: a.timeout, Logger: quiet(a)}, nil
}

// withDatabase opens the database and one connection, and closes both.
func (a *app) withDatabase(ctx context.Context, opts sqlite.Options, f func(*sqlite.Database, *sqlite3.Conn) error) (err error) {
	db, err := sqlite.Open(ctx, opts)
	if err != nil {
		return err
	}
	defer a.closeDatabase(ctx, db, &err)
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(db, conn)
}

// sqliteFile imports or exports an SQLite file.
func (a *app) sqliteFile(ctx context.Context, opts sqlite.Options, verb, path string, replace bool) (err error) {
	m := a.newMeter()
	defer m.done()
	db, err := sqlite.Open(ctx, opts)
	if err != nil {
		return err
	}
	defer a.closeDatabase(ctx, db, &err)
	transfer := sqlite.TransferOptions{Replace: replace, Progress: func(done, total int) { m.update("%s: %d of %d pages", verb, done, total) }}
	var done sqlite.Transferred
	if verb == "import" {
		done, err = sqlite.Import(ctx, db, path, transfer)
	} else {
		done, err = sqlite.Export(ctx, db, path, transfer)
	}
	if err != nil {
		return err
	}
	m.done()
	if a.format == "json" {
		return a.writeJSON(map[string]any{"pages": done.Pages, "lsn": done.LSN})
	}
	_, err = fmt.Fprintf(a.out, "%sed %d pages at LSN %d\n", verb, done.Pages, done.LSN)
	return err
}

// closeDatabase gives the writer epoch back, even when ctx is done.
func (a *app) closeDatabase(ctx context.Context, db *sqlite.Database, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if closeErr := db.Close(ctx); *err == nil {
		*err = closeErr
	}
}
