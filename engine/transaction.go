package engine

// Transaction decodes the payloads of one transaction, one after the other: those of its parts, and what its COMMIT carries.
type Transaction interface {
	// Decode is Decoder.Decode of the transaction's next payload. The records are valid until the next call: they point into payload, or are fresh.
	// After an error the transaction is of no use.
	Decode(payload []byte) ([]Record, error)
	// End returns the state after the transaction, at most StateBytesMax long; the very slice that it began with when nothing changed.
	End() (next []byte, err error)
}

// Transactional is a Decoder for which a transaction is more than one payload after the other: what it has to know between two of them is not bound by StateBytesMax,
// but is in memory until End. What comes of a transaction that Decode can decode as well is the same.
type Transactional interface {
	Decoder
	// Begin returns the decoding of the transaction that comes next in a state. Several may be under way; each belongs to one goroutine.
	Begin(state []byte) (Transaction, error)
}

// Begin begins a transaction, with any Decoder.
func Begin(d Decoder, state []byte) (Transaction, error) {
	if t, ok := d.(Transactional); ok {
		return t.Begin(state)
	}
	return &payloads{d, state}, nil
}

// payloads is the transaction of a Decoder that knows only payloads.
type payloads struct {
	d     Decoder
	state []byte
}

// Decode implements Transaction.
func (p *payloads) Decode(payload []byte) ([]Record, error) {
	records, next, err := p.d.Decode(p.state, payload)
	if err == nil {
		p.state = next
	}
	return records, err
}

// End implements Transaction.
func (p *payloads) End() ([]byte, error) { return p.state, nil }
