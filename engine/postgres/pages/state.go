package pages

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/backup"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/wal"
)

const stateVersion = 1

// state is what the decoder knows behind an entry.
//
// Invariant: the log was read up to due. The next record begins at from, at or behind which page headers may come first; pending are the bytes
// [from, due) of it, none when from is in padding that has not come yet. prev is where the record before begins, 0 when none was read.
type state struct {
	base     Base
	complete bool // the base backup is; until then the fields of the second group count, afterwards those of the third

	reader  *backup.Reader // nil before the first archive
	file    file           // of the entry that the reader is in
	control []byte         // of pg_control, as far as it came
	groups  []uint64       // whose spaces were made

	due, from  wal.Position
	prev       wal.Position
	timeline   wal.Timeline
	pending    []byte
	counters   effect.Counters
	settings   effect.Settings
	lastCommit int64        // the latest, microseconds since 2000-01-01
	told       wal.Position // of the last Checkpoint
	segments   [effect.SLRUs]segments
}

// pendingMax bounds what is kept of a record that has not ended.
const pendingMax = engine.StateBytesMax / 2

// stateBytesUsual is about how long a state is between two records.
const stateBytesUsual = 256

// encode returns the state's bytes.
func (s *state) encode() ([]byte, error) {
	if len(s.pending) > pendingMax {
		return nil, fmt.Errorf("pages: %w: the WAL record at %v has more than %d bytes", logcore.ErrTooLarge, s.from, pendingMax)
	}
	n := stateBytesUsual + len(s.pending) + len(s.file.unit) + len(s.control) + 8*len(s.groups)
	for i := range s.segments {
		n += 8 * len(s.segments[i])
	}
	w := writer{make([]byte, 0, n)}
	w.u8(stateVersion)
	w.bool(s.complete)
	w.u32(baseBytes)
	w.b = s.base.append(w.b)
	for i := range s.segments {
		w.segments(s.segments[i])
	}
	if !s.complete {
		w.bool(s.reader != nil)
		if s.reader != nil {
			w.b = s.reader.AppendState(w.b)
			s.file.encode(&w)
		}
		w.bytes(s.control)
		w.u32(uint32(len(s.groups)))
		for _, g := range s.groups {
			w.u64(g)
		}
		return w.b, nil
	}
	w.u64(uint64(s.due))
	w.u64(uint64(s.from))
	w.u64(uint64(s.prev))
	w.u32(uint32(s.timeline))
	w.u64(uint64(s.lastCommit))
	w.u64(uint64(s.told))
	w.u8(settingFlags(s.settings))
	w.b = s.counters.AppendCheckpoint(w.b)
	w.bytes(s.pending)
	return w.b, nil
}

// forget makes it the state of a log's beginning; the memory of the segments is used again.
func (s *state) forget() {
	segments := s.segments
	for i := range segments {
		segments[i] = segments[i][:0]
	}
	*s = state{segments: segments}
}

// parse is the inverse of encode; nil is the state of a log's beginning. Parts of the state point into b.
func (s *state) parse(b []byte) error {
	s.forget()
	if b == nil {
		return nil
	}
	if len(b) > 0 && b[0] != stateVersion {
		return fmt.Errorf("pages: %w: a decoder's state of version %d; this build reads %d: have the page server build its store again", logcore.ErrUnsupportedVersion, b[0], stateVersion)
	}
	r := reader{b: b}
	r.u8()
	s.complete = r.bool()
	var err error
	if s.base, err = ParseBase(r.bytes()); err != nil {
		return err
	}
	for i := range s.segments {
		s.segments[i] = r.segments(s.segments[i])
	}
	if s.complete {
		s.due, s.from, s.prev, s.timeline = wal.Position(r.u64()), wal.Position(r.u64()), wal.Position(r.u64()), wal.Timeline(r.u32())
		s.lastCommit, s.told, s.settings = int64(r.u64()), wal.Position(r.u64()), parseSettings(r.u8())
		s.counters = effect.ParseCheckpoint(r.take(effect.CheckpointBytes))
		s.pending = r.bytes()
		if r.short || len(r.b) > 0 || wal.Position(len(s.pending)) != max(s.due, s.from)-s.from {
			return badState(b)
		}
		return nil
	}
	if r.bool() && !r.short {
		if s.reader, r.b, err = backup.NewReaderAt(r.b); err != nil {
			return err
		}
		s.file.decode(&r)
	}
	s.control = r.bytes()
	for range r.count(8) {
		s.groups = append(s.groups, r.u64())
	}
	if r.short || len(r.b) > 0 {
		return badState(b)
	}
	return nil
}

