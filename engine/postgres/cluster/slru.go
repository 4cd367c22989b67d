package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// slruFilePages is how many pages a file of an SLRU has.
const slruFilePages = 32

// slru is one of the logs of small entries by number: the status of transactions, their
// commit times, multixacts (access/slru.c). It is kept in files of 32 pages, named by their number.
type slru struct {
	dir        string
	perPage    uint32
	entryBytes uint32
	// precedes compares two page numbers by what their entries number, which wraps round.
	precedes func(a, b uint32) bool
}

var (
	clog     = slru{dir: "pg_xact", perPage: page.Bytes * 4, precedes: precedesPages(page.Bytes*4, wal.FirstNormalXID+1)}
	commitTs = slru{dir: "pg_commit_ts", perPage: page.Bytes / 10, entryBytes: 10, precedes: precedesPages(page.Bytes/10, wal.FirstNormalXID+1)}
	offsets  = slru{dir: "pg_multixact/offsets", perPage: page.Bytes / 4, entryBytes: 4, precedes: precedesPages(page.Bytes/4, firstMulti+1)}
	members  = slru{dir: "pg_multixact/members", perPage: memberGroups * memberGroup}
)

// precedesPages compares two page numbers by what their entries number.
func precedesPages(perPage, first uint32) func(a, b uint32) bool {
	return func(a, b uint32) bool {
		x, y := a*perPage+first, b*perPage+first
		return wal.XIDPrecedes(x, y) && wal.XIDPrecedes(x, y+perPage-1)
	}
}

// name returns a page's file.
func (s slru) name(n uint32) string { return fmt.Sprintf("%s/%04X", s.dir, n/slruFilePages) }

// update reads page n, calls change and writes the page back. A page that isn't there is
// one of zeros: the base backup was begun before it was made.
func (c *Cluster) update(s slru, n uint32, change func(page.Page)) error {
	f, err := c.pages.file(s.name(n), true)
	if err != nil {
		return err
	}
	p := make(page.Page, page.Bytes)
	at := int64(n%slruFilePages) * page.Bytes
	if _, err := f.ReadAt(p, at); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cluster: %w", err)
	}
	change(p)
	if _, err := f.WriteAt(p, at); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// zero makes page n anew.
func (c *Cluster) zero(s slru, n uint32) error { return c.update(s, n, func(p page.Page) { clear(p) }) }

// truncateSLRU removes the files all of whose pages come before page n.
func (c *Cluster) truncateSLRU(s slru, n uint32) error {
	entries, err := os.ReadDir(filepath.Join(c.dir, s.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, e := range entries {
		file, err := strconv.ParseUint(e.Name(), 16, 32)
		if err != nil {
			continue
		}
		first := uint32(file) * slruFilePages
		if s.precedes(first, n) && s.precedes(first+slruFilePages-1, n) {
			if err := c.remove(s.dir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) applyCLOG(r *wal.Record, f *fields) error {
	const zeroPage, truncate = 0x00, 0x10
	switch n := f.u32(); r.Op() {
	case zeroPage:
		return c.zero(clog, n)
	case truncate:
		return c.truncateSLRU(clog, n)
	}
	return nil
}

func (c *Cluster) applyCommitTs(r *wal.Record, f *fields) error {
	const zeroPage, truncate = 0x00, 0x10
	n := f.u32()
	switch r.Op() {
	case zeroPage:
		return c.zero(commitTs, n)
	case truncate:
		oldest := f.u32()
		if c.OldestCommitTs == 0 || wal.XIDPrecedes(c.OldestCommitTs, oldest) {
			c.OldestCommitTs = oldest
		}
		return c.truncateSLRU(commitTs, n)
	}
	return nil
}
