package node

import (
	"fmt"
	"sync"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/replication"
)

// BenchmarkAppend appends 128-byte entries to a group of one and to one of three on real disks over real
// connections, so many in flight.
func BenchmarkAppend(b *testing.B) {
	for _, members := range []int{1, 3} {
		for _, inflight := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("members=%d/inflight=%d", members, inflight), func(b *testing.B) { benchAppend(b, members, inflight) })
		}
	}
}

func benchAppend(b *testing.B, members, inflight int) {
	nodes := []*process{newProcess(b)}
	nodes[0].log.SegmentBytes = 64 << 20
	nodes[0].start()
	for range members - 1 {
		p := newProcess(b)
		p.log.SegmentBytes = 64 << 20
		p.join(nodes[0].addr)
		if _, err := nodes[0].AddMember(within(b), p.addr, false); err != nil {
			b.Fatal(err)
		}
		nodes = append(nodes, p)
	}
	appendOne(b, []byte("the log"), nodes...)
	g := leaderOf(b, nodes...).Group()
	body := make([]byte, 128)
	slots := make(chan struct{}, inflight)
	var done sync.WaitGroup
	b.ResetTimer()
	for range b.N {
		slots <- struct{}{}
		done.Add(1)
		err := g.Submit(replication.Request{Bytes: 200, Prepare: func(p *replication.Proposer) error {
			l, err := p.Catalog().ByID(1)
			if err != nil {
				return err
			}
			r := catalog.Record{Log: 1, Epoch: l.Epoch, Sequence: l.Sequence + 1, Body: body}
			p.Propose(r.Append(replication.NewDraft(logcore.KindData, logcore.TxID{1}, r.Size())))
			return nil
		}, Done: func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-slots
			done.Done()
		}})
		if err != nil {
			b.Fatal(err)
		}
	}
	done.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}
