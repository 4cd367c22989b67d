package sampledb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/logcore/logcore"
)

// Ack is a transaction whose COMMIT has returned.
type Ack struct {
	N       int64  // its number, from 1 without gaps
	Kind    string // what it did
	Changes int    // rows inserted, updated and deleted, without the ledger's own
	Digest  Digest // of the whole content after it
	LSN     logcore.LSN
	Began   time.Time
	Commit  time.Duration // how long COMMIT alone took
	Total   time.Duration // BEGIN to the return of COMMIT
}

// Options of a Session.
type Options struct {
	// LSN returns the position of the transaction that was committed last; nil leaves
	// Ack.LSN zero.
	LSN func() logcore.LSN
	// Acknowledged is told of every transaction right after its COMMIT has returned; an
	// error of it ends the run. May be nil.
	Acknowledged func(Ack) error
	// RowsPerTx is how many rows Load inserts in one transaction; 0 means 500.
	RowsPerTx int
	// CharactersMax bounds the characters that Load takes, spread over all scripts; 0
	// means all of them, about 33,800.
	CharactersMax int
}

// Session changes the sample through one connection, which it owns as to transactions
// and the pre-update hook.
type Session struct {
	conn    *sqlite3.Conn
	opts    Options
	n       int64 // last transaction
	tracker *tracker
	stmts   map[string]*sqlite3.Stmt
}

// NewSession begins with the sample as the connection's database holds it, after
// verifying it, or with an empty database, in which it creates the tables. Close it
// before the connection.
func NewSession(ctx context.Context, conn *sqlite3.Conn, opts Options) (*Session, error) {
	if opts.RowsPerTx <= 0 {
		opts.RowsPerTx = 500
	}
	s := &Session{conn: conn, opts: opts, stmts: make(map[string]*sqlite3.Stmt)}
	names, err := texts(conn, `SELECT name FROM sqlite_schema WHERE name = 'ledger'`)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return s, s.create(ctx)
	}
	state, err := Verify(conn)
	if err != nil {
		return nil, err
	}
	s.n, s.tracker = state.N, track(conn, state.Digest)
	return s, nil
}

// create makes the tables: transaction 1.
func (s *Session) create(ctx context.Context) error {
	return s.transaction(ctx, "create", func() error {
		if err := s.conn.Exec(schema); err != nil {
			return err
		}
		digest, _, err := ContentDigest(s.conn, ledgerTable)
		s.tracker = track(s.conn, digest)
		return err
	})
}

// N is the number of the last transaction.
func (s *Session) N() int64 { return s.n }

// Close releases the session's statements and the hook.
func (s *Session) Close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	clear(s.stmts)
	s.conn.PreUpdateHook(nil)
	return errors.Join(errs...)
}

// transaction runs fn in a transaction that also gets its row in the ledger. After an
// error the transaction is rolled back as far as the connection still allows.
func (s *Session) transaction(ctx context.Context, kind string, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var before tracker
	if s.tracker != nil {
		s.tracker.changes = 0
		before = *s.tracker
	}
	ack := Ack{N: s.n + 1, Kind: kind, Began: time.Now()}
	if err := s.run(&ack, fn); err != nil {
		if !s.conn.GetAutocommit() {
			err = errors.Join(err, s.conn.Exec(`ROLLBACK`))
		}
		if s.tracker != nil {
			*s.tracker = before
		}
		return fmt.Errorf("sampledb: transaction %d (%s): %w", ack.N, kind, err)
	}
	s.n = ack.N
	if s.opts.LSN != nil {
		ack.LSN = s.opts.LSN()
	}
	if s.opts.Acknowledged != nil {
		return s.opts.Acknowledged(ack)
	}
	return nil
}

func (s *Session) run(ack *Ack, fn func() error) error {
	if err := s.conn.Exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	if s.tracker.err != nil {
		return s.tracker.err
	}
	ack.Changes, ack.Digest = s.tracker.changes, s.tracker.digest
	if err := s.exec(`INSERT INTO ledger VALUES (?, ?, ?, ?)`, ack.N, ack.Kind, int64(ack.Changes), ack.Digest[:]); err != nil {
		return err
	}
	committing := time.Now()
	err := s.conn.Exec(`COMMIT`)
	ack.Commit, ack.Total = time.Since(committing), time.Since(ack.Began)
	return err
}

// prepared returns a statement with its parameters bound, ready to be stepped.
func (s *Session) prepared(sql string, args ...any) (*sqlite3.Stmt, error) {
	stmt, ok := s.stmts[sql]
	if !ok {
		var err error
		if stmt, _, err = s.conn.Prepare(sql); err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
		s.stmts[sql] = stmt
	}
	for i, arg := range args {
		if err := bind(stmt, i+1, arg); err != nil {
			return nil, fmt.Errorf("%s: parameter %d: %w", sql, i+1, err)
		}
	}
	return stmt, nil
}

func bind(stmt *sqlite3.Stmt, param int, arg any) error {
	switch v := arg.(type) {
	case nil:
		return stmt.BindNull(param)
	case int64:
		return stmt.BindInt64(param, v)
	case float64:
		return stmt.BindFloat(param, v)
	case string:
		return stmt.BindText(param, v)
	case []byte:
		return stmt.BindBlob(param, v)
	}
	panic(fmt.Sprintf("sampledb: no binding for a %T", arg))
}

// exec runs a statement that returns no rows.
func (s *Session) exec(sql string, args ...any) error {
	stmt, err := s.prepared(sql, args...)
	if err != nil {
		return err
	}
	return stmt.Exec()
}

// number returns the first column of the first row, 0 when there is none.
func (s *Session) number(sql string, args ...any) (int64, error) {
	stmt, err := s.prepared(sql, args...)
	if err != nil {
		return 0, err
	}
	var n int64
	if stmt.Step() {
		n = stmt.ColumnInt64(0)
	}
	return n, stmt.Reset()
}
