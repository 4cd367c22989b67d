package wal

import "fmt"

// Tablespaces that every cluster has.
const (
	TablespaceDefault = 1663
	TablespaceGlobal  = 1664
)

// TablespaceDirectory is the directory inside every other tablespace: PostgreSQL 15 and
// its catalog version.
const TablespaceDirectory = "PG_15_202209061"

// DatabasePath returns the directory of a database inside the data directory.
func DatabasePath(tablespace, database uint32) string {
	switch tablespace {
	case TablespaceGlobal:
		return "global"
	case TablespaceDefault:
		return fmt.Sprintf("base/%d", database)
	}
	return fmt.Sprintf("pg_tblspc/%d/%s/%d", tablespace, TablespaceDirectory, database)
}

// Path returns the path of a fork's first file inside the data directory. A fork larger than
// 1 GiB goes on in files with .1, .2 and so on behind that.
func (r Relation) Path(f Fork) string {
	p := fmt.Sprintf("%s/%d", DatabasePath(r.Tablespace, r.Database), r.File)
	if f != ForkMain {
		p += "_" + f.String()
	}
	return p
}

// FilePages is how many pages a relation's file has before the next one begins: 1 GiB.
const FilePages = 1 << 17

// FilePath returns the path of the file that holds a fork's page inside the data directory, and where in it the page begins.
func (r Relation) FilePath(f Fork, number uint32) (path string, offset int64) {
	path = r.Path(f)
	if n := number / FilePages; n > 0 {
		path += fmt.Sprintf(".%d", n)
	}
	return path, int64(number%FilePages) * PageBytes
}
