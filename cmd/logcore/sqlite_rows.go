package main

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ncruces/go-sqlite3"
)

// rowWriter shows the rows of one statement.
type rowWriter interface {
	row(stmt *sqlite3.Stmt) error
	end() error
}

func newRowWriter(format string, w io.Writer, stmt *sqlite3.Stmt) rowWriter {
	columns := make([]string, stmt.ColumnCount())
	for i := range columns {
		columns[i] = stmt.ColumnName(i)
	}
	switch format {
	case "json":
		return &jsonRows{w: w, columns: columns}
	case "csv":
		c := &csvRows{w: csv.NewWriter(w)}
		c.err = c.w.Write(columns)
		return c
	}
	return &tableRows{w: w, columns: columns}
}

// tableRowsAtOnce is how many rows are looked at to choose the widths of the
// columns: a result of any length streams through.
const tableRowsAtOnce = 500

type tableRows struct {
	w       io.Writer
	columns []string
	pending [][]string
	started bool
}

func (t *tableRows) row(stmt *sqlite3.Stmt) error {
	cells := make([]string, len(t.columns))
	for i := range cells {
		cells[i] = strings.NewReplacer("\n", "⏎", "\r", "␍", "\t", "⇥").Replace(cellText(stmt, i, "NULL"))
	}
	t.pending = append(t.pending, cells)
	if len(t.pending) >= tableRowsAtOnce {
		return t.flush()
	}
	return nil
}

func (t *tableRows) end() error { return t.flush() }

func (t *tableRows) flush() error {
	rows := t.pending
	if !t.started {
		rule := make([]string, len(t.columns))
		rows = append([][]string{t.columns, rule}, rows...)
	}
	widths := make([]int, len(t.columns))
	for _, cells := range rows {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for r, cells := range rows {
		var line strings.Builder
		for i, cell := range cells {
			if !t.started && r == 1 {
				cell = strings.Repeat("-", widths[i])
			}
			line.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	t.started, t.pending = true, t.pending[:0]
	_, err := io.WriteString(t.w, b.String())
	return err
}

type csvRows struct {
	w   *csv.Writer
	err error
}

func (c *csvRows) row(stmt *sqlite3.Stmt) error {
	if c.err != nil {
		return c.err
	}
	cells := make([]string, stmt.ColumnCount())
	for i := range cells {
		cells[i] = cellText(stmt, i, "")
	}
	return c.w.Write(cells)
}

func (c *csvRows) end() error {
	c.w.Flush()
	return c.w.Error()
}

// jsonRows writes an array of objects, one row a line, in the columns' order.
type jsonRows struct {
	w       io.Writer
	columns []string
	rows    int
}

func (j *jsonRows) row(stmt *sqlite3.Stmt) error {
	var b strings.Builder
	if j.rows == 0 {
		b.WriteString("[\n ")
	} else {
		b.WriteString(",\n ")
	}
	j.rows++
	for i, name := range j.columns {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		value, err := json.Marshal(cellValue(stmt, i))
		if err != nil {
			return err
		}
		b.WriteString(string("{,"[min(i, 1)]) + string(key) + ":" + string(value))
	}
	b.WriteString("}")
	_, err := io.WriteString(j.w, b.String())
	return err
}

func (j *jsonRows) end() error {
	text := "\n]\n"
	if j.rows == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(j.w, text)
	return err
}

// cellText shows a column as text; blobs in hexadecimal.
func cellText(stmt *sqlite3.Stmt, col int, null string) string {
	switch stmt.ColumnType(col) {
	case sqlite3.NULL:
		return null
	case sqlite3.INTEGER:
		return strconv.FormatInt(stmt.ColumnInt64(col), 10)
	case sqlite3.BLOB:
		return hex.EncodeToString(stmt.ColumnRawBlob(col))
	}
	return stmt.ColumnText(col)
}

// cellValue is a column as a JSON value; blobs in base64.
func cellValue(stmt *sqlite3.Stmt, col int) any {
	switch stmt.ColumnType(col) {
	case sqlite3.NULL:
		return nil
	case sqlite3.INTEGER:
		return stmt.ColumnInt64(col)
	case sqlite3.FLOAT:
		if f := stmt.ColumnFloat(col); !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
		return fmt.Sprint(stmt.ColumnFloat(col))
	case sqlite3.BLOB:
		return base64.StdEncoding.EncodeToString(stmt.ColumnRawBlob(col))
	}
	return stmt.ColumnText(col)
}
