package waldump

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// kind is one operation of a resource manager.
type kind struct {
	op     uint8
	name   string
	pieces []piece
	more   func(dst []byte, r *wal.Record) []byte // the variable part
}

// op makes a kind of a template: text with fields in braces, {type@offset} of the
// main data, or {?offset|text} for text that is there when the byte isn't zero.
func op(code uint8, name, template string) kind {
	return kind{op: code, name: name, pieces: compile(template)}
}

// variable is op for a record that ends with a variable part.
func variable(code uint8, name, template string, more func([]byte, *wal.Record) []byte) kind {
	return kind{op: code, name: name, pieces: compile(template), more: more}
}

// piece is a literal text or a field.
type piece struct {
	text   string
	format fieldFormat // nil: text stands as it is
	offset int
}

// fieldFormat appends the field at the beginning of b. size is how many bytes it needs.
type fieldFormat = *fieldType

type fieldType struct {
	size   int
	append func(dst, b []byte) []byte
}

func (p piece) appendTo(dst []byte, r *wal.Record) []byte {
	switch {
	case p.format == nil:
		return append(dst, p.text...)
	case len(r.Data) < p.offset+p.format.size:
		return append(dst, '?')
	case p.format == conditional:
		if r.Data[p.offset] != 0 {
			dst = append(dst, p.text...)
		}
		return dst
	}
	return p.format.append(dst, r.Data[p.offset:])
}

// conditional is the format of {?offset|text}.
var conditional = &fieldType{size: 1}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func appendUint(dst []byte, v uint64) []byte { return strconv.AppendUint(dst, v, 10) }

// choice is a byte that stands for one of two texts.
func choice(no, yes string) *fieldType {
	return &fieldType{1, func(dst, b []byte) []byte {
		if b[0] != 0 {
			return append(dst, yes...)
		}
		return append(dst, no...)
	}}
}

var fieldTypes = map[string]*fieldType{
	"u8":   {1, func(dst, b []byte) []byte { return appendUint(dst, uint64(b[0])) }},
	"i8":   {1, func(dst, b []byte) []byte { return strconv.AppendInt(dst, int64(int8(b[0])), 10) }},
	"x8":   {1, func(dst, b []byte) []byte { return fmt.Appendf(dst, "%02X", b[0]) }},
	"u16":  {2, func(dst, b []byte) []byte { return appendUint(dst, uint64(u16(b))) }},
	"u32":  {4, func(dst, b []byte) []byte { return appendUint(dst, uint64(u32(b))) }},
	"i32":  {4, func(dst, b []byte) []byte { return strconv.AppendInt(dst, int64(int32(u32(b))), 10) }},
	"f64":  {8, func(dst, b []byte) []byte { return fmt.Appendf(dst, "%.6g", math.Float64frombits(u64(b))) }},
	"pos":  {8, func(dst, b []byte) []byte { return append(dst, wal.Position(u64(b)).String()...) }},
	"xid":  {8, func(dst, b []byte) []byte { return fmt.Appendf(dst, "%d:%d", u32(b[4:]), u32(b)) }}, // epoch and number
	"rel":  {12, func(dst, b []byte) []byte { return fmt.Appendf(dst, "%d/%d/%d", u32(b), u32(b[4:]), u32(b[8:])) }},
	"path": {12, func(dst, b []byte) []byte { return append(dst, relation(b).Path(wal.ForkMain)...) }},
	"blk":  {4, func(dst, b []byte) []byte { return appendUint(dst, uint64(splitBlock(b))) }},
	"time": {8, appendTime},
	"bits": {1, appendInfoBits},
	"text": {1, func(dst, b []byte) []byte { return append(dst, terminated(b)...) }},
	"bool": choice("false", "true"),
	"on":   choice("off", "on"),
	"TF":   choice("F", "T"),
	"wal_level": {4, func(dst, b []byte) []byte {
		levels := []string{"minimal", "replica", "logical"}
		if n := u32(b); n < uint32(len(levels)) {
			return append(dst, levels[n]...)
		}
		return append(dst, '?')
	}},
}

// compile cuts a template. The templates are constants: a wrong one is a bug.
func compile(template string) []piece {
	var pieces []piece
	for template != "" {
		text, rest, found := strings.Cut(template, "{")
		if text != "" {
			pieces = append(pieces, piece{text: text})
		}
		if !found {
			break
		}
		field, after, ok := strings.Cut(rest, "}")
		if !ok {
			panic("waldump: no } in " + template)
		}
		pieces = append(pieces, compileField(field))
		template = after
	}
	return pieces
}

func compileField(field string) piece {
	if rest, ok := strings.CutPrefix(field, "?"); ok {
		at, text, _ := strings.Cut(rest, "|")
		return piece{text: text, format: conditional, offset: mustAtoi(at)}
	}
	name, at, _ := strings.Cut(field, "@")
	f := fieldTypes[name]
	if f == nil {
		panic("waldump: no field type " + name)
	}
	return piece{format: f, offset: mustAtoi(at)}
}

func mustAtoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("waldump: " + err.Error())
	}
	return n
}

func relation(b []byte) wal.Relation {
	return wal.Relation{Tablespace: u32(b), Database: u32(b[4:]), File: u32(b[8:])}
}

// splitBlock reads a block number kept as two halves, the high one first (BlockIdData).
func splitBlock(b []byte) uint32 { return uint32(u16(b))<<16 | uint32(u16(b[2:])) }

// terminated is the text before the first zero byte.
func terminated(b []byte) []byte {
	for i, c := range b {
		if c == 0 {
			return b[:i]
		}
	}
	return b
}

// appendInfoBits writes what a record does to a tuple's infomask.
func appendInfoBits(dst, b []byte) []byte {
	for i, name := range []string{"IS_MULTI ", "LOCK_ONLY ", "EXCL_LOCK ", "KEYSHR_LOCK ", "KEYS_UPDATED "} {
		if b[0]&(1<<i) != 0 {
			dst = append(dst, name...)
		}
	}
	return dst
}

// postgresEpoch is where PostgreSQL's timestamps begin, in seconds of Unix time.
const postgresEpoch = 946684800

// appendTime writes a timestamp in the local time zone.
func appendTime(dst, b []byte) []byte {
	us := int64(u64(b))
	t := time.Unix(postgresEpoch, 0).Add(time.Duration(us%1e6) * time.Microsecond)
	t = time.Unix(t.Unix()+us/1e6, int64(t.Nanosecond()))
	return t.Local().AppendFormat(dst, "2006-01-02 15:04:05.000000 MST")
}
