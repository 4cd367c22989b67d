package replication

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
)

// memDisk is a hot log in memory: what was submitted is durable when the world says so.
type memDisk struct {
	first   logcore.LSN
	entries []logcore.Entry // durable ones, from first on
	pending []memWrite
	sealAt  int
	cuts    int
	full    bool // nothing more finds room
	read    int  // entries that were ever read
}

type memWrite struct {
	entries []logcore.Entry
	done    func(error)
}

func newMemDisk() *memDisk { return &memDisk{first: 1, sealAt: 40} }

func (d *memDisk) Durable() logcore.LSN { return d.first + logcore.LSN(len(d.entries)) - 1 }

func (d *memDisk) Last() logcore.LSN {
	if n := len(d.pending); n > 0 {
		e := d.pending[n-1].entries
		return e[len(e)-1].LSN
	}
	return d.Durable()
}

func (d *memDisk) First() logcore.LSN { return d.first }

func (d *memDisk) Submit(entries []logcore.Entry, done func(error)) error {
	if entries[0].LSN != d.Last()+1 {
		return fmt.Errorf("%w: memDisk: LSN %d after %d", logcore.ErrInvalid, entries[0].LSN, d.Last())
	}
	d.pending = append(d.pending, memWrite{slices.Clone(entries), done})
	return nil
}

// sync makes the n oldest writes durable.
func (d *memDisk) sync(n int) {
	for ; n > 0 && len(d.pending) > 0; n-- {
		w := d.pending[0]
		d.pending = d.pending[1:]
		if d.full { // it and all behind it
			refused := append([]memWrite{w}, d.pending...)
			d.pending = nil
			for _, w := range refused {
				w.done(logcore.ErrDiskFull)
			}
			return
		}
		d.entries = append(d.entries, w.entries...)
		w.done(nil)
	}
}

// crash loses what was not synced, but for some of it: a prefix, as the checksums of the real log see to.
func (d *memDisk) crash(rnd *rand.Rand) {
	var lost []logcore.Entry
	for _, w := range d.pending {
		lost = append(lost, w.entries...)
	}
	d.entries = append(d.entries, lost[:rnd.IntN(len(lost)+1)]...)
	d.pending = nil
}

func (d *memDisk) Entries(lo, hi logcore.LSN, bytesMax int) ([]logcore.Entry, error) {
	if lo < d.first {
		return nil, logcore.ErrTrimmed
	}
	if lo > d.Durable() {
		return nil, &logcore.LagError{Asked: lo, Available: d.Durable()}
	}
	hi = min(hi, d.Durable()+1)
	out := d.entries[lo-d.first : hi-d.first]
	for i := range out {
		if bytesMax -= len(out[i].Payload) + 60; bytesMax < 0 && i > 0 {
			out = out[:i]
			break
		}
	}
	d.read += len(out)
	return slices.Clone(out), nil
}

func (d *memDisk) Term(lsn logcore.LSN) (uint64, error) {
	if lsn+1 == d.first {
		return 0, nil
	}
	e, err := d.Entries(lsn, lsn+1, 0)
	if err != nil {
		return 0, err
	}
	return e[0].Term, nil
}

func (d *memDisk) TruncateTail(after logcore.LSN) error {
	d.sync(len(d.pending))
	if after+1 < d.first {
		return logcore.ErrTrimmed
	}
	if after < d.Durable() {
		d.entries = slices.Clone(d.entries[:after-d.first+1])
		d.cuts++
	}
	return nil
}

func (d *memDisk) Segments() []hotlog.SegmentInfo {
	out := []hotlog.SegmentInfo{{ID: segment.ID{First: d.first}, First: d.first, Last: d.first - 1}}
	for _, e := range d.entries {
		s := &out[len(out)-1]
		s.Last = e.LSN
		s.Bytes += int64(len(e.Payload)) + 60
		if e.Kind == logcore.KindSeal {
			s.Sealed = true
			out = append(out, hotlog.SegmentInfo{ID: segment.ID{First: e.LSN + 1}, First: e.LSN + 1, Last: e.LSN})
		}
	}
	if n := len(out); n > 1 && out[n-1].Last < out[n-1].First {
		out = out[:n-1]
	}
	return out
}

