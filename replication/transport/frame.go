package transport

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// Frames are the messages of Connect after the hello, encoded and decoded by hand: the bytes are those of
// proto/logcore/v1/peer.proto and of the Raft library's own messages, and a test holds the two against each other. With
// generated code an entry costs five allocations on the way in and is copied three times on the way; here the
// entries of a message come in three blocks, and their data is copied once.

// Field tags: number << 3 | wire type.
const (
	tagMessages = 2<<3 | 2 // ConnectRequest and ConnectResponse

	tagShard   = 1 << 3 // GroupMessage
	tagMessage = 2<<3 | 2

	tagType       = 1 << 3 // raftpb.Message
	tagTo         = 2 << 3
	tagFrom       = 3 << 3
	tagTerm       = 4 << 3
	tagLogTerm    = 5 << 3
	tagIndex      = 6 << 3
	tagEntries    = 7<<3 | 2
	tagCommit     = 8 << 3
	tagReject     = 10 << 3
	tagRejectHint = 11 << 3
	tagContext    = 12<<3 | 2
	tagVote       = 13 << 3

	tagEntryType  = 1 << 3 // raftpb.Entry
	tagEntryTerm  = 2 << 3
	tagEntryIndex = 3 << 3
	tagEntryData  = 4<<3 | 2
)

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// bytesSize is what a field of n bytes takes, whose tag is one byte.
func bytesSize(n int) int { return 1 + varintSize(uint64(n)) + n }

func numberSize(v *uint64) int {
	if v == nil {
		return 0
	}
	return 1 + varintSize(*v)
}

func appendNumber(b []byte, tag byte, v *uint64) []byte {
	if v == nil {
		return b
	}
	return binary.AppendUvarint(append(b, tag), *v)
}

func entrySize(e *raftpb.Entry) int {
	n := numberSize(e.Term) + numberSize(e.Index)
	if e.Type != nil {
		n += 1 + varintSize(uint64(*e.Type))
	}
	if e.Data != nil {
		n += bytesSize(len(e.Data))
	}
	return n
}

func appendEntry(b []byte, e *raftpb.Entry) []byte {
	if e.Type != nil {
		b = binary.AppendUvarint(append(b, tagEntryType), uint64(*e.Type))
	}
	b = appendNumber(b, tagEntryTerm, e.Term)
	b = appendNumber(b, tagEntryIndex, e.Index)
	if e.Data != nil {
		b = binary.AppendUvarint(append(b, tagEntryData), uint64(len(e.Data)))
		b = append(b, e.Data...)
	}
	return b
}

// plain reports whether a message has only what appendMessage knows of: of those that are sent, all but snapshots.
func plain(m *raftpb.Message) bool { return m.Snapshot == nil && len(m.Responses) == 0 }

func messageSize(m *raftpb.Message) int {
	if !plain(m) {
		return proto.Size(m)
	}
	n := numberSize(m.To) + numberSize(m.From) + numberSize(m.Term) + numberSize(m.LogTerm) + numberSize(m.Index) + numberSize(m.Commit) + numberSize(m.RejectHint) + numberSize(m.Vote)
	if m.Type != nil {
		n += 1 + varintSize(uint64(*m.Type))
	}
	if m.Reject != nil {
		n += 2
	}
	if m.Context != nil {
		n += bytesSize(len(m.Context))
	}
	for _, e := range m.Entries {
		n += bytesSize(entrySize(e))
	}
	return n
}

func appendMessage(b []byte, m *raftpb.Message) ([]byte, error) {
	if !plain(m) {
		return proto.MarshalOptions{}.MarshalAppend(b, m)
	}
	if m.Type != nil {
		b = binary.AppendUvarint(append(b, tagType), uint64(*m.Type))
	}
	b = appendNumber(b, tagTo, m.To)
	b = appendNumber(b, tagFrom, m.From)
	b = appendNumber(b, tagTerm, m.Term)
	b = appendNumber(b, tagLogTerm, m.LogTerm)
	b = appendNumber(b, tagIndex, m.Index)
	for _, e := range m.Entries {
		b = binary.AppendUvarint(append(b, tagEntries), uint64(entrySize(e)))
		b = appendEntry(b, e)
	}
	b = appendNumber(b, tagCommit, m.Commit)
	if m.Reject != nil {
		b = append(b, tagReject, 0)
		if *m.Reject {
			b[len(b)-1] = 1
		}
	}
	b = appendNumber(b, tagRejectHint, m.RejectHint)
	if m.Context != nil {
		b = binary.AppendUvarint(append(b, tagContext), uint64(len(m.Context)))
		b = append(b, m.Context...)
	}
	return appendNumber(b, tagVote, m.Vote), nil
}

// groupSize is what a message takes in a frame, and inner what its GroupMessage has in it.
func groupSize(shard logcore.ShardID, m *raftpb.Message) (size, inner, message int) {
	message = messageSize(m)
	inner = bytesSize(message)
	if shard != 0 {
		inner += 1 + varintSize(uint64(shard))
	}
	return bytesSize(inner), inner, message
}

