package logsvc

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

// TrimHot lets go of the oldest sealed segments of the hot tier that the archive
// covers, beyond HotBytesKeep; under disk pressure of all it may. The newest
// segment that begins with an applied checkpoint always stays, and everything after it: the
// next start folds the catalog from there.
func (s *Service) TrimHot() error {
	if s.opts.Archive == nil {
		return nil
	}
	hot := s.group.HotLog()
	used, limit := hot.Pressure()
	pressure := used >= limit-limit/8
	keep := s.opts.HotBytesKeep
	if pressure {
		keep = 0
	}
	upTo := trimPoint(hot.Segments(), keep, s.opts.Archive.Trimmable(s.group.Shard(), pressure), s.group.Checkpoint())
	if upTo == 0 {
		return nil
	}
	if err := hot.TrimHead(upTo); err != nil {
		return fmt.Errorf("logsvc: trim up to LSN %d: %w", upTo, err)
	}
	s.log.Debug("logsvc: hot tier trimmed", "shard", s.group.Shard(), "upTo", upTo)
	return nil
}

// trimPoint returns the last LSN to let go of, 0 for none: whole sealed segments, oldest
// first, all of it trimmable and before the checkpoint, while more than keep bytes remain.
func trimPoint(segments []hotlog.SegmentInfo, keep int64, trimmable, checkpoint logcore.LSN) (upTo logcore.LSN) {
	var total int64
	for _, seg := range segments {
		total += seg.Bytes
	}
	for _, seg := range segments {
		if !seg.Sealed || seg.Last > trimmable || seg.Last >= checkpoint || total-seg.Bytes < keep {
			break
		}
		total -= seg.Bytes
		upTo = seg.Last
	}
	return upTo
}
