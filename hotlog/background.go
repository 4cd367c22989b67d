package hotlog

import (
	"errors"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// checkPieceBytes is what the check in the background reads before it rests for as
// long as that took, so that it takes half a processor and half the device at most.
const checkPieceBytes = 1 << 20

// checkSealed reads, once after Open, every segment that Open knew by its footer only.
// What it finds is counted, logged and reported; the log goes on.
func (l *Log) checkSealed() {
	began := time.Now()
	var segments, bytes int64
	for _, s := range *l.view.Load() {
		l.mu.Lock()
		sum, known := s.sum, s.finished
		l.mu.Unlock()
		if !known {
			continue // scanned at Open, or when it is finished
		}
		src, _ := l.reader(s)
		slow := &pacedReader{segmentReader: src, began: time.Now()}
		got, err := segment.Summarize(slow, s.header, sum.End, l.opts.LogOf, false)
		if err == nil {
			err = segment.PlaceOf(got.Differs(sum, false), sum.End, sum.Last)
		}
		switch {
		case errors.Is(err, errStopped):
			return
		case errors.Is(err, errGone):
			continue
		case err != nil:
			if err = l.damaged(s, err); !errors.Is(err, logcore.ErrCorrupt) {
				l.log.Warn("hot log: a sealed segment could not be checked", "dir", l.dir.Path(), "segment", s.name, "err", err)
			}
		}
		segments, bytes = segments+1, bytes+sum.End
	}
	l.metrics.checkedBytes.Add(float64(bytes))
	l.log.Info("hot log: sealed segments checked", "dir", l.dir.Path(), "segments", segments, "bytes", bytes, "took", time.Since(began))
}

// errStopped: the log is being closed.
var errStopped = errors.New("hotlog: stopped")

// pacedReader rests between pieces and ends when the log is closed.
type pacedReader struct {
	segmentReader
	read  int64
	began time.Time
}

func (r *pacedReader) ReadAt(p []byte, off int64) (int, error) {
	rest := time.Duration(0)
	if r.read >= checkPieceBytes {
		rest = min(time.Since(r.began), time.Second)
		r.read = 0
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-r.l.stop:
		return 0, errStopped
	case <-timer.C:
	}
	if rest > 0 {
		r.began = time.Now()
	}
	r.read += int64(len(p))
	return r.segmentReader.ReadAt(p, off)
}