func badState(b []byte) error {
	return fmt.Errorf("pages: %w: a decoder's state of %d bytes", logcore.ErrCorrupt, len(b))
}

// segments are numbers of an SLRU's segments, as ascending ranges [from, to) that don't touch.
type segments []segmentRange

type segmentRange struct{ from, to uint32 }

// add adds a number.
func (s *segments) add(n uint32) {
	v := *s
	i := len(v)
	for i > 0 && v[i-1].from > n {
		i--
	}
	// v[i-1] begins at or before n, v[i] behind it.
	if i > 0 && n < v[i-1].to {
		return
	}
	joinsLeft, joinsRight := i > 0 && v[i-1].to == n, i < len(v) && v[i].from == n+1
	switch {
	case joinsLeft && joinsRight:
		v[i-1].to = v[i].to
		*s = append(v[:i], v[i+1:]...)
	case joinsLeft:
		v[i-1].to++
	case joinsRight:
		v[i].from--
	default:
		v = append(v, segmentRange{})
		copy(v[i+1:], v[i:])
		v[i] = segmentRange{n, n + 1}
		*s = v
	}
}

// remove removes the numbers for which gone says so, and tells of each.
func (s *segments) remove(gone func(uint32) bool, each func(uint32)) {
	var kept segments
	for _, r := range *s {
		for n := r.from; n < r.to; n++ {
			if gone(n) {
				each(n)
			} else {
				kept.add(n)
			}
		}
	}
	*s = kept
}

// writer appends fields, little-endian.
type writer struct{ b []byte }

func (w *writer) u8(v uint8) { w.b = append(w.b, v) }
func (w *writer) bool(v bool) {
	n := uint8(0)
	if v {
		n = 1
	}
	w.u8(n)
}
func (w *writer) u32(v uint32)   { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)   { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) bytes(b []byte) { w.u32(uint32(len(b))); w.b = append(w.b, b...) }
func (w *writer) segments(s segments) {
	w.u32(uint32(len(s)))
	for _, r := range s {
		w.u32(r.from)
		w.u32(r.to)
	}
}

// reader reads what writer wrote. Past the end it gives zeros and short is set.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.short = nil, true
		return make([]byte, min(n, effect.CheckpointBytes))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) bool() bool  { return r.u8() != 0 }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// count reads how many items of so many bytes follow; no more than there are.
func (r *reader) count(itemBytes int) int {
	n := r.u32()
	if uint64(n)*uint64(itemBytes) > uint64(len(r.b)) {
		r.b, r.short = nil, true
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte { return r.take(r.count(1)) }

// segmentsMax bounds how many segments an SLRU can have: members of 2^32 multixacts are 82,000.
const segmentsMax = 1 << 17

// segments reads a set into the memory of s.
func (r *reader) segments(s segments) segments {
	s = s[:0]
	end, total := uint32(0), uint64(0)
	for i := range r.count(8) {
		v := segmentRange{r.u32(), r.u32()}
		total += uint64(v.to) - uint64(v.from)
		if v.from >= v.to || i > 0 && v.from <= end || total > segmentsMax {
			r.b, r.short = nil, true
			return s[:0]
		}
		end = v.to
		s = append(s, v)
	}
	return s
}
