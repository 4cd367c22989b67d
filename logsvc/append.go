package logsvc

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// requestEntriesMax bounds the entries of one message: all of them can be answered again.
const requestEntriesMax = catalog.WindowEntries

// frameBytes is what the hot log adds to a draft, about.
const frameBytes = 48

// appendOp is the entries of one message on their way through the loop.
type appendOp struct {
	s     *Service
	token Token
	first uint64 // sequence of the first entry; they rise by one
	// drafts are let go of once the loop is done with the message.
	drafts []replication.Draft
	bytes  int // on the disk
	begun  time.Time
	// places, one per entry, is written by prepare.
	places []catalog.Place
	// give returns what was taken of the budget.
	give func()
	// archived: acknowledged once the archive covers it, as its log asks.
	archived bool
	// index is the highest in the shard of the message's entries; written by prepare.
	index logcore.LSN
}

// admit waits for memory, checks what can be checked without the catalog and lays the
// entries out as they will be stored. Whoever gets an op must have done called once.
func (s *Service) admit(ctx context.Context, t Token, entries []*logcorev1.NewEntry) (*appendOp, error) {
	if len(entries) == 0 || len(entries) > requestEntriesMax {
		return nil, fmt.Errorf("%w: append of %d entries, want 1 to %d", logcore.ErrInvalid, len(entries), requestEntriesMax)
	}
	bytes := int64(0)
	for _, e := range entries {
		bytes += int64(len(e.Payload)+len(e.EnginePosition)) + catalog.RecordHeaderBytes + frameBytes
	}
	give, err := s.budget.take(ctx, bytes)
	if err != nil {
		return nil, err
	}
	op, err := s.stage(t, entries)
	if err != nil {
		give()
		return nil, err
	}
	op.give = give
	s.budget.staged.Add(int64(op.bytes))
	return op, nil
}

func (s *Service) stage(t Token, entries []*logcorev1.NewEntry) (*appendOp, error) {
	op := &appendOp{s: s, token: t, first: entries[0].Sequence, begun: time.Now(),
		drafts: make([]replication.Draft, len(entries)), places: make([]catalog.Place, len(entries))}
	for i, e := range entries {
		if e.Sequence == 0 || e.Sequence != op.first+uint64(i) {
			return nil, fmt.Errorf("%w: sequence %d at place %d of a message that begins with %d", logcore.ErrSequenceGap, e.Sequence, i, op.first)
		}
		draft, err := s.draft(op, e)
		if err != nil {
			return nil, fmt.Errorf("sequence %d: %w", e.Sequence, err)
		}
		op.drafts[i] = draft
		op.bytes += len(draft) + frameBytes
	}
	return op, nil
}

// done lets go of the entries: the loop is done with them, or never got them.
func (op *appendOp) done() {
	op.drafts = nil
	op.s.budget.staged.Add(-int64(op.bytes))
	op.give()
}

// madeTx is the transaction id of an entry whose writer gave none: the same for every
// attempt at the same entry, another one for any other.
func madeTx(t Token, e *wire.Entry) (tx logcore.TxID) {
	b := make([]byte, 0, 40)
	for _, v := range []uint64{t.Incarnation, uint64(t.Log), uint64(t.Epoch), e.Sequence, uint64(e.CRC32C)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	sum := sha256.Sum256(b)
	copy(tx[:], sum[:])
	return tx
}

func (s *Service) draft(op *appendOp, n *logcorev1.NewEntry) (replication.Draft, error) {
	e := wire.Entry{Sequence: n.Sequence, Kind: int32(n.Kind), Tx: n.TransactionId, Payload: n.Payload, CRC32C: n.PayloadCrc32C, Position: n.EnginePosition}
	r, kind, tx, err := s.record(op.token, &e)
	if err != nil {
		return nil, err
	}
	return r.Append(replication.NewDraft(kind, tx, r.Size())), nil
}

// record checks what can be checked of an entry by itself and returns what is stored of
// it. The record points into the entry.
func (s *Service) record(t Token, e *wire.Entry) (r catalog.Record, kind logcore.Kind, tx logcore.TxID, err error) {
	kind = logcore.Kind(e.Kind)
	if e.Kind < 0 || e.Kind > 255 || !kind.OfLog() {
		return r, kind, tx, fmt.Errorf("%w: entry kind %d is none of a log", logcore.ErrInvalid, e.Kind)
	}
	if len(e.Payload) > s.opts.EntryBytesMax {
		return r, kind, tx, fmt.Errorf("%w: %d bytes, at most %d: split the transaction into parts", logcore.ErrTooLarge, len(e.Payload), s.opts.EntryBytesMax)
	}
	if len(e.Position) > catalog.PositionBytesMax {
		return r, kind, tx, fmt.Errorf("%w: engine position of %d bytes, at most %d", logcore.ErrInvalid, len(e.Position), catalog.PositionBytesMax)
	}
	if got := crc32.Checksum(e.Payload, castagnoli); got != e.CRC32C {
		return r, kind, tx, fmt.Errorf("%w: payload checksum %08x, the client says %08x: damaged on the way, send it again", logcore.ErrInvalid, got, e.CRC32C)
	}
	switch {
	case len(e.Tx) == len(tx):
		copy(tx[:], e.Tx)
	case len(e.Tx) == 0 && kind == logcore.KindData:
		tx = madeTx(t, e)
	}
	if tx.IsZero() {
		return r, kind, tx, fmt.Errorf("%w: transaction id of %d bytes for a %v entry: want 16, not all zero", logcore.ErrInvalid, len(e.Tx), kind)
	}
	return catalog.Record{Log: t.Log, Epoch: t.Epoch, Sequence: e.Sequence, Position: e.Position, Body: e.Payload}, kind, tx, nil
}

// prepare runs on the loop.
func (op *appendOp) prepare(p *replication.Proposer) error {
	op.s.leases.enter(p.Term(), p.Since())
	index, err := PrepareAppend(p, op.token, op.first, op.drafts, op.places)
	if err != nil {
		return err
	}
	op.index = index
	op.s.leases.renew(op.token.Log)
	return nil
}

// acknowledged is called once the entries are durable.
func (op *appendOp) acknowledged() {
	op.s.metrics.acknowledged(op.begun, len(op.places), op.bytes)
}

func appended(dst []*logcorev1.Appended, places []catalog.Place) []*logcorev1.Appended {
	block := make([]logcorev1.Appended, len(places))
	for i, p := range places {
		block[i].Lsn, block[i].Time = uint64(p.LSN), uint64(p.Time)
		dst = append(dst, &block[i])
	}
	return dst
}

// Append implements logcorev1.LogCoreServiceServer.
func (s *Service) Append(ctx context.Context, req *logcorev1.AppendRequest) (*logcorev1.AppendResponse, error) {
	l, err := s.logByName(req.Log)
	if err == nil {
		err = s.coverage.check(&l)
	}
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	op, err := s.admit(ctx, Token{l.ID, logcore.Epoch(req.Epoch), req.Incarnation}, req.Entries)
	if err == nil {
		err = s.await(ctx, replication.Request{Bytes: op.bytes, Prepare: op.prepare, Done: func(error) { op.done() }}, op.done)
	}
	if err == nil && l.Durability == catalog.DurabilityArchive {
		err = s.coverage.wait(ctx, op.index)
	}
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	op.acknowledged()
	return &logcorev1.AppendResponse{Entries: appended(nil, op.places)}, nil
}
