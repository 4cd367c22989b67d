package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

func TestCompleteSQL(t *testing.T) {
	for sql, want := range map[string]bool{
		"":                   true,
		"  -- a comment\n":   true,
		"SELECT 1":           false,
		"SELECT 1;":          true,
		"SELECT 1; ":         true,
		"SELECT 1; SELECT 2": false,
		"SELECT ';":          false,
		"SELECT ';';":        true,
		"SELECT 'it''s;' ;":  true,
		"SELECT \"a;":        false,
		"SELECT [a;b] ;":     true,
		"SELECT 1 /* ; ":     false,
		"SELECT 1 /* ; */;":  true,
		"SELECT 1 -- ;":      false,
		"SELECT 1 -- ;\n;":   true,
		"BEGIN;":             true,
		"CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1;":                 false,
		"CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;":            true,
		"create temp trigger t after insert on a begin select 1; end ;":      true,
		"CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END; SELECT":     false,
		"CREATE TABLE trigger_like(a); ":                                     true,
		"INSERT INTO a VALUES('END'); CREATE TRIGGER x BEGIN SELECT 1; END ": false,
		"SELECT 1; -- done": true,
	} {
		if got := completeSQL(sql); got != want {
			t.Errorf("completeSQL(%q) = %v", sql, got)
		}
	}
}

func testShell(t *testing.T, format string) (*shell, *bytes.Buffer) {
	t.Helper()
	conn, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var out bytes.Buffer
	return &shell{app: &app{stdio: stdio{out: &out, err: &out}}, conn: conn, format: format}, &out
}

func TestShellFormats(t *testing.T) {
	const script = "CREATE TABLE t(a INTEGER, b TEXT, c REAL, d BLOB);\nINSERT INTO t VALUES(1,'x,\"y\"\nz',0.5,x'00ff'),\n (NULL,'é',1e999,NULL);\n"
	for format, want := range map[string]string{
		"table": "a     b        c    d\n----  -------  ---  ----\n1     x,\"y\"⏎z  0.5  00ff\nNULL  é        Inf  NULL\n",
		"csv":   "a,b,c,d\n1,\"x,\"\"y\"\"\nz\",0.5,00ff\n,é,Inf,\n",
		"json":  "[\n {\"a\":1,\"b\":\"x,\\\"y\\\"\\nz\",\"c\":0.5,\"d\":\"AP8=\"},\n {\"a\":null,\"b\":\"é\",\"c\":\"+Inf\",\"d\":null}\n]\n",
	} {
		s, out := testShell(t, format)
		if err := s.script(context.Background(), strings.NewReader(script+"SELECT * FROM t;\n")); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s:\n%q\nwant\n%q", format, out.String(), want)
		}
	}
}

func TestScriptStopsAtTheFirstErrorAndNamesItsLine(t *testing.T) {
	s, out := testShell(t, "csv")
	err := s.script(context.Background(), strings.NewReader("CREATE TABLE t(a);\n\nSELECT\n nope;\nINSERT INTO t VALUES(1);\n"))
	if err == nil || !strings.Contains(err.Error(), "line 3") || !strings.Contains(err.Error(), "nope") {
		t.Errorf("error %v, want one of line 3 that names the column", err)
	}
	if err := s.exec(context.Background(), out, "SELECT count(*) AS n FROM t"); err != nil || out.String() != "n\n0\n" {
		t.Errorf("after the error: %q, %v", out.String(), err)
	}
}

func TestDotCommands(t *testing.T) {
	s, out := testShell(t, "csv")
	if err := s.script(context.Background(), strings.NewReader("CREATE TABLE t(a);\n.tables\n.schema t\n.mode json\nSELECT 1 AS x;\n.quit\nSELECT broken;\n")); err != nil {
		t.Fatal(err)
	}
	want := "name\nt\nsql\nCREATE TABLE t(a)\n[\n {\"x\":1}\n]\n"
	if out.String() != want {
		t.Errorf("output %q, want %q", out.String(), want)
	}
	if err := s.script(context.Background(), strings.NewReader(".nope\n")); err == nil {
		t.Error("an unknown dot command passed")
	}
}
