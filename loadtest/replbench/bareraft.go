package replbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
)

// bareGroup is a Raft group of three in this process: no network, no service, no catalog,
// entries in memory. Each member writes what it must to a file of its own, all that has gathered in one
// write and sync, on the disk that the service uses too. It is what a replicated log costs at
// least with this Raft library; the leader sends before it writes, as the service's does.
type bareGroup struct {
	nodes   [3]*bareNode
	running sync.WaitGroup
}

type bareNode struct {
	g       *bareGroup
	id      uint64
	rn      *raft.RawNode
	storage *raft.MemoryStorage
	file    *groupFile
	in      chan *raftpb.Message
	propose chan struct{} // the leader's: one for each append to be made
	done    chan int      // the leader's: appends committed
	stop    chan struct{}
	batched bool // proposals that have gathered are one
	err     error
}

const (
	bareBatchMax  = 1024
	bareKeep      = 20_000 // entries kept in memory behind the applied one
	bareFileBytes = 64 << 20
)

func newBareGroup(dir string, inflight int, batched bool) (*bareGroup, error) {
	g := &bareGroup{}
	voters := []uint64{1, 2, 3}
	for i := range g.nodes {
		storage := raft.NewMemoryStorage()
		autoLeave := false
		index, term := uint64(1), uint64(1)
		snapshot := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: voters, AutoLeave: &autoLeave}}}
		if err := storage.ApplySnapshot(snapshot); err != nil {
			return nil, err
		}
		rn, err := raft.NewRawNode(&raft.Config{ID: uint64(i + 1), ElectionTick: 10, HeartbeatTick: 1, Storage: storage, Applied: 1,
			MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, CheckQuorum: true, PreVote: true, Logger: quietLogger{}})
		if err != nil {
			return nil, err
		}
		file, err := newGroupFile(filepath.Join(dir, fmt.Sprint("member-", i)))
		if err != nil {
			return nil, err
		}
		g.nodes[i] = &bareNode{g: g, id: uint64(i + 1), rn: rn, storage: storage, file: file, in: make(chan *raftpb.Message, 4096),
			propose: make(chan struct{}, inflight), done: make(chan int, inflight+1), stop: make(chan struct{}), batched: batched}
	}
	for _, n := range g.nodes {
		g.running.Go(n.run)
	}
	return g, nil
}

func (g *bareGroup) close() error {
	var errs []error
	for _, n := range g.nodes {
		close(n.stop)
	}
	g.running.Wait()
	for _, n := range g.nodes {
		errs = append(errs, n.err, n.file.close())
	}
	return errors.Join(errs...)
}

// run drives one member. The first one stands for election at once.
func (n *bareNode) run() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	if n.id == 1 {
		n.err = n.rn.Campaign()
	}
	payload := make([]byte, payloadBytes+64) // with the envelope that the service adds
	for n.err == nil {
		if n.err = n.ready(); n.err != nil {
			return
		}
		wanted := 0
		propose := n.propose
		if n.rn.BasicStatus().RaftState != raft.StateLeader {
			propose = nil
		}
		select {
		case <-n.stop:
			return
		case <-tick.C:
			n.rn.Tick()
		case m := <-n.in:
			n.step(m)
		case <-propose:
			wanted = 1
		}
		n.gather(propose, &wanted)
		if n.batched && wanted > 0 {
			n.offer(wanted, payload)
			continue
		}
		for range wanted {
			n.offer(1, payload)
		}
	}
}

// offer proposes so many entries as one.
func (n *bareNode) offer(count int, payload []byte) {
	entries := make([]*raftpb.Entry, count)
	for i := range entries {
		entries[i] = &raftpb.Entry{Data: payload}
	}
	if err := n.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &n.id, Entries: entries}); err != nil {
		n.err = fmt.Errorf("proposal: %w", err)
	}
}

// gather takes everything that has come meanwhile.
func (n *bareNode) gather(propose chan struct{}, wanted *int) {
	for *wanted < bareBatchMax {
		select {
		case m := <-n.in:
			n.step(m)
		case <-propose:
			*wanted++
		default:
			return
		}
	}
}

func (n *bareNode) step(m *raftpb.Message) { _ = n.rn.Step(m) } // what is out of date is refused: no matter

func (n *bareNode) ready() error {
	for n.rn.HasReady() {
		rd := n.rn.Ready()
		leads := n.rn.BasicStatus().RaftState == raft.StateLeader
		if leads {
			n.send(rd.Messages)
		}
		if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) {
			if err := n.storage.SetHardState(rd.HardState); err != nil {
				return err
			}
		}
		if err := n.storage.Append(rd.Entries); err != nil {
			return err
		}
		if len(rd.Entries) > 0 || rd.MustSync {
			if err := n.file.write(rd.Entries); err != nil {
				return err
			}
		}
		if !leads {
			n.send(rd.Messages)
		}
		n.apply(rd.CommittedEntries)
		n.rn.Advance(rd)
	}
	return nil
}

