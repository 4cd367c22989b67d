package sampledb

import (
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// ErrMismatch: the content of the database is not what its ledger says.
var ErrMismatch = errors.New("sampledb: content and ledger disagree")

// State is what Verify found.
type State struct {
	N      int64  // the last transaction
	Digest Digest // of the content, computed from every row
	Rows   int64  // in all tables but the ledger
}

// Verify reads the whole sample, as of whatever snapshot the connection reads, and
// proves that it is the state after the last transaction in its ledger: the ledger
// has no gap, its last digest is the one that the rows give, and SQLite's own checks
// of structure and foreign keys find nothing. A failure wraps ErrMismatch.
func Verify(conn *sqlite3.Conn) (State, error) {
	tx := conn.Begin()
	defer tx.Rollback()
	for _, pragma := range []struct{ name, want string }{{"integrity_check", "ok"}, {"foreign_key_check", ""}} {
		found, err := texts(conn, "PRAGMA "+pragma.name)
		if err != nil {
			return State{}, err
		}
		if len(found) > 0 && found[0] != pragma.want {
			return State{}, fmt.Errorf("%w: %s: %q", ErrMismatch, pragma.name, found)
		}
	}
	ledger, err := readLedger(conn)
	if err != nil {
		return State{}, err
	}
	if len(ledger) == 0 {
		return State{}, fmt.Errorf("%w: the ledger is empty", ErrMismatch)
	}
	for i, l := range ledger {
		if l.N != int64(i+1) {
			return State{}, fmt.Errorf("%w: transaction %d is missing from the ledger", ErrMismatch, i+1)
		}
	}
	var s State
	if s.Digest, s.Rows, err = ContentDigest(conn, ledgerTable); err != nil {
		return State{}, err
	}
	last := ledger[len(ledger)-1]
	if s.N = last.N; s.Digest != last.Digest {
		return s, fmt.Errorf("%w: after transaction %d the digest was %v, the rows give %v", ErrMismatch, last.N, last.Digest, s.Digest)
	}
	return s, nil
}

// Ledger returns the ledger's rows in order, to compare with what was acknowledged:
// N, Kind, Changes and Digest are set.
func Ledger(conn *sqlite3.Conn) ([]Ack, error) { return readLedger(conn) }

func readLedger(conn *sqlite3.Conn) ([]Ack, error) {
	stmt, _, err := conn.Prepare(`SELECT n, kind, changes, digest FROM ledger ORDER BY n`)
	if err != nil {
		return nil, fmt.Errorf("sampledb: ledger: %w", err)
	}
	defer stmt.Close()
	var out []Ack
	for stmt.Step() {
		a := Ack{N: stmt.ColumnInt64(0), Kind: stmt.ColumnText(1), Changes: int(stmt.ColumnInt64(2))}
		copy(a.Digest[:], stmt.ColumnRawBlob(3))
		out = append(out, a)
	}
	if err := stmt.Err(); err != nil {
		return nil, fmt.Errorf("sampledb: ledger: %w", err)
	}
	return out, nil
}
