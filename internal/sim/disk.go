package sim

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/replication"
)

// disk is a member's hot log on a simulated device: the production frames in segments,
// behind a write cache. It is what survives of a member besides its state store.
//
// The device carries out one write at a time, of everything that waits, as group commit
// does. What is on its way when the member crashes survives in part: a prefix, or any sectors of it.
// Recovery tells the torn tail from corruption with the production code, by a mark that
// lags one write behind, as on a real disk.
type disk struct {
	w      *world
	member uint64
	flaws  flaws

	segs    []*seg
	first   logcore.LSN
	last    logcore.LSN // submitted
	durable logcore.LSN
	stored  logcore.LSN // truly on the device; below durable only when the disk lies

	waiting []submission
	flight  []submission // being written
	life    int          // rises when what is under way is void
	broken  error        // a write or sync failed: nothing more is taken until it is recovered

	slow     float64 // factor on the device's latency
	syncFail int     // writes until one fails; 0: none does
	fullness bool    // no room for anything new
	limit    int64   // bytes that may be used
	lost     bool    // planted: a write was lost, and nobody was told
	tearCut  bool    // the member crashes in the middle of the next TruncateTail
	tearIn   int     // writes until the member crashes in the middle of one; 0: it doesn't
}

var _ replication.Disk = (*disk)(nil)

// seg is one segment file, without the blocks before its frames.
type seg struct {
	header segment.Header
	frames []byte
	ends   []int    // of each frame
	sums   []uint32 // checksums of the entries
	terms  []uint64
	sealed bool
	flips  []flip // what has rotted: reads check
	mark   mark   // proven durable, as a crash leaves it
}

// flip is what has changed in a byte.
type flip struct {
	at   int
	mask byte
}

// rotten returns p, the bytes from at on, as the device gives them back.
func (s *seg) rotten(p []byte, at int) []byte {
	var out []byte
	for _, f := range s.flips {
		if f.at >= at && f.at < at+len(p) {
			if out == nil {
				out = append(out, p...)
			}
			out[f.at-at] ^= f.mask
		}
	}
	if out == nil {
		return p
	}
	return out
}

// writeMax is the longest a write takes on a slow disk.
const writeMax = 3 * time.Second

type mark struct {
	lsn logcore.LSN
	end int
	sum uint32
}

type submission struct {
	last  logcore.LSN
	bytes int
	done  func(error)
}

func newDisk(w *world, member uint64) *disk {
	d := &disk{w: w, member: member, slow: 1, limit: 1 << 40}
	d.erase()
	return d
}

// erase makes it an empty disk.
func (d *disk) erase() {
	d.segs, d.first, d.last, d.durable, d.stored = nil, 1, 0, 0, 0
	d.waiting, d.flight, d.broken = nil, nil, nil
	d.life++
	d.open(segment.Header{ID: segment.ID{Shard: d.w.shard, First: 1}})
}

// copied is what is stored on the device, as somebody's copy of it would be.
func (d *disk) copied() []*seg {
	var out []*seg
	for _, s := range d.segs {
		if s.first() > d.stored+1 {
			break
		}
		c := *s
		c.ends, c.sums, c.terms, c.flips = slices.Clone(s.ends), slices.Clone(s.sums), slices.Clone(s.terms), slices.Clone(s.flips)
		c.cutAt(d.stored)
		if s.last() <= d.stored {
			c.sealed = s.sealed
		}
		out = append(out, &c)
	}
	return out
}

// putBack makes the device hold what was copied from it before.
func (d *disk) putBack(segs []*seg) {
	d.life++
	d.waiting, d.flight, d.broken = nil, nil, nil
	d.segs, d.first = segs, segs[0].first()
	d.last = d.tail().last()
	d.durable, d.stored = d.last, d.last
	for _, s := range segs {
		s.frames = slices.Clip(s.frames)
	}
}

func (s *seg) first() logcore.LSN { return s.header.ID.First }
func (s *seg) last() logcore.LSN  { return s.first() + logcore.LSN(len(s.ends)) - 1 }

// count is how many of its entries are at or below lsn.
func (s *seg) count(lsn logcore.LSN) int {
	if lsn < s.first() {
		return 0
	}
	return min(int(lsn-s.first())+1, len(s.ends))
}

// point is where its n-th entry ends.
func (s *seg) point(n int) mark {
	if n == 0 {
		return mark{lsn: s.first() - 1, sum: s.header.Prev}
	}
	return mark{lsn: s.first() + logcore.LSN(n) - 1, end: s.ends[n-1], sum: s.sums[n-1]}
}

