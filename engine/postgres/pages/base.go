package pages

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/backup"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// file is the entry of a base backup that is being read.
type file struct {
	kind  fileKind
	path  string       // of fileOther
	space engine.Space // of the kinds that become pages
	next  uint32       // the page that comes next
	unit  []byte       // the part of it that came
	parts uint32       // of fileOther: put so far
}

// fileKind says what becomes of an entry.
type fileKind uint8

const (
	fileSkipped fileKind = iota
	filePages
	fileMap
	fileOther
	fileControl // pg_control: an object too
)

func (f *file) encode(w *writer) {
	w.u8(uint8(f.kind))
	w.bytes([]byte(f.path))
	w.u64(f.space.Hi)
	w.u64(f.space.Lo)
	w.u32(f.next)
	w.bytes(f.unit)
	w.u32(f.parts)
}

func (f *file) decode(r *reader) {
	*f = file{kind: fileKind(r.u8()), path: string(r.bytes()), space: engine.Space{Hi: r.u64(), Lo: r.u64()}, next: r.u32()}
	f.unit = slices.Clone(r.bytes())
	f.parts = r.u32()
}

// unitBytes is the length of a page of the file.
func (f *file) unitBytes() int {
	if f.kind == fileMap {
		return effect.RelationMapBytes
	}
	return pageBytes
}

var (
	relationFile = regexp.MustCompile(`^([0-9]+)(_(fsm|vm|init))?(\.([0-9]+))?$`)
	databaseDir  = regexp.MustCompile(`^(base|pg_tblspc/([0-9]+)/` + wal.TablespaceDirectory + `)/([0-9]+)$`)
	tablespace   = regexp.MustCompile(`^pg_tblspc/([0-9]+)/` + wal.TablespaceDirectory + `$`)
	slruFile     = regexp.MustCompile(`^[0-9A-F]{4,6}$`)
)

// database returns the database whose directory that is.
func database(dir string) (effect.Database, bool) {
	if dir == "global" {
		return effect.Database{Tablespace: wal.TablespaceGlobal}, true
	}
	m := databaseDir.FindStringSubmatch(dir)
	if m == nil {
		return effect.Database{}, false
	}
	d := effect.Database{Tablespace: wal.TablespaceDefault}
	if m[2] != "" {
		n, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil {
			return d, false
		}
		d.Tablespace = uint32(n)
	}
	n, err := strconv.ParseUint(m[3], 10, 32)
	d.OID = uint32(n)
	return d, err == nil
}

// classify says what becomes of a file of a base backup.
func classify(path string) (f file, err error) {
	dir, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	other := file{kind: fileOther, path: path}
	if path == effect.ControlPath {
		other.kind = fileControl
		return other, nil
	}
	if slices.Contains(effect.BackupFiles, path) || dir == "pg_wal" || strings.HasPrefix(path, "pg_wal/") {
		return file{}, nil
	}
	for s := range effect.SLRUs {
		if dir == s.Dir() && slruFile.MatchString(name) {
			n, err := strconv.ParseUint(name, 16, 32)
			return file{kind: filePages, space: SLRUSpace(s, uint32(n))}, err
		}
	}
	d, ok := database(dir)
	switch {
	case !ok:
		return other, nil
	case name == effect.RelationMapPath:
		return file{kind: fileMap, space: MapSpace(d)}, nil
	case name == "pg_internal.init" || name == "PG_VERSION":
		return file{}, nil // made anew
	}
	m := relationFile.FindStringSubmatch(name)
	if m == nil {
		return other, nil
	}
	return relation(d, m)
}

// relation returns the file of a relation, from the parts of its name.
func relation(d effect.Database, m []string) (file, error) {
	number, err := strconv.ParseUint(m[1], 10, 32)
	if err != nil {
		return file{}, err
	}
	fork := wal.ForkMain
	switch m[3] {
	case "fsm":
		return file{}, nil
	case "vm":
		fork = wal.ForkVM
	case "init":
		fork = wal.ForkInit
	}
	segment := uint64(0)
	if m[5] != "" {
		if segment, err = strconv.ParseUint(m[5], 10, 15); err != nil {
			return file{}, err
		}
	}
	rel := wal.Relation{Tablespace: d.Tablespace, Database: d.OID, File: uint32(number)}
	return file{kind: filePages, space: RelationSpace(rel, fork), next: uint32(segment) * wal.FilePages}, nil
}

