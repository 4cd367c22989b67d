package appendload

import (
	"sort"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencyMax is the longest latency told apart; longer ones count as that.
const latencyMax = 10 * time.Minute

// figures are what one driver measured. Its goroutine alone writes them.
type figures struct {
	begin, end time.Time // of the measured window, by when appends were due
	latency    *hdrhistogram.Histogram

	acked    uint64 // over the whole run
	measured uint64 // acknowledged inside the window
	unknown  uint64
	refused  uint64
	reopened uint64
	faults   map[string]uint64

	lastAck time.Time
	gap     time.Duration // the longest time without an acknowledgement inside the window
}

func newFigures(begin, end time.Time) *figures {
	return &figures{begin: begin, end: end, faults: map[string]uint64{},
		latency: hdrhistogram.New(1, latencyMax.Nanoseconds(), 3)}
}

func (f *figures) acknowledged(due, now time.Time) {
	f.acked++
	if now.After(f.begin) && !now.After(f.end) {
		f.measured++
	}
	if !due.Before(f.begin) && due.Before(f.end) {
		_ = f.latency.RecordValue(min(max(now.Sub(due), 1), latencyMax).Nanoseconds())
		if last := f.lastAck; !last.IsZero() {
			f.gap = max(f.gap, now.Sub(last))
		}
		f.lastAck = now
	}
}

const faultsMax = 64 // kinds of error kept apart

func (f *figures) fault(err error) {
	text := err.Error()
	if _, known := f.faults[text]; known || len(f.faults) < faultsMax {
		f.faults[text]++
	}
}

func (f *figures) add(g *figures) {
	f.latency.Merge(g.latency)
	f.acked += g.acked
	f.measured += g.measured
	f.unknown += g.unknown
	f.refused += g.refused
	f.reopened += g.reopened
	f.gap = max(f.gap, g.gap)
	for text, n := range g.faults {
		f.faults[text] += n
	}
}

// commonFaults lists the most frequent errors.
func (f *figures) commonFaults(most int) []string {
	texts := make([]string, 0, len(f.faults))
	for t := range f.faults {
		texts = append(texts, t)
	}
	sort.Slice(texts, func(i, j int) bool {
		if f.faults[texts[i]] != f.faults[texts[j]] {
			return f.faults[texts[i]] > f.faults[texts[j]]
		}
		return texts[i] < texts[j]
	})
	return texts[:min(most, len(texts))]
}