// begin is where frame i begins, and the checksum of the entry before it.
func (s *seg) begin(i int) (at int, prev uint32) {
	if i == 0 {
		return 0, s.header.Prev
	}
	return s.ends[i-1], s.sums[i-1]
}

// cut leaves the first n entries. What was read before keeps its memory.
func (s *seg) cut(n int) {
	end := 0
	if n > 0 {
		end = s.ends[n-1]
	}
	s.frames = s.frames[:end:end]
	s.ends, s.sums, s.terms = s.ends[:n], s.sums[:n], s.terms[:n]
	s.flips = slices.DeleteFunc(s.flips, func(f flip) bool { return f.at >= end })
	s.sealed = false
	if s.mark.lsn > s.last() {
		s.mark = s.point(n)
	}
}

func (d *disk) open(h segment.Header) {
	d.segs = append(d.segs, &seg{header: h, mark: mark{lsn: h.ID.First - 1, sum: h.Prev}})
}

func (d *disk) tail() *seg { return d.segs[len(d.segs)-1] }

// find returns the segment that holds an LSN, nil when there is none.
func (d *disk) find(lsn logcore.LSN) *seg {
	for i := len(d.segs) - 1; i >= 0; i-- {
		if s := d.segs[i]; s.first() <= lsn {
			if lsn > s.last() {
				return nil
			}
			return s
		}
	}
	return nil
}

// lastTerm and lastSum are those of the newest entry.
func (d *disk) lastSum() (uint32, uint64) {
	for i := len(d.segs) - 1; i >= 0; i-- {
		if s := d.segs[i]; len(s.ends) > 0 {
			n := len(s.ends) - 1
			return s.sums[n], s.terms[n]
		}
	}
	return d.segs[0].header.Prev, d.segs[0].header.PrevTerm
}

// Submit implements replication.Disk.
func (d *disk) Submit(entries []logcore.Entry, done func(error)) error {
	switch {
	case d.broken != nil:
		return d.broken
	case len(d.waiting) >= 64:
		return fmt.Errorf("%w: simulated disk", logcore.ErrOverloaded)
	}
	if d.flaws.keepSuffix { // planted: what conflicts stays
		for len(entries) > 0 && entries[0].LSN <= d.last {
			entries = entries[1:]
		}
		if len(entries) == 0 {
			done(nil)
			return nil
		}
	}
	if entries[0].LSN != d.last+1 {
		return fmt.Errorf("%w: simulated disk: LSN %d behind %d", logcore.ErrInvalid, entries[0].LSN, d.last)
	}
	bytes := 0
	for _, e := range entries {
		bytes += d.append(e)
	}
	s := submission{last: d.last, bytes: bytes, done: done}
	if d.flaws.ackEarly { // planted: acknowledged before it is on the device
		s.done = func(error) {}
		d.durable = d.last
		done(nil)
	}
	d.waiting = append(d.waiting, s)
	d.write()
	return nil
}

// append puts an entry into the cache.
func (d *disk) append(e logcore.Entry) int {
	s := d.tail()
	if s.sealed || d.flaws.sealsAlone && len(s.frames) > segmentBytes/2 && len(s.ends) > 0 {
		s.sealed = true
		sum, term := d.lastSum()
		d.open(segment.Header{ID: segment.ID{Shard: d.w.shard, First: e.LSN}, Prev: sum, PrevTerm: term})
		s = d.tail()
	}
	_, prev := s.begin(len(s.ends))
	before := len(s.frames)
	var sum uint32
	s.frames, sum = segment.AppendFrame(s.frames, s.header.ID, prev, e)
	s.ends, s.sums, s.terms = append(s.ends, len(s.frames)), append(s.sums, sum), append(s.terms, e.Term)
	s.sealed = e.Kind == logcore.KindSeal
	d.last = e.LSN
	return len(s.frames) - before
}

// write begins the next write unless one is under way.
func (d *disk) write() {
	if len(d.flight) > 0 || len(d.waiting) == 0 {
		return
	}
	d.flight, d.waiting = d.waiting, nil
	took := d.w.s.between(d.w.plan.diskMin, d.w.plan.diskMax)
	if d.w.s.chance(0.01) {
		took *= 20 // the device collects its garbage
	}
	took = min(time.Duration(float64(took)*d.slow), writeMax)
	life := d.life
	if d.tearIn > 0 {
		if d.tearIn--; d.tearIn == 0 {
			d.w.s.after(d.w.s.between(0, took), func() {
				if d.life == life {
					d.w.crashOne(d.w.nodes[d.member-1])
				}
			})
		}
	}
	d.w.s.after(took, func() {
		if d.life == life {
			d.written()
		}
	})
}