// Begin implements backup.Sink.
func (e *emitter) Begin(b backup.Entry) error {
	s := &e.s
	s.file = file{}
	if b.Directory {
		if m := tablespace.FindStringSubmatch(b.Path); m != nil {
			e.put(KeysOf(s.base.Start).Tablespaces()+m[1], []byte{objectVersion})
		}
		return nil
	}
	f, err := classify(b.Path)
	if err != nil {
		return fmt.Errorf("pages: %w: base backup with the file %q: %w", logcore.ErrCorrupt, b.Path, err)
	}
	s.file = f
	if f.kind != filePages && f.kind != fileMap {
		return nil
	}
	if !slices.Contains(s.groups, f.space.Hi) {
		s.groups = append(s.groups, f.space.Hi)
	}
	if p, _ := PlaceOf(f.space); p.Kind == PlaceSLRU {
		s.segments[p.SLRU].add(p.Segment)
	}
	if f.next == 0 && f.kind == filePages && b.Bytes < pageBytes {
		e.add(engine.Record{Op: engine.OpTruncate, Space: f.space, PageSize: pageBytes}) // empty, but there
	}
	return nil
}

// Data implements backup.Sink.
func (e *emitter) Data(b []byte) error {
	f := &e.s.file
	switch f.kind {
	case fileSkipped:
		return nil
	case fileControl:
		e.s.control = append(e.s.control, b...)
		if len(e.s.control) > 2*pageBytes {
			return fmt.Errorf("pages: %w: base backup with a %s of more than %d bytes", logcore.ErrCorrupt, effect.ControlPath, len(e.s.control))
		}
		e.part(b)
		return nil
	case fileOther:
		e.part(b)
		return nil
	}
	unit := f.unitBytes()
	for len(b) > 0 {
		if len(f.unit) == 0 && len(b) >= unit {
			e.image(b[:unit:unit])
			b = b[unit:]
			continue
		}
		n := min(unit-len(f.unit), len(b))
		f.unit, b = append(f.unit, b[:n]...), b[n:]
		if len(f.unit) == unit {
			e.image(f.unit)
			f.unit = nil
		}
	}
	return nil
}

func (e *emitter) image(b []byte) {
	f := &e.s.file
	e.add(engine.Record{Op: engine.OpImage, Space: f.space, Page: f.next, PageSize: uint32(len(b)), Data: b})
	f.next++
}

// part puts the next part of a file that is an object.
func (e *emitter) part(b []byte) {
	f := &e.s.file
	for len(b) > 0 {
		n := min(len(b), filePartBytes)
		e.put(KeysOf(e.s.base.Start).Part(f.path, f.parts), b[:n])
		f.parts++
		b = b[n:]
	}
}

// End implements backup.Sink. What is left of a relation's file is less than a page: the server was just making it longer.
func (e *emitter) End() error {
	if f := &e.s.file; f.kind == fileOther || f.kind == fileControl {
		e.put(KeysOf(e.s.base.Start).file(f.path), FileHead{f.path, f.parts}.encode())
	}
	e.s.file = file{}
	return nil
}

// piece reads the next bytes of an archive.
func (e *emitter) piece(p payload.Piece) error {
	s := &e.s
	if s.reader == nil || s.reader.Archive() != p.Archive {
		if err := e.archiveComplete(); err != nil {
			return err
		}
		var err error
		if s.reader, err = backup.NewReader(p.Archive); err != nil {
			return err
		}
	}
	return s.reader.Feed(p.Data, e)
}

func (e *emitter) archiveComplete() error {
	if r := e.s.reader; r != nil && !r.Complete() {
		return fmt.Errorf("pages: %w: base backup whose archive %s does not end", logcore.ErrCorrupt, r.Archive())
	}
	return nil
}

// giveUp drops what came of a base backup without an end: another one begins. Its objects stay, under keys of their own.
func (e *emitter) giveUp() {
	for _, g := range e.s.groups {
		e.add(engine.Record{Op: engine.OpDropGroup, Space: engine.Space{Hi: g}})
	}
	e.s = state{}
}

// backupComplete ends the base backup: from here on WAL comes.
func (e *emitter) backupComplete(p payload.Payload) error {
	s := &e.s
	if s.reader == nil {
		return fmt.Errorf("pages: %w: the end of a base backup from %v without its pieces", logcore.ErrCorrupt, p.Start)
	}
	if err := e.archiveComplete(); err != nil {
		return err
	}
	control, err := effect.ParseControl(bytes.Clone(s.control))
	if err != nil {
		return fmt.Errorf("pages: the base backup's %w", err)
	}
	if id := control.SystemID(); id != p.SystemID {
		return fmt.Errorf("pages: %w: the base backup is of the database cluster %d, its entries say %d", logcore.ErrCorrupt, id, p.SystemID)
	}
	if s.base.End, err = payload.BackupEnd(p); err != nil {
		return err
	}
	s.complete, s.reader, s.control, s.groups = true, nil, nil, nil
	s.counters, s.settings, s.timeline = control.Counters(), control.Settings(), p.Timeline
	s.due = p.Start - p.Start%wal.Position(p.SegmentBytes)
	s.from = s.due
	e.put(BaseKey, s.base.encode())
	e.tell(s.base.Start)
	return nil
}