func (d *memDisk) SealDue() bool {
	n := 0
	count := func(e logcore.Entry) {
		if n++; e.Kind == logcore.KindSeal {
			n = 0
		}
	}
	for _, e := range d.entries {
		count(e)
	}
	for _, w := range d.pending {
		for _, e := range w.entries {
			count(e)
		}
	}
	return n >= d.sealAt
}

func (d *memDisk) Pressure() (used, limit int64) { return 0, 1 << 40 }

// trim drops the oldest segments, but for the last keep.
func (d *memDisk) trim(keep int) {
	if s := d.Segments(); len(s) > keep {
		from := s[len(s)-keep].First
		d.entries = slices.Clone(d.entries[from-d.first:])
		d.first = from
	}
}

// node is one member of a world, with what survives its crashes.
type node struct {
	id    uint64
	state MemberState
	disk  *memDisk
	m     *Member // nil while it is down
	snaps []*raftpb.Message
}

func (n *node) Save(s MemberState) error {
	n.state = s
	n.state.Members = proto.Clone(s.Members).(*raftpb.ConfState)
	return nil
}

// world is a group of members in one goroutine: everything that happens comes from its seed.
type world struct {
	t          testing.TB
	rnd        *rand.Rand
	now        time.Time
	nodes      []*node
	net        []*raftpb.Message
	cut        map[[2]uint64]bool // directed links that lose everything
	hash       uint64             // of every message sent, to compare runs
	acked      map[logcore.LSN]string
	quietTicks int
	plant      func(*node, *raftpb.Message) bool // drops or changes a message; for planted faults
}

func newWorld(t testing.TB, seed uint64, n int) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1_700_000_000_000), cut: map[[2]uint64]bool{}, acked: map[logcore.LSN]string{}}
	var ids []uint64
	for i := range n {
		ids = append(ids, uint64(i+1))
	}
	for _, id := range ids {
		w.add(id, FoundingState(3, id, ids, 77))
	}
	return w
}

func (w *world) add(id uint64, state MemberState) *node {
	n := &node{id: id, state: state, disk: newMemDisk()}
	w.nodes = append(w.nodes, n)
	w.start(n)
	return n
}

func (w *world) Send(m *raftpb.Message) {
	h := fnv.New64a()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprint(h, w.hash)
	h.Write(b)
	w.hash = h.Sum64()
	c := &raftpb.Message{}
	if err := proto.Unmarshal(b, c); err != nil {
		w.t.Fatal(err)
	}
	w.net = append(w.net, c)
}

