package logsvc

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/replication"
)

// The decisions of the service that must see the catalog as it will be. They run on the
// shard's loop and do no I/O, so the deterministic simulation runs them as they are.

// Token is what a writer proves itself with: an epoch of a log, and the incarnation of the
// shard that granted it.
type Token struct {
	Log         logcore.LogID
	Epoch       logcore.Epoch
	Incarnation uint64
}

// check returns the log that the token is good for. A member that was deposed and does not know it yet must not tell a writer
// that it is fenced when it isn't: an epoch that is newer than any it knows was granted by somebody who leads by now, and one
// that it raised itself counts once that is applied.
func (t Token) check(p *replication.Proposer) (*catalog.Log, error) {
	if err := p.Catalog().CheckIncarnation(t.Incarnation); err != nil {
		return nil, err
	}
	l, err := p.Catalog().CheckWriter(t.Log, t.Epoch)
	if errors.Is(err, logcore.ErrFenced) {
		if known, kerr := p.Catalog().ByID(t.Log); kerr == nil && t.Epoch > known.Epoch && !p.Alone() {
			return nil, &logcore.NotLeaderError{Shard: p.Shard()}
		}
		p.WaitFor(p.Catalog().LSN)
	}
	return l, err
}

// PrepareAppend proposes a writer's entries, whose sequences rise by one from first,
// and writes into places, one for each draft, where they go. Entries that were
// written before are answered with the place they have; none is written twice. It returns the highest index
// in the shard of them; 0 when they were all written before the log came to it. After an error
// nothing was proposed. The drafts that were proposed belong to the group.
func PrepareAppend(p *replication.Proposer, t Token, first uint64, drafts []replication.Draft, places []catalog.Place) (index logcore.LSN, err error) {
	l, err := t.check(p)
	if err != nil {
		return 0, err
	}
	if first > l.Sequence+1 {
		return 0, fmt.Errorf("%w: log %q: sequence %d after %d", logcore.ErrSequenceGap, l.Name, first, l.Sequence)
	}
	again := int(min(l.Sequence+1-first, uint64(len(drafts))))
	for i := range again {
		place, ok := l.Placed(first + uint64(i))
		if !ok {
			return 0, fmt.Errorf("%w: log %q: sequence %d was written, but only the last %d of %d can be answered again", logcore.ErrSequenceGap, l.Name, first+uint64(i), catalog.WindowEntries, l.Sequence)
		}
		if !place.Holds(drafts[i].Tx()) {
			return 0, fmt.Errorf("%w: log %q, epoch %d: sequence %d was written at LSN %d by another transaction: open another writer", logcore.ErrSequenceReused, l.Name, l.Epoch, first+uint64(i), place.LSN)
		}
		places[i] = place
		at := l.Index(place.LSN)
		p.WaitFor(at)
		index = max(index, at)
	}
	if again < len(drafts) {
		if err := p.DiskFull(); err != nil {
			return 0, err
		}
	}
	for i := again; i < len(drafts); i++ {
		places[i] = p.Propose(drafts[i])
		index = places[i].LSN
		places[i].LSN += l.Base
	}
	return index, nil
}

// Opening says who wants to write which log.
type Opening struct {
	Log, Writer, PayloadFormat string
	Create                     bool // the log, if there is none
	// Held, when not nil, is asked about a log whose writer has not closed it; its error
	// refuses the opening.
	Held func(*catalog.Log) error
}

// PrepareOpenWriter proposes the log's next epoch and returns its token, good once the
// request is done, and the log's last LSN before it.
func PrepareOpenWriter(p *replication.Proposer, o Opening) (Token, logcore.LSN, error) {
	l, err := p.Catalog().ByName(o.Log)
	if (err == nil || o.Create) && p.DiskFull() != nil {
		return Token{}, 0, p.DiskFull() // no use for a writer then, and trying again must not fill what is left
	}
	switch {
	case errors.Is(err, logcore.ErrLogNotFound) && o.Create:
		id := p.Catalog().NextLog()
		if _, err := p.Command(catalog.Command{Op: catalog.OpCreate, Log: id, Name: o.Log}); err != nil {
			return Token{}, 0, err
		}
		if l, err = p.Catalog().ByID(id); err != nil {
			return Token{}, 0, err
		}
	case err != nil:
		return Token{}, 0, err
	}
	if l.WriterOpen && o.Held != nil {
		if err := o.Held(l); err != nil {
			return Token{}, 0, err
		}
	}
	t, last := Token{Log: l.ID, Epoch: l.Epoch + 1, Incarnation: p.Catalog().Incarnation}, l.LastLSN
	_, err = p.Command(catalog.Command{Op: catalog.OpOpenWriter, Log: l.ID, Epoch: t.Epoch, Writer: o.Writer, PayloadFormat: o.PayloadFormat})
	return t, last, err
}
