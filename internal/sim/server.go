package sim

import (
	"encoding/binary"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// What a member's service does for clients: the decisions are the production service's.

// opened, appended and seen are a member's answers; err says why there is nothing else
// in them, leader whom it takes for the leader.
type opened struct {
	err    error
	leader uint64
	token  logsvc.Token
}

type appended struct {
	err    error
	leader uint64
	place  catalog.Place
}

type seen struct {
	err     error
	epoch   logcore.Epoch
	last    logcore.LSN
	entries uint64
}

func (n *node) openWriter(log, writer string, answer func(opened)) {
	var t logsvc.Token
	m := n.member
	err := m.Submit(replication.Request{Bytes: 256, Prepare: func(p *replication.Proposer) (err error) {
		t, _, err = logsvc.PrepareOpenWriter(p, logsvc.Opening{Log: log, Writer: writer, Create: n.w.shard == 0 || n.w.shards == nil || n.w.flaws.createsAnywhere})
		return err
	}, Done: func(err error) { answer(opened{err, m.Leader(), t}) }})
	if err != nil {
		answer(opened{err: err, leader: m.Leader()})
	}
}

func (n *node) append(t logsvc.Token, sequence uint64, tx logcore.TxID, answer func(appended)) {
	m := n.member
	places := make([]catalog.Place, 1)
	err := m.Submit(replication.Request{Bytes: 256, Prepare: func(p *replication.Proposer) error {
		sequence := sequence
		if l, err := p.Catalog().ByID(t.Log); n.w.flaws.movesForget && err == nil && !l.Gone && l.Gen > 0 && l.LastLSN <= l.PlacedLSN && l.Epoch == t.Epoch && sequence <= l.Sequence {
			sequence = l.Sequence + 1 // planted
		}
		if n.w.flaws.forgetful { // planted: what was written before is not remembered
			if l, err := p.Catalog().ByID(t.Log); err == nil && l.Epoch == t.Epoch && sequence <= l.Sequence {
				sequence = l.Sequence + 1
			}
		}
		r := catalog.Record{Log: t.Log, Epoch: t.Epoch, Sequence: sequence, Body: body(tx)}
		drafts := []replication.Draft{r.Append(replication.NewDraft(logcore.KindData, tx, r.Size()))}
		_, err := logsvc.PrepareAppend(p, t, sequence, drafts, places)
		return err
	}, Done: func(err error) { answer(appended{err, m.Leader(), places[0]}) }})
	if err != nil {
		answer(appended{err: err, leader: m.Leader()})
	}
}

// body is a transaction's content: a function of its id, of many lengths.
func body(tx logcore.TxID) []byte {
	n := int(binary.LittleEndian.Uint16(tx[14:]) % 160)
	b := make([]byte, n)
	for i := range b {
		b[i] = tx[i%8]
	}
	return b
}

func (n *node) read(log string, answer func(seen)) {
	m := n.member
	look := func(err error) {
		if err != nil {
			answer(seen{err: err})
			return
		}
		m.View(func(s *catalog.State) {
			l, err := s.ByName(log)
			if err != nil {
				answer(seen{err: err})
				return
			}
			answer(seen{epoch: l.Epoch, last: l.LastLSN, entries: l.Entries})
		})
	}
	if n.w.flaws.staleReads { // planted: whoever believes to lead answers at once
		if m.Leading() {
			look(nil)
		} else {
			answer(seen{err: logcore.ErrNotLeader})
		}
		return
	}
	if err := m.ReadIndex(look); err != nil {
		answer(seen{err: err})
	}
}
