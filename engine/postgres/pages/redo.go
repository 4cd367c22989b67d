package pages

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// The data of a redo record: redoVersion, then items, each its kind, the length of what follows, and that. FORMAT.md has the bytes.
const (
	redoVersion     = 1
	itemHeaderBytes = 5

	itemRecord = 1 // settings, then a WAL record's excerpt
	itemEdit   = 2 // a page.Edit

	settingHintBits = 1 << 0
	settingsKnown   = settingHintBits

	pageBytes = page.Bytes
)

// endItem sets the length in the header of an item, once the item is there.
func endItem(b []byte, begin int) {
	binary.LittleEndian.PutUint32(b[begin+1:], uint32(len(b)-begin-itemHeaderBytes))
}

var excerpts = sync.Pool{New: func() any { return new(wal.Record) }}

// Redo implements engine.Decoder: it makes all changes of the data, in order. A page knows by its LSN which records it has. Its
// checksum is whatever it was: who writes the page to a file of a cluster with checksums sets it.
func (Decoder) Redo(p, data []byte) error {
	if len(data) < 1 || len(p) != pageBytes {
		return fmt.Errorf("pages: %w: redo of %d bytes for a page of %d", logcore.ErrCorrupt, len(data), len(p))
	}
	if data[0] != redoVersion {
		return fmt.Errorf("pages: %w: redo of version %d; this build reads %d", logcore.ErrUnsupportedVersion, data[0], redoVersion)
	}
	r := excerpts.Get().(*wal.Record)
	defer excerpts.Put(r)
	for b := data[1:]; len(b) > 0; {
		if len(b) < itemHeaderBytes || uint64(binary.LittleEndian.Uint32(b[1:])) > uint64(len(b)-itemHeaderBytes) {
			return fmt.Errorf("pages: %w: a redo item of %d bytes", logcore.ErrCorrupt, len(b))
		}
		end := itemHeaderBytes + int(binary.LittleEndian.Uint32(b[1:]))
		if err := redoItem(p, r, b[0], b[itemHeaderBytes:end]); err != nil {
			return fmt.Errorf("pages: %w", err)
		}
		b = b[end:]
	}
	return nil
}

func redoItem(p page.Page, r *wal.Record, kind byte, item []byte) error {
	switch {
	case kind == itemEdit:
		return page.Edit(item).Apply(p)
	case kind == itemRecord && len(item) > 0 && item[0]&^settingsKnown == 0:
		b, err := wal.ParseExcerpt(item[1:], r)
		if err != nil {
			return err
		}
		_, err = redo.Redo{HintBitsLogged: item[0]&settingHintBits != 0}.Block(r, b, p)
		return err
	}
	return fmt.Errorf("%w: a redo item of kind %d: use a newer build", logcore.ErrUnsupportedVersion, kind)
}
