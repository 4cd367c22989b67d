package pageserver

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// foldEntry decodes one payload and adds its net effect at {lsn, seq} to b.
func (s *Server) foldEntry(l *logState, b *pebble.Batch, lsn logcore.LSN, seq uint32, payload []byte) error {
	records, err := s.decode(l, payload)
	if err != nil {
		return &badEntry{fmt.Errorf("entry at LSN %d, part %d: %w", lsn, seq, err)}
	}
	at := pos{lsn, seq}
	r := s.newReader()
	defer r.close()
	f := newFold(func(space engine.Space) (sizeValue, error) {
		if v, ok := l.ingest.sizes[space]; ok {
			return v, nil
		}
		v, _, err := r.size(l, space, at.before())
		return v, err
	})
	for _, record := range records {
		if err := f.add(record); err != nil {
			return fmt.Errorf("entry at LSN %d, part %d: %w", lsn, seq, err)
		}
	}
	s.metrics.records.Add(float64(len(records)))
	for _, space := range f.order {
		if err := s.writeSpace(l, r, b, at, space, f.spaces[space]); err != nil {
			return err
		}
	}
	return nil
}

// decode returns the records of a payload.
func (s *Server) decode(l *logState, payload []byte) ([]engine.Record, error) {
	if l.ingest.decoder == nil {
		format, err := s.opts.Formats.Of(payload)
		if err != nil {
			return nil, err
		}
		l.ingest.decoder = format.Decoder
	}
	records, state, err := l.ingest.decoder.Decode(nil, payload)
	if err == nil && state != nil {
		err = fmt.Errorf("%w: a decoder with a state", logcore.ErrUnsupportedVersion)
	}
	return records, err
}

// badEntry is an entry that the decoder, or the order of the records, rules out.
// Reading it again does not help: the log's ingest stops before it.
type badEntry struct{ err error }

func (e *badEntry) Error() string { return e.err.Error() }
func (e *badEntry) Unwrap() error { return e.err }

func (s *Server) writeSpace(l *logState, r *reader, b *pebble.Batch, at pos, space engine.Space, sf *spaceFold) error {
	if sf.cut < uint64(sf.before.pages) {
		if err := s.writeCut(l, r, b, at, space, uint32(sf.cut)); err != nil {
			return err
		}
	}
	for _, n := range sf.order {
		pf := sf.pages[n]
		if pf == nil {
			continue // written and then cut, or dealt with
		}
		sf.pages[n] = nil // a page cut and written again stands in order twice
		if err := s.writePage(l, r, b, at, space, sf, n, pf); err != nil {
			return err
		}
	}
	l.ingest.sizes[space] = sf.size
	if sf.size == sf.before {
		return nil
	}
	key := appendSpaceKey(nil, tagSize, l.id, space, at)
	return b.Set(key, seal(key, encodeSize(sf.size)), nil)
}

// writeCut records that pages from low on lost their content at a pos.
func (s *Server) writeCut(l *logState, r *reader, b *pebble.Batch, at pos, space engine.Space, low uint32) error {
	older, err := r.olderCut(l, space, at.before(), low)
	if err != nil {
		return err
	}
	key := appendSpaceKey(nil, tagCut, l.id, space, at)
	if err := b.Set(key, seal(key, encodeCut(cutValue{low, older})), nil); err != nil {
		return err
	}
	for id := range l.ingest.chains {
		if id.space == space && id.page >= low {
			delete(l.ingest.chains, id)
		}
	}
	// Ahead of the store until b is applied: it only makes readers look there.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newestCut[space] = at
	l.cutEpochs[space]++
	return nil
}

// writePage stores the new version of a page: an image, or a delta while the chain
// below it stays short and smaller than an image.
func (s *Server) writePage(l *logState, r *reader, b *pebble.Batch, at pos, space engine.Space, sf *spaceFold, n uint32, pf *pageFold) error {
	pageSize := sf.size.pageSize
	s.current.close(l.currentID(space, n), at.lsn)
	if pf.image != nil {
		return s.writeImage(l, b, at, space, n, pf.image)
	}
	base, err := s.chainOf(l, r, space, n, at.before())
	if err != nil {
		return err
	}
	bytes := uint64(base.bytes) + uint64(rangesBytes(pf.ranges))
	if base.exists && int(base.depth) < s.opts.ChainDeltasMax && bytes <= uint64(pageSize) {
		h := versionHeader{kindDelta, base.depth + 1, uint32(bytes), pageSize, base.at}
		key := appendVersionKey(nil, l.id, space, n, at)
		l.ingest.remember(pageID{space, n}, chain{true, at, h.depth, h.chainBytes})
		value := make([]byte, 0, versionHeaderBytes+baseBytes+rangesBytes(pf.ranges)+checksumBytes)
		return b.Set(key, seal(key, appendRanges(appendVersionHeader(value, h), pf.ranges)), nil)
	}
	page := make([]byte, pageSize)
	if base.exists {
		before, err := r.page(l, space, n, at.before())
		if err != nil {
			return err
		}
		copy(page, before.data)
		s.metrics.images.Inc()
	}
	engine.Apply(page, pf.ranges)
	return s.writeImage(l, b, at, space, n, page)
}

func (s *Server) writeImage(l *logState, b *pebble.Batch, at pos, space engine.Space, n uint32, page []byte) error {
	key := appendVersionKey(nil, l.id, space, n, at)
	l.ingest.remember(pageID{space, n}, chain{exists: true, at: at})
	return b.Set(key, sealImage(key, page), nil)
}

func sealImage(key, page []byte) []byte {
	value := make([]byte, 0, versionHeaderBytes+len(page)+checksumBytes)
	value = appendVersionHeader(value, versionHeader{kind: kindImage, pageSize: uint32(len(page))})
	return seal(key, append(value, page...))
}

// chainOf returns what the newest version of a page at or before a pos costs.
func (s *Server) chainOf(l *logState, r *reader, space engine.Space, n uint32, at pos) (chain, error) {
	if c, ok := l.ingest.chains[pageID{space, n}]; ok {
		return c, nil
	}
	v, err := r.newest(l, space, n, at)
	if err != nil || !v.alive {
		return chain{}, err
	}
	return chain{true, v.at, v.header.depth, v.header.chainBytes}, nil
}

func (i *ingestState) remember(id pageID, c chain) {
	if len(i.chains) >= chainsMax {
		clear(i.chains)
	}
	i.chains[id] = c
}
