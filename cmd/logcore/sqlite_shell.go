package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

// sqlLineMax bounds a line of a script, and so the memory that one takes.
const sqlLineMax = 64 << 20

// shell runs SQL statements on one connection.
type shell struct {
	app    *app
	conn   *sqlite3.Conn
	format string
	// banner tells an interactive user what is open.
	banner string
	// explain adds the reason to an error of SQLite's; nil adds none.
	explain func(error) error
}

// exec runs every statement of sql, in order, and shows the rows; it stops at the
// first error.
func (s *shell) exec(ctx context.Context, w io.Writer, sql string) error {
	defer s.conn.SetInterrupt(s.conn.SetInterrupt(ctx))
	for strings.TrimSpace(sql) != "" {
		stmt, tail, err := s.conn.Prepare(sql)
		if err != nil {
			return err
		}
		sql = tail
		if stmt == nil { // a comment
			continue
		}
		if err := s.step(w, stmt); err != nil {
			return err
		}
	}
	return nil
}

// abandon rolls back the transaction that is open at the end, and says so.
func (s *shell) abandon(ctx context.Context) {
	if s.conn.GetAutocommit() {
		return
	}
	defer s.conn.SetInterrupt(s.conn.SetInterrupt(context.WithoutCancel(ctx)))
	if err := s.conn.Exec("ROLLBACK"); err != nil {
		s.complain(err)
		return
	}
	fmt.Fprintln(s.app.err, "open transaction rolled back: it had no COMMIT")
}

func (s *shell) step(w io.Writer, stmt *sqlite3.Stmt) error {
	defer stmt.Close()
	if stmt.ColumnCount() == 0 {
		return stmt.Exec()
	}
	rows := newRowWriter(s.format, w, stmt)
	for stmt.Step() {
		if err := rows.row(stmt); err != nil {
			return err
		}
	}
	if err := stmt.Err(); err != nil {
		return err
	}
	return rows.end()
}

// script runs the statements that in holds and stops at the first error.
func (s *shell) script(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), sqlLineMax)
	var pending strings.Builder
	number, first := 0, 1
	for lines.Scan() {
		number++
		if pending.Len() == 0 {
			first = number
			if quit, done, err := s.dot(ctx, s.app.out, lines.Text()); err != nil || quit {
				return err
			} else if done {
				continue
			}
		}
		pending.WriteString(lines.Text() + "\n")
		if !completeSQL(pending.String()) {
			continue
		}
		if err := s.exec(ctx, s.app.out, pending.String()); err != nil {
			return fmt.Errorf("line %d: %w", first, err)
		}
		pending.Reset()
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading SQL: %w", err)
	}
	if strings.TrimSpace(pending.String()) == "" {
		return nil
	}
	if err := s.exec(ctx, s.app.out, pending.String()); err != nil {
		return fmt.Errorf("line %d: %w", first, err)
	}
	return nil
}

const shellHelp = `.help            this text
.tables          list the tables
.schema [TABLE]  show CREATE statements
.mode MODE       table, json or csv
.quit            leave (also Ctrl-D)
A statement ends with a semicolon.
`

// dot runs a line that begins with a dot. done reports whether it was one.
func (s *shell) dot(ctx context.Context, w io.Writer, line string) (quit, done bool, err error) {
	words := strings.Fields(line)
	if len(words) == 0 || !strings.HasPrefix(words[0], ".") {
		return false, false, nil
	}
	switch words[0] {
	case ".quit", ".exit":
		return true, true, nil
	case ".help":
		_, err = io.WriteString(w, shellHelp)
	case ".tables":
		err = s.exec(ctx, w, "SELECT name FROM sqlite_schema WHERE type IN ('table','view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")
	case ".schema":
		query := "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
		if len(words) > 1 {
			query += " AND tbl_name = " + sqlite3.Quote(words[1])
		}
		err = s.exec(ctx, w, query)
	case ".mode":
		if len(words) != 2 || words[1] != "table" && words[1] != "json" && words[1] != "csv" {
			return false, true, errors.New(".mode: want table, json or csv")
		}
		s.format = words[1]
	default:
		err = fmt.Errorf("unknown command %s: .help lists them", words[0])
	}
	return false, true, err
}

func (s *shell) complain(err error) {
	if err == nil {
		return
	}
	if s.explain != nil {
		err = s.explain(err)
	}
	fmt.Fprintf(s.app.err, "error: %v\n", err)
}