// written is the end of a write.
func (d *disk) written() {
	flight := d.flight
	d.flight = nil
	if err := d.outcome(); err != nil {
		if d.flaws.syncRetries && errors.Is(err, logcore.ErrPoisoned) { // planted: another sync says that all is well
			d.durable = max(d.durable, flight[len(flight)-1].last)
			d.complete(flight, nil)
			d.lost = true
			d.write()
			return
		}
		d.giveUp(err, flight)
		return
	}
	if d.lost {
		d.complete(flight, nil) // the hole before stays
		d.durable = max(d.durable, flight[len(flight)-1].last)
		d.write()
		return
	}
	for i := range d.segs { // a mark speaks of what the write before made durable
		if s := d.segs[i]; s.last() >= d.stored || i == len(d.segs)-1 {
			s.mark = s.point(s.count(d.stored))
		} else {
			s.mark = s.point(len(s.ends))
		}
	}
	d.stored = flight[len(flight)-1].last
	d.durable = max(d.durable, d.stored)
	d.w.count.Syncs++
	d.complete(flight, nil)
	d.write()
}

// outcome says whether the device carries out this write.
func (d *disk) outcome() error {
	if d.syncFail > 0 {
		if d.syncFail--; d.syncFail == 0 {
			d.w.count.SyncErrors++
			d.w.trace.note("member %d: a sync fails", d.member)
			return fmt.Errorf("%w: simulated disk: sync failed", logcore.ErrPoisoned)
		}
	}
	if d.fullness {
		d.w.count.FullWrites++
		return fmt.Errorf("%w: simulated disk", logcore.ErrDiskFull)
	}
	return nil
}

// giveUp fails what is under way and everything behind it.
func (d *disk) giveUp(err error, flight []submission) {
	flight = append(flight, d.waiting...)
	d.waiting = nil
	if !errors.Is(err, logcore.ErrDiskFull) {
		d.broken = err
	}
	d.cutTo(d.stored)
	d.complete(flight, err)
}

// complete tells the member, when it runs, in order.
func (d *disk) complete(list []submission, err error) {
	d.w.nodes[d.member-1].do(func() {
		for _, s := range list {
			s.done(err)
		}
	})
}

// cutTo leaves what is at or below lsn.
func (d *disk) cutTo(lsn logcore.LSN) {
	for len(d.segs) > 1 && d.tail().first() > lsn {
		d.segs = d.segs[:len(d.segs)-1]
	}
	d.tail().cutAt(lsn)
	d.last = min(d.last, lsn)
	d.durable, d.stored = min(d.durable, lsn), min(d.stored, lsn)
}

func (s *seg) cutAt(lsn logcore.LSN) {
	if n := s.count(lsn); n < len(s.ends) {
		s.cut(n)
	}
}

// settle finishes what is under way at once, as TruncateTail waits for it.
func (d *disk) settle() error {
	for len(d.flight)+len(d.waiting) > 0 {
		list := append(d.flight, d.waiting...)
		d.flight, d.waiting = nil, nil
		d.life++ // the write's own end is void
		err := d.outcome()
		if err == nil {
			d.stored = list[len(list)-1].last
			d.durable = max(d.durable, d.stored)
		} else {
			if !errors.Is(err, logcore.ErrDiskFull) {
				d.broken = err
			}
			d.cutTo(d.stored)
		}
		for _, s := range list {
			s.done(err)
		}
	}
	return d.broken
}

// TruncateTail implements replication.Disk.
func (d *disk) TruncateTail(after logcore.LSN) error {
	if err := d.settle(); err != nil {
		return err
	}
	if after+1 < d.first {
		return fmt.Errorf("%w: simulated disk: truncate behind %d", logcore.ErrTrimmed, after)
	}
	if after >= d.last {
		return nil
	}
	if d.flaws.keepSuffix {
		return nil
	}
	d.w.count.Truncations++
	d.w.trace.note("member %d: tail cut behind LSN %d, was %d", d.member, uint64(after), uint64(d.last))
	if d.tearCut {
		d.tearCut = false
		d.cutTo(after + logcore.LSN(d.w.s.intn(int(d.last-after)+1)))
		panic(crash{d.member})
	}
	d.cutTo(after)
	return nil
}