func (n *bareNode) send(messages []*raftpb.Message) {
	for _, m := range messages {
		select {
		case n.g.nodes[m.GetTo()-1].in <- m:
		default: // full: Raft sends it again
		}
	}
}

func (n *bareNode) apply(entries []*raftpb.Entry) {
	count := 0
	for _, e := range entries {
		if len(e.GetData()) > 0 {
			count++
		}
	}
	if len(entries) == 0 {
		return
	}
	last := entries[len(entries)-1].GetIndex()
	if first, err := n.storage.FirstIndex(); err == nil && last > first+2*bareKeep {
		_ = n.storage.Compact(last - bareKeep)
	}
	if count > 0 && n.rn.BasicStatus().RaftState == raft.StateLeader {
		n.done <- count
	}
}

// load keeps inflight appends under way and takes their latencies, after a tenth of the
// time to warm up.
func (g *bareGroup) load(ctx context.Context, inflight int, seconds time.Duration) (turn, error) {
	n := g.nodes[0]
	begun := make([]time.Time, 0, inflight) // of those under way, oldest first
	for range inflight {
		n.propose <- struct{}{}
		begun = append(begun, time.Now())
	}
	var took []float64
	var from time.Time
	ops := 0
	for start := time.Now(); ; {
		var count int
		select {
		case count = <-n.done:
		case <-ctx.Done():
			return turn{}, context.Cause(ctx)
		case <-time.After(10 * time.Second):
			return turn{}, errors.New("the bare Raft group stands still")
		}
		ops += count
		now := time.Now()
		if from.IsZero() && now.Sub(start) > seconds/10 {
			from = now
		} else if !from.IsZero() {
			for _, b := range begun[:count] {
				took = append(took, float64(now.Sub(b).Nanoseconds())/1e3)
			}
			if now.Sub(from) > seconds {
				rate := float64(len(took)) / now.Sub(from).Seconds()
				sort.Float64s(took)
				return turn{perSecond: rate, p50: took[len(took)/2], p99: took[len(took)*99/100], ops: float64(ops)}, nil
			}
		}
		begun = append(begun[:0], begun[count:]...)
		for range count {
			n.propose <- struct{}{}
			begun = append(begun, now)
		}
	}
}

// bareRaft is one turn of the bare group.
func bareRaft(ctx context.Context, dir string, inflight int, batched bool, seconds time.Duration) (t turn, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g, err := newBareGroup(dir, inflight, batched)
	if err != nil {
		return t, err
	}
	t, err = g.load(ctx, inflight, seconds)
	return t, errors.Join(err, g.close())
}

// groupFile is a preallocated file, written through once, that takes batches of entries,
// each with one write and one sync, and begins again at its end.
type groupFile struct {
	f   *os.File
	at  int64
	buf []byte
}

func newGroupFile(path string) (*groupFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	zero := make([]byte, 1<<20)
	for at := int64(0); at < bareFileBytes; at += int64(len(zero)) {
		if _, err := f.WriteAt(zero, at); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &groupFile{f: f}, f.Sync()
}

func (g *groupFile) write(entries []*raftpb.Entry) error {
	g.buf = g.buf[:0]
	for _, e := range entries {
		g.buf = binary.LittleEndian.AppendUint64(g.buf, e.GetIndex())
		g.buf = binary.LittleEndian.AppendUint64(g.buf, e.GetTerm())
		g.buf = binary.LittleEndian.AppendUint32(g.buf, crc32.Checksum(e.GetData(), castagnoli))
		g.buf = binary.LittleEndian.AppendUint32(g.buf, uint32(len(e.GetData())))
		g.buf = append(g.buf, e.GetData()...)
	}
	if len(entries) == 0 {
		g.buf = append(g.buf, make([]byte, 32)...) // term, vote and commit
	}
	if g.at+int64(len(g.buf)) > bareFileBytes {
		g.at = 0
	}
	if _, err := g.f.WriteAt(g.buf, g.at); err != nil {
		return err
	}
	g.at += int64(len(g.buf))
	return unix.Fdatasync(int(g.f.Fd()))
}

func (g *groupFile) close() error { return g.f.Close() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// quietLogger says nothing; a panic stays one.
type quietLogger struct{}

func (quietLogger) Debug(...any)            {}
func (quietLogger) Debugf(string, ...any)   {}
func (quietLogger) Error(...any)            {}
func (quietLogger) Errorf(string, ...any)   {}
func (quietLogger) Info(...any)             {}
func (quietLogger) Infof(string, ...any)    {}
func (quietLogger) Warning(...any)          {}
func (quietLogger) Warningf(string, ...any) {}
func (quietLogger) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (quietLogger) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (quietLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (quietLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
