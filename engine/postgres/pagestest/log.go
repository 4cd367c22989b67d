package pagestest

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// Entry is an entry of a log: its payloads, several for a transaction of parts, which have the numbers up to LSN.
type Entry struct {
	LSN      logcore.LSN
	Payloads [][]byte
}

// Log returns the entries of a log: a base backup that was given up, one in small pieces with these files, and the WAL of a sample, cut between records
// at random, some of it into parts that are cut anywhere. files maps paths to contents; those of pg_control and of nothing else needed are added.
func Log(s walsample.Sample, files map[string][]byte, rng *rand.Rand) ([]Entry, error) {
	wal, err := s.Log()
	if err != nil {
		return nil, err
	}
	l := &builder{rng: rng, header: payload.Payload{SystemID: systemID(wal), Timeline: walsample.Timeline, SegmentBytes: walsample.SegmentBytes}}
	l.backup(walsample.Start-0x1000, map[string][]byte{"base/5/77777": bytes.Repeat([]byte{1}, 16384), "abandoned.conf": []byte("x")}, false)
	l.backup(walsample.Start+0x28, files, true)
	return l.entries, l.wal(wal)
}

// systemID is in the first page's header.
func systemID(log []byte) uint64 { return binary.LittleEndian.Uint64(log[24:]) }

type builder struct {
	rng     *rand.Rand
	header  payload.Payload
	lsn     logcore.LSN
	entries []Entry
}

func (l *builder) add(payloads ...[]byte) {
	l.lsn += logcore.LSN(len(payloads) + l.rng.IntN(3)) // other logs have numbers too
	l.entries = append(l.entries, Entry{l.lsn, payloads})
}

func (l *builder) backup(start wal.Position, files map[string][]byte, whole bool) {
	archive := Archive(files, Control(l.header.SystemID, start))
	if !whole {
		archive = archive[:len(archive)*2/3]
	}
	p := l.header
	p.Kind, p.Start = payload.KindBase, start
	for len(archive) > 0 {
		n := min(len(archive), 1+l.rng.IntN(20000))
		p.Content = payload.Piece{Archive: "base.tar", Data: archive[:n]}.Append(nil)
		l.add(p.Append(nil))
		archive = archive[n:]
	}
	if whole {
		p.Kind, p.Content = payload.KindBaseEnd, binary.LittleEndian.AppendUint64(nil, uint64(start)+0x100)
		l.add(p.Append(nil))
	}
}

// wal cuts the log into entries.
func (l *builder) wal(log []byte) error {
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		return err
	}
	d.Feed(log)
	p := l.header
	p.Kind, p.Start = payload.KindWAL, walsample.Start
	var r wal.Record
	for {
		err := d.Next(&r)
		end := d.Boundary()
		if err != nil || int(end-p.Start) > 1000+l.rng.IntN(60000) {
			var parts [][]byte
			for content := log[p.Start-walsample.Start : end-walsample.Start]; len(content) > 0; {
				n := len(content)
				if l.rng.IntN(3) == 0 {
					n = 1 + l.rng.IntN(n)
				}
				p.Content = content[:n]
				parts = append(parts, p.Append(nil))
				p.Start += wal.Position(n)
				content = content[n:]
			}
			if len(parts) > 0 {
				l.add(parts...)
			}
		}
		var over *wal.InvalidError
		switch {
		case errors.Is(err, wal.ErrMore), errors.As(err, &over) && over.NothingWritten():
			return nil
		case err != nil:
			return err
		}
	}
}