// Entries implements replication.Disk.
func (d *disk) Entries(lo, hi logcore.LSN, bytesMax int) ([]logcore.Entry, error) {
	if lo < d.first {
		return nil, fmt.Errorf("%w: LSN %d, the oldest kept is %d", logcore.ErrTrimmed, lo, d.first)
	}
	if lo > d.durable || lo >= hi {
		return nil, fmt.Errorf("%w: simulated disk: entries [%d, %d) of a log durable up to %d", logcore.ErrInvalid, lo, hi, d.durable)
	}
	var out []logcore.Entry
	bytes := 0
	for lsn := lo; lsn < hi && lsn <= d.durable; lsn++ {
		e, _, err := d.entry(lsn)
		if err != nil {
			if len(out) > 0 {
				break
			}
			return nil, err
		}
		bytes += len(e.Payload) + segment.FrameHeaderBytes
		if len(out) > 0 && bytes > bytesMax {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

// entry returns an entry as a read of the device gives it.
func (d *disk) entry(lsn logcore.LSN) (logcore.Entry, uint32, error) {
	e, sum, s, err := d.truth(lsn)
	if err != nil || len(s.flips) == 0 {
		return e, sum, err
	}
	i := int(lsn - s.first())
	at, prev := s.begin(i)
	e, sum, _, err = segment.DecodeFrame(s.rotten(s.frames[at:s.ends[i]], at), s.header.ID, prev)
	if errors.Is(err, segment.ErrShort) { // the length has rotted
		err = io.EOF
	}
	return e, sum, segment.PlaceOf(err, int64(at)+segment.FramesOffset, lsn)
}

// truth returns an entry as it was written, and its checksum; durable or not.
func (d *disk) truth(lsn logcore.LSN) (logcore.Entry, uint32, *seg, error) {
	s := d.find(lsn)
	if s == nil {
		return logcore.Entry{}, 0, nil, fmt.Errorf("%w: simulated disk: no LSN %d in [%d, %d]", logcore.ErrInvalid, lsn, d.first, d.last)
	}
	i := int(lsn - s.first())
	at, _ := s.begin(i)
	var e logcore.Entry
	segment.TrustedFrame(&e, s.frames[at:s.ends[i]:s.ends[i]])
	return e, s.sums[i], s, nil
}

// Term implements replication.Disk.
func (d *disk) Term(lsn logcore.LSN) (uint64, error) {
	if lsn+1 == d.segs[0].first() {
		return d.segs[0].header.PrevTerm, nil
	}
	if lsn < d.first {
		return 0, fmt.Errorf("%w: LSN %d, the oldest kept is %d", logcore.ErrTrimmed, lsn, d.first)
	}
	s := d.find(lsn)
	if s == nil || lsn > d.durable {
		return 0, fmt.Errorf("%w: simulated disk: term of LSN %d of a log durable up to %d", logcore.ErrInvalid, lsn, d.durable)
	}
	return s.terms[lsn-s.first()], nil
}

// First implements replication.Disk.
func (d *disk) First() logcore.LSN { return d.first }

// Last implements replication.Disk.
func (d *disk) Last() logcore.LSN { return d.last }

// Durable implements replication.Disk.
func (d *disk) Durable() logcore.LSN { return d.durable }

// SealDue implements replication.Disk.
func (d *disk) SealDue() bool { return !d.tail().sealed && len(d.tail().frames) >= segmentBytes }

// Pressure implements replication.Disk.
func (d *disk) Pressure() (used, limit int64) {
	for _, s := range d.segs {
		used += int64(len(s.frames)) + segment.FramesOffset
	}
	if d.fullness {
		return used, used
	}
	return used, d.limit
}

// Segments implements replication.Disk.
func (d *disk) Segments() []hotlog.SegmentInfo {
	out := make([]hotlog.SegmentInfo, len(d.segs))
	for i, s := range d.segs {
		out[i] = hotlog.SegmentInfo{ID: s.header.ID, First: s.first(), Last: s.last(), Sealed: s.sealed, Bytes: int64(len(s.frames))}
	}
	return out
}

// ReadAt lets the production recovery read a segment: offsets are those of a real file.
func (s *seg) ReadAt(p []byte, off int64) (int, error) {
	off -= segment.FramesOffset
	if off < 0 || off >= int64(len(s.frames)) {
		return 0, io.EOF
	}
	n := copy(p, s.rotten(s.frames[off:min(off+int64(len(p)), int64(len(s.frames)))], int(off)))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
