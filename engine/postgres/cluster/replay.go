package cluster

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// Replay applies a log to a cluster, from a base backup's beginning on.
type Replay struct {
	c       *Cluster
	decoder *wal.Decoder
	seen    wal.Position // records before it count for nothing
	from    wal.Position // those before it are in the files already, those behind seen not in the counters
	end     wal.Position // behind the last record seen
	prev    wal.Position // where that begins
	segment []byte       // the log's bytes from segmentAt on
	at      wal.Position // of segment
	stopped bool
}

// NewReplay begins a replay. start is where the log that Feed gets begins: the beginning of a
// segment. from is where the base backup says that redo begins.
func (c *Cluster) NewReplay(start, from wal.Position) (*Replay, error) {
	d, err := wal.NewDecoder(wal.Options{Start: start, SegmentBytes: c.SegmentBytes(), SystemID: c.SystemID()})
	if err != nil {
		return nil, err
	}
	if start%wal.Position(c.SegmentBytes()) != 0 {
		return nil, fmt.Errorf("cluster: the log begins at %v, inside a segment", start)
	}
	return &Replay{c: c, decoder: d, seen: from, from: from, end: start, at: start}, nil
}

// Known is what is known of the end of the log that a directory was made from.
type Known struct {
	Counters wal.Position // what pg_control counts ends here,
	Prev     wal.Position // with the record that begins here; 0 when there is none
}

// ResumeReplay goes on with a replay that made the directory: start is as in NewReplay, at or before known.Counters. The records from there on
// are in the files until Behind is called, and move only the counters.
func (c *Cluster) ResumeReplay(start wal.Position, known Known) (*Replay, error) {
	p, err := c.NewReplay(start, known.Counters)
	if err != nil {
		return nil, err
	}
	p.end, p.prev, p.from = max(start, known.Counters), known.Prev, ^wal.Position(0)
	return p, nil
}

// Behind says that the records that Feed gets from now on are not in the files yet.
func (p *Replay) Behind() { p.from = 0 }

// Feed applies the records of the next bytes. It stops for good before the first record
// for which until returns true. The bytes must not change until the next call.
func (p *Replay) Feed(b []byte, until func(*wal.Record) bool) (stopped bool, err error) {
	if p.stopped {
		return true, nil
	}
	p.segment = append(p.segment, b...)
	p.decoder.Feed(b)
	var r wal.Record
	for {
		err := p.decoder.Next(&r)
		if errors.Is(err, wal.ErrMore) {
			break
		}
		if err != nil {
			return false, fmt.Errorf("cluster: %w", err)
		}
		if until != nil && until(&r) {
			p.stopped = true
			break
		}
		if r.Start >= p.seen {
			if err := p.c.apply(&r, r.Start >= p.from); err != nil {
				return false, err
			}
		}
		if r.End > p.end {
			p.end, p.prev = r.End, r.Start
		}
	}
	p.trim()
	return p.stopped, nil
}

// trim drops the bytes before the segment that holds the end.
func (p *Replay) trim() {
	segment := wal.Position(p.c.SegmentBytes())
	if first := p.end - p.end%segment; first > p.at && first-p.at <= wal.Position(len(p.segment)) {
		p.segment = p.segment[:copy(p.segment, p.segment[first-p.at:])]
		p.at = first
	}
}

// Position returns the position behind the last record applied.
func (p *Replay) Position() wal.Position { return p.end }

// Tail describes the end of what was applied.
func (p *Replay) Tail() Tail {
	n := int(p.end - p.at)
	return Tail{End: p.end, Prev: p.prev, Timeline: p.decoder.Timeline(), Segment: p.segment[:min(n, len(p.segment))]}
}