// Archive returns the main archive of a base backup, pg_control last as the server sends it.
func Archive(files map[string][]byte, control []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, content []byte) {
		h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: time.Unix(1700000000, 0), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if err := errors.Join(w.WriteHeader(h), func() error { _, err := w.Write(content); return err }()); err != nil {
			panic(err) // into memory
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "pg_tblspc/", Mode: 0o700, Typeflag: tar.TypeDir, Format: tar.FormatUSTAR}); err != nil {
		panic(err)
	}
	if err := w.WriteHeader(&tar.Header{Name: "pg_tblspc/16385", Linkname: "/elsewhere", Typeflag: tar.TypeSymlink, Format: tar.FormatUSTAR}); err != nil {
		panic(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		add(name, files[name])
	}
	add("global/pg_control", control)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Control returns a pg_control of PostgreSQL 15.
func Control(systemID uint64, redo wal.Position) []byte {
	b := make([]byte, 8192)
	le := binary.LittleEndian
	le.PutUint64(b, systemID)
	for at, v := range map[int]uint32{8: 1300, 12: 202209061, 16: 4, 216: 8192, 220: wal.FilePages, 224: 8192, 228: walsample.SegmentBytes, 232: 64} {
		le.PutUint32(b[at:], v)
	}
	le.PutUint64(b[32:], uint64(redo))
	le.PutUint64(b[40:], uint64(redo))
	le.PutUint32(b[48:], uint32(walsample.Timeline))
	le.PutUint32(b[52:], uint32(walsample.Timeline))
	le.PutUint64(b[64:], 700) // next XID
	le.PutUint32(b[72:], 16384)
	le.PutUint32(b[76:], 1) // next multixact
	le.PutUint32(b[84:], 717)
	le.PutUint32(b[92:], 1)
	b[200] = 1 // track_commit_timestamp
	le.PutUint32(b[288:], crc32.Checksum(b[:288], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// Files are some files of a base backup.
func Files() map[string][]byte {
	page := func(n int) []byte { return bytes.Repeat([]byte{0}, n*8192) }
	return map[string][]byte{
		"PG_VERSION": []byte("15\n"), "postgresql.conf": []byte("# settings\n"), "pg_hba.conf": bytes.Repeat([]byte("local all all trust\n"), 3000),
		"base/1/PG_VERSION": []byte("15\n"), "base/1/pg_filenode.map": bytes.Repeat([]byte{7}, 512), "base/5/pg_filenode.map": bytes.Repeat([]byte{9}, 512),
		"global/pg_filenode.map": bytes.Repeat([]byte{8}, 512),
		"base/1/1000":            page(3), "base/1/1000_fsm": page(1), "base/1/1000_vm": page(1), "base/1/1001": nil, "base/1/1002_init": page(1), "base/1/1003": page(2)[:12000],
		"pg_xact/0000": page(1), "pg_multixact/offsets/0000": page(1), "pg_multixact/members/0000": page(1), "pg_commit_ts/0000": page(1),
		"backup_label": []byte("START"), "pg_wal/000000010000000000000001": page(1),
		fmt.Sprintf("log/%090d/%090d", 4, 5): []byte("a long name"),
	}
}

// FilesFor returns Files and the relation files that the base backup before a sample has to have: with the pages that the sample's records change before
// they make them. The pages say that they are of later than any record, as a page can be that was copied while the server ran: so
// records leave them alone until one has an image.
func FilesFor(s walsample.Sample) (map[string][]byte, error) {
	log, err := s.Log()
	if err != nil {
		return nil, err
	}
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		return nil, err
	}
	d.Feed(log)
	files, made := Files(), map[string]bool{}
	later := make(page.Page, page.Bytes)
	later.Init(0)
	later.SetLSN(1 << 60)
	var r wal.Record
	for d.Next(&r) == nil {
		for i := range r.Blocks {
			b := &r.Blocks[i]
			path := b.Relation.Path(b.Fork)
			key := fmt.Sprint(path, "/", b.Number)
			if !made[key] && !b.WillInit && !redo.TakesImage(&r, b) && b.Fork == wal.ForkMain {
				for len(files[path]) < int(b.Number+1)*page.Bytes {
					files[path] = append(files[path], later...)
				}
			}
			made[key] = true
		}
	}
	return files, nil
}
