package sampledb

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"

	"github.com/ncruces/go-sqlite3"
)

// Digest is a digest of the logical content of a database: the sum, modulo 2²⁵⁶, of
// the SHA-256 of every row of every table and of every item of the schema. It does
// not depend on the order of rows or on how they are stored, and a change of one row
// changes it by two hashes. It finds accidents; it is no proof against somebody who
// may choose rows at will.
type Digest [sha256.Size]byte

// String returns 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

func (d *Digest) add(row Digest) {
	var carry uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var sum uint64
		sum, carry = bits.Add64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(row[i:]), carry)
		binary.BigEndian.PutUint64(d[i:], sum)
	}
}

func (d *Digest) sub(row Digest) {
	var borrow uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var diff uint64
		diff, borrow = bits.Sub64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(row[i:]), borrow)
		binary.BigEndian.PutUint64(d[i:], diff)
	}
}

// rowHasher builds the unambiguous encoding of a row: the table's name, then each
// column as a type byte and, for text and blobs, a length.
type rowHasher struct{ buf []byte }

func (h *rowHasher) begin(table string) {
	h.buf = append(binary.BigEndian.AppendUint64(h.buf[:0], uint64(len(table))), table...)
}

func (h *rowHasher) sum() Digest { return sha256.Sum256(h.buf) }

func (h *rowHasher) null() { h.buf = append(h.buf, 'n') }

func (h *rowHasher) integer(v int64) {
	h.buf = binary.BigEndian.AppendUint64(append(h.buf, 'i'), uint64(v))
}

func (h *rowHasher) float(v float64) {
	h.buf = binary.BigEndian.AppendUint64(append(h.buf, 'f'), math.Float64bits(v))
}

func (h *rowHasher) bytes(kind byte, v []byte) {
	h.buf = append(binary.BigEndian.AppendUint64(append(h.buf, kind), uint64(len(v))), v...)
}

// column adds column i of the statement's row.
func (h *rowHasher) column(stmt *sqlite3.Stmt, i int) {
	switch stmt.ColumnType(i) {
	case sqlite3.INTEGER:
		h.integer(stmt.ColumnInt64(i))
	case sqlite3.FLOAT:
		h.float(stmt.ColumnFloat(i))
	case sqlite3.TEXT:
		h.bytes('t', stmt.ColumnRawText(i))
	case sqlite3.BLOB:
		h.bytes('b', stmt.ColumnRawBlob(i))
	default:
		h.null()
	}
}

// value adds a column as the pre-update hook gives it.
func (h *rowHasher) value(v sqlite3.Value) {
	switch v.Type() {
	case sqlite3.INTEGER:
		h.integer(v.Int64())
	case sqlite3.FLOAT:
		h.float(v.Float())
	case sqlite3.TEXT:
		h.bytes('t', v.RawText())
	case sqlite3.BLOB:
		h.bytes('b', v.RawBlob())
	default:
		h.null()
	}
}

// ContentDigest reads the whole database and returns its digest, without the tables
// named in except and SQLite's own, and the number of rows. For a consistent result
// the caller holds a transaction open.
func ContentDigest(conn *sqlite3.Conn, except ...string) (Digest, int64, error) {
	skip := make(map[string]bool)
	for _, name := range except {
		skip[name] = true
	}
	var total Digest
	var rows int64
	schema := `SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'`
	if err := addRows(conn, &total, &rows, "sqlite_schema", schema); err != nil {
		return Digest{}, 0, err
	}
	rows = 0
	tables, err := texts(conn, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		return Digest{}, 0, err
	}
	for _, table := range tables {
		if skip[table] {
			continue
		}
		if err := addRows(conn, &total, &rows, table, `SELECT * FROM `+sqlite3.QuoteIdentifier(table)); err != nil {
			return Digest{}, 0, err
		}
	}
	return total, rows, nil
}

func addRows(conn *sqlite3.Conn, total *Digest, rows *int64, table, sql string) error {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return fmt.Errorf("sampledb: digest of table %s: %w", table, err)
	}
	defer stmt.Close()
	var h rowHasher
	columns := stmt.ColumnCount()
	for stmt.Step() {
		h.begin(table)
		for i := range columns {
			h.column(stmt, i)
		}
		total.add(h.sum())
		*rows++
	}
	if err := stmt.Err(); err != nil {
		return fmt.Errorf("sampledb: digest of table %s: %w", table, err)
	}
	return nil
}

// texts returns the first column of a query.
func texts(conn *sqlite3.Conn, sql string) ([]string, error) {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("sampledb: %s: %w", sql, err)
	}
	defer stmt.Close()
	var out []string
	for stmt.Step() {
		out = append(out, stmt.ColumnText(0))
	}
	if err := stmt.Err(); err != nil {
		return nil, fmt.Errorf("sampledb: %s: %w", sql, err)
	}
	return out, nil
}

// MarshalText writes a digest as String does, also into JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads it back.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return fmt.Errorf("sampledb: a digest of %d digits: want %d", len(text), 2*len(d))
	}
	_, err := hex.Decode(d[:], text)
	return err
}