func (w *world) start(n *node) {
	m, err := NewMember(context.Background(), MemberOptions{State: n.state, Disk: n.disk, Store: n, Net: w, Now: func() time.Time { return w.now },
		Rand: rand.New(rand.NewPCG(w.rnd.Uint64(), n.id)), OnSnapshot: func(m *raftpb.Message) { n.snaps = append(n.snaps, m) }, Logger: quiet, QuietTicks: w.quietTicks})
	if err != nil {
		w.t.Fatalf("member %d: %v", n.id, err)
	}
	n.m = m
	m.Advance()
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func (w *world) crash(n *node) {
	n.m = nil
	n.disk.crash(w.rnd)
	n.snaps = nil
}

// tick lets the time of one tick pass everywhere.
func (w *world) tick() {
	w.now = w.now.Add(tickEvery)
	for _, n := range w.nodes {
		if n.m != nil {
			n.m.Tick()
			n.m.Advance()
		}
	}
}

// deliver delivers the i-th message, or loses it when its link is cut or its receiver down.
func (w *world) deliver(i int) {
	m := w.net[i]
	w.net = slices.Delete(w.net, i, i+1)
	n := w.node(m.GetTo())
	if n == nil || n.m == nil || w.cut[[2]uint64{m.GetFrom(), m.GetTo()}] {
		return
	}
	if w.plant != nil && !w.plant(n, m) {
		return
	}
	n.m.Step(m)
	n.m.Advance()
}

func (w *world) node(id uint64) *node {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// settle delivers and syncs everything there is, in order.
func (w *world) settle() {
	for range 100_000 {
		busy := false
		for _, n := range w.nodes {
			if n.m != nil && len(n.disk.pending) > 0 {
				n.disk.sync(1)
				n.m.Advance()
				busy = true
			}
		}
		if len(w.net) > 0 {
			w.deliver(0)
			busy = true
		}
		if !busy {
			return
		}
	}
	w.t.Fatal("the world doesn't settle")
}

// lead ticks until somebody takes requests, and returns it.
func (w *world) lead() *node {
	for range 200 {
		w.settle()
		for _, n := range w.nodes {
			if n.m != nil && n.m.Leading() {
				return n
			}
		}
		w.tick()
	}
	w.t.Fatal("nobody leads")
	return nil
}

// submit appends a body to log 1 at a node; whether it was acknowledged shows later.
func (w *world) submit(n *node, body string) {
	w.queue(n, body)
	n.m.Advance()
}

// queue is submit before anything is done.
func (w *world) queue(n *node, body string) {
	var place catalog.Place
	err := n.m.Submit(Request{Bytes: len(body), Prepare: func(p *Proposer) error {
		l, err := p.Catalog().ByID(1)
		if err != nil {
			if _, err := p.Command(catalog.Command{Op: catalog.OpCreate, Log: 1, Name: "a"}); err != nil {
				return err
			}
			l, err = p.Catalog().ByID(1)
			if err != nil {
				return err
			}
		}
		if !l.WriterOpen {
			if _, err := p.Command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: l.Epoch + 1}); err != nil {
				return err
			}
		}
		r := catalog.Record{Log: 1, Epoch: l.Epoch, Sequence: l.Sequence + 1, Body: []byte(body)}
		place = p.Propose(r.Append(NewDraft(logcore.KindData, logcore.TxID{1}, r.Size())))
		return nil
	}, Done: func(err error) {
		if err == nil {
			w.acked[place.LSN] = body
		}
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// check holds what every member shows against the others and against what was acknowledged.
func (w *world) check() {
	w.t.Helper()
	var longest []logcore.Entry
	for _, n := range w.nodes {
		if n.m == nil || n.disk.first != 1 {
			continue
		}
		entries := n.disk.entries[:n.m.Committed()]
		for i := range min(len(entries), len(longest)) {
			if !sameEntry(entries[i], longest[i]) {
				w.t.Fatalf("member %d has another entry at LSN %d: %+v, not %+v", n.id, i+1, entries[i], longest[i])
			}
		}
		if len(entries) > len(longest) {
			longest = entries
		}
	}
	for lsn, body := range w.acked { // I1: on stable storage at a quorum
		holders := 0
		for _, n := range w.nodes {
			if lsn < n.disk.first || lsn > n.disk.Durable() {
				continue
			}
			r, err := catalog.DecodeRecord(n.disk.entries[lsn-n.disk.first].Payload)
			if err == nil && string(r.Body) == body {
				holders++
			}
		}
		if holders < 2 {
			w.t.Fatalf("acknowledged LSN %d, %q, is durable on %d of %d members", lsn, body, holders, len(w.nodes))
		}
	}
}

func sameEntry(a, b logcore.Entry) bool {
	return a.LSN == b.LSN && a.Term == b.Term && a.Kind == b.Kind && a.Time == b.Time && a.Tx == b.Tx && string(a.Payload) == string(b.Payload)
}

func snapOf(from, to *node, s *raftpb.Snapshot) *raftpb.Message {
	term := from.m.Term()
	return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: &from.id, To: &to.id, Term: &term, Snapshot: s}
}