// appendGroup appends a message to a frame.
func appendGroup(b []byte, shard logcore.ShardID, m *raftpb.Message) ([]byte, error) {
	_, inner, message := groupSize(shard, m)
	b = binary.AppendUvarint(append(b, tagMessages), uint64(inner))
	if shard != 0 {
		b = binary.AppendUvarint(append(b, tagShard), uint64(shard))
	}
	b = binary.AppendUvarint(append(b, tagMessage), uint64(message))
	return appendMessage(b, m)
}

var errMalformed = fmt.Errorf("%w: a message that can't be read", ErrRefused)

// readFrame visits the messages of a frame. Nothing of them points into b.
func readFrame(b []byte, visit func(logcore.ShardID, *raftpb.Message) error) error {
	for len(b) > 0 {
		f, rest, ok := wire.NextField(b)
		if !ok {
			return errMalformed
		}
		b = rest
		if f.Tag != tagMessages {
			continue
		}
		var shard uint64
		var message []byte
		for g := f.Bytes; len(g) > 0; {
			if f, g, ok = wire.NextField(g); !ok {
				return errMalformed
			}
			switch f.Tag {
			case tagShard:
				shard = f.V
			case tagMessage:
				message = f.Bytes
			}
		}
		m, err := readMessage(message)
		if err != nil {
			return err
		}
		if err := visit(logcore.ShardID(shard), m); err != nil {
			return err
		}
	}
	return nil
}

// received is a message that came, with what its fields point to.
type received struct {
	m                                                        raftpb.Message
	typ                                                      raftpb.MessageType
	to, from, term, logTerm, index, commit, rejectHint, vote uint64
	reject                                                   bool
}

// receivedEntry is the same for an entry.
type receivedEntry struct {
	e           raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

// readMessage reads a raftpb.Message.
func readMessage(b []byte) (*raftpb.Message, error) {
	entries, bytes, known, ok := survey(b)
	if !ok {
		return nil, errMalformed
	}
	if !known {
		m := &raftpb.Message{}
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, fmt.Errorf("%w: %v", errMalformed, err)
		}
		return m, nil
	}
	r := &received{}
	var block []receivedEntry
	var data []byte
	if entries > 0 {
		block, data = make([]receivedEntry, entries), make([]byte, 0, bytes)
		r.m.Entries = make([]*raftpb.Entry, 0, entries)
	}
	for len(b) > 0 {
		var f wire.Field
		f, b, _ = wire.NextField(b) // the survey went over it
		if f.Tag != tagEntries {
			r.set(f)
			continue
		}
		e := &block[len(r.m.Entries)]
		r.m.Entries = append(r.m.Entries, &e.e)
		if data, ok = e.read(f.Bytes, data); !ok {
			return nil, errMalformed
		}
	}
	return &r.m, nil
}

// survey counts a message's entries and the bytes of their data. known is false when it has fields that are rare, or new.
func survey(b []byte) (entries, bytes int, known, ok bool) {
	for len(b) > 0 {
		var f wire.Field
		if f, b, ok = wire.NextField(b); !ok {
			return 0, 0, false, false
		}
		switch f.Tag {
		case tagEntries:
			entries++
			bytes += len(f.Bytes)
		case tagType, tagTo, tagFrom, tagTerm, tagLogTerm, tagIndex, tagCommit, tagReject, tagRejectHint, tagContext, tagVote:
		default:
			return 0, 0, false, true
		}
	}
	return entries, bytes, true, true
}

// set takes a field that is no entry.
func (r *received) set(f wire.Field) {
	number := func(field **uint64, at *uint64) { *at, *field = f.V, at }
	switch f.Tag {
	case tagType:
		if t := raftpb.MessageType(int32(f.V)); t >= 0 && t <= raftpb.MsgForgetLeader {
			r.typ, r.m.Type = t, &r.typ
		}
	case tagTo:
		number(&r.m.To, &r.to)
	case tagFrom:
		number(&r.m.From, &r.from)
	case tagTerm:
		number(&r.m.Term, &r.term)
	case tagLogTerm:
		number(&r.m.LogTerm, &r.logTerm)
	case tagIndex:
		number(&r.m.Index, &r.index)
	case tagCommit:
		number(&r.m.Commit, &r.commit)
	case tagRejectHint:
		number(&r.m.RejectHint, &r.rejectHint)
	case tagVote:
		number(&r.m.Vote, &r.vote)
	case tagReject:
		r.reject, r.m.Reject = f.V != 0, &r.reject
	case tagContext:
		r.m.Context = append([]byte{}, f.Bytes...)
	}
}

// read takes the fields of an entry, whose data goes behind data, which has room for it.
func (e *receivedEntry) read(b, data []byte) ([]byte, bool) {
	for len(b) > 0 {
		f, rest, ok := wire.NextField(b)
		if !ok {
			return data, false
		}
		b = rest
		switch f.Tag {
		case tagEntryType:
			if t := raftpb.EntryType(int32(f.V)); t >= 0 && t <= raftpb.EntryConfChangeV2 {
				e.typ, e.e.Type = t, &e.typ
			}
		case tagEntryTerm:
			e.term, e.e.Term = f.V, &e.term
		case tagEntryIndex:
			e.index, e.e.Index = f.V, &e.index
		case tagEntryData:
			from := len(data)
			data = append(data, f.Bytes...)
			e.e.Data = data[from:len(data):len(data)]
		}
	}
	return data, true
}
