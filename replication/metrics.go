package replication

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a group's, read when they are scraped.
type metrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector
	changes    prometheus.Counter
	// lag and silent are of the voters that are furthest behind and not in contact, written by the loop while it leads.
	lag, silent atomic.Uint64
}

// newMetrics registers the group's metrics; a nil registerer registers none.
func newMetrics(reg prometheus.Registerer, g *Group) (*metrics, error) {
	m := &metrics{registerer: reg, changes: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "logcore_replication_leader_changes_total", Help: "Changes of the shard's leader that this member has seen."})}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m.collectors = []prometheus.Collector{m.changes,
		gauge("logcore_replication_leading", "1 where the shard is led, 0 elsewhere.", func() float64 {
			if g.Leading() {
				return 1
			}
			return 0
		}),
		gauge("logcore_replication_leader_known", "1 when this member knows of a leader, 0 when it doesn't.", func() float64 {
			if g.Leader() != 0 {
				return 1
			}
			return 0
		}),
		gauge("logcore_replication_term", "The present Raft term.", func() float64 { return float64(g.Term()) }),
		gauge("logcore_replication_voters", "Members that vote.", func() float64 { return float64(len(g.Members().Voters)) }),
		gauge("logcore_replication_learners", "Members that copy the log and don't vote.", func() float64 { return float64(len(g.Members().Learners)) }),
		gauge("logcore_replication_lag_entries", "Entries that the voter furthest behind lacks; 0 where the shard isn't led.", func() float64 { return float64(m.lag.Load()) }),
		gauge("logcore_replication_silent_voters", "Voters that the leader is not in contact with; 0 where the shard isn't led.", func() float64 { return float64(m.silent.Load()) }),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.collectors {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

// measure is called by the loop with every tick.
func (m *metrics) measure(member *Member) {
	lag, silent := uint64(0), uint64(0)
	if member.spec != nil {
		progress := member.progress()
		for _, id := range member.Members().Voters {
			p, ok := progress[id]
			if !ok {
				continue // itself
			}
			if last := member.storage.last; last > p.Match {
				lag = max(lag, uint64(last-p.Match))
			}
			if !p.Active {
				silent++
			}
		}
	}
	m.lag.Store(lag)
	m.silent.Store(silent)
}
