package tiering

import (
	"slices"
	"time"

	"github.com/logcore/logcore"
)

// TargetStatus says how a target is doing.
type TargetStatus struct {
	Name, Provider, Region string
	Location               string // URL without credentials; empty when the target could not be opened
	Healthy                bool   // the last call succeeded and the breaker is closed
	ManifestSynced         bool   // it holds every record the archiver knows of
	LastError              string // of the last failed call; empty when healthy
	Fragments              int    // live fragments that the manifest places here
	Missing                int    // live fragments that belong here and are not placed yet
	Bytes                  int64  // of the live fragments
	Leaving                bool   // it is being evacuated
}

// Status is a snapshot of an Archiver.
type Status struct {
	Cluster       [16]byte
	Shard         logcore.ShardID
	Epoch         uint64
	First         logcore.LSN // the oldest archived entry; 0 when nothing is
	Covered       logcore.LSN // everything from First to here is archived
	CoveredTime   logcore.HLC
	Record        uint64        // number of the newest manifest record
	Objects       int           // live objects
	Degraded      int           // live objects with a fragment not placed
	RawBytes      int64         // frames in live objects
	StoredBytes   int64         // fragments placed
	Lag           time.Duration // age of the oldest acknowledged entry that is not covered; 0 when none
	RPO           time.Duration // the largest age at which an entry was covered in the last minute
	LastError     string        // why the last round failed; empty when it did not
	TrimmedUpTo   logcore.LSN   // what the hot tier was last told it may drop
	BuffersPeak   int64         // the most bytes that were in the buffers of objects being made
	RetiredRemain int           // superseded objects whose fragments wait for deletion
}

// Status returns a snapshot.
func (a *Archiver) Status() Status {
	st := Status{Cluster: a.o.Cluster, Shard: a.o.Shard, Epoch: a.o.Epoch, Lag: a.lag(), RPO: a.worstRPO()}
	_, st.BuffersPeak = a.memory.now()
	a.mu.Lock()
	st.TrimmedUpTo = a.trimmed
	if a.lastErr != nil {
		st.LastError = a.lastErr.Error()
	}
	a.mu.Unlock()
	s := a.state.Load()
	if s == nil {
		return st
	}
	st.First, st.Covered, st.CoveredTime, st.Record, st.Objects = s.first(), s.covered(), s.coveredTime(), s.number, len(s.live)
	for _, o := range s.live {
		n := o.placed()
		if n < len(o.fragments) {
			st.Degraded++
		}
		st.RawBytes += o.rawBytes
		st.StoredBytes += int64(n) * o.FragmentBytes()
	}
	st.RetiredRemain = len(s.retired)
	return st
}

// TargetStatus returns how each target is doing, in the order of Options.Targets.
func (a *Archiver) TargetStatus() []TargetStatus {
	chain := a.chainNow()
	remotes := a.all()
	out := make([]TargetStatus, len(remotes))
	byName := map[string]*TargetStatus{}
	for i, r := range remotes {
		ok, err := r.health()
		out[i] = TargetStatus{Name: r.Name, Provider: r.Provider, Region: r.Region, Healthy: ok, ManifestSynced: len(r.lacks(chain)) == 0}
		if r.Bucket != nil {
			out[i].Location = r.Bucket.String()
		}
		if err != nil {
			out[i].LastError = err.Error()
		}
		byName[r.Name] = &out[i]
	}
	s := a.state.Load()
	if s == nil {
		return out
	}
	for _, o := range s.live {
		var belongs []*remote
		for i, f := range o.fragments {
			if t := byName[f.target]; t != nil {
				t.Fragments++
				t.Bytes += o.FragmentBytes()
			} else if f.target == "" {
				if belongs == nil {
					belongs = a.placement(o.K, o.M)
				}
				if belongs[i] != nil {
					byName[belongs[i].Name].Missing++
				}
			}
		}
	}
	for i := range out {
		out[i].Leaving = slices.Contains(s.leaving, out[i].Name)
	}
	return slices.DeleteFunc(out, func(t TargetStatus) bool { return !s.inUse(t.Name) })
}

// chainNow returns the records that every target should hold.
func (a *Archiver) chainNow() []stored {
	if c := a.chainView.Load(); c != nil {
		return *c
	}
	return nil
}
