package pageserver

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// Decodings lets several Servers of one process that follow the same logs decode each
// payload once: the first that comes to it decodes, the others take what it made. What
// the decoder returns is a pure function of the log up to there, so it is the same for
// all. The zero value is ready; it keeps the last decodingsBytesMax bytes of payloads.
type Decodings struct {
	// users counts the Servers that share; one alone keeps nothing.
	users atomic.Int32
	made  atomic.Uint64
	taken atomic.Uint64

	mu    sync.Mutex
	known map[decodingKey]*decoding // guarded by mu
	order []decodingKey             // the oldest first; guarded by mu
	bytes int                       // of the payloads of known; guarded by mu
}

// decodingsBytesMax is how far apart Servers may be and still share.
const decodingsBytesMax = 32 << 20

type decodingKey struct {
	log         logcore.LogID
	incarnation uint64
	at          pos
}

// decoding is what a payload decoded to. Its records may be read by several Servers at
// once; none writes to them.
type decoding struct {
	done    chan struct{} // closed once the rest is set
	payload []byte
	records []engine.Record
	next    []byte
	err     error
}

// Made and Taken count the payloads that were decoded, and those that others had.
func (d *Decodings) Made() uint64 { return d.made.Load() }

// Taken counts the payloads that another Server had decoded.
func (d *Decodings) Taken() uint64 { return d.taken.Load() }

// get returns what a payload decodes to, decoding it unless somebody else has.
func (d *Decodings) get(key decodingKey, payload []byte, decode func([]byte) ([]engine.Record, []byte, error)) ([]engine.Record, []byte, error) {
	if d == nil {
		return decode(payload)
	}
	if d.users.Load() < 2 {
		d.made.Add(1)
		return decode(payload)
	}
	d.mu.Lock()
	if one := d.known[key]; one != nil && bytes.Equal(one.payload, payload) {
		d.mu.Unlock()
		<-one.done
		d.taken.Add(1)
		return one.records, one.next, one.err
	}
	// A copy: the records point into it, and live longer than the source's batch.
	one := &decoding{done: make(chan struct{}), payload: bytes.Clone(payload)}
	d.keep(key, one)
	d.mu.Unlock()
	defer close(one.done)
	d.made.Add(1)
	one.records, one.next, one.err = decode(one.payload)
	return one.records, one.next, one.err
}

// keep remembers a decoding and forgets the oldest ones; the caller holds mu.
func (d *Decodings) keep(key decodingKey, one *decoding) {
	if d.known == nil {
		d.known = map[decodingKey]*decoding{}
	}
	if was := d.known[key]; was != nil {
		d.bytes -= len(was.payload)
	} else {
		d.order = append(d.order, key)
	}
	d.known[key] = one
	d.bytes += len(one.payload)
	for d.bytes > decodingsBytesMax && len(d.order) > 1 {
		d.bytes -= len(d.known[d.order[0]].payload)
		delete(d.known, d.order[0])
		d.order = d.order[1:]
	}
}
