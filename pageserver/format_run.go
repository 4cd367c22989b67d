package pageserver

import (
	"encoding/binary"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// A run is a version that holds several changes of its page, one behind the other, each
// with its place: those that were written at once. Its key has the place of the first, so
// the newest version at or before a place is found as any other is, and what of it came
// later is left aside. A page that changes all the time costs a key and a checksum for
// each write to the store instead of one for each change.
//
// A change in a run: LSNs since the change before (the first: since the run's own place),
// its number, bytes of its steps, all three as unsigned varints, and the steps.

// appendChange begins a change whose steps have so many bytes.
func appendChange(dst []byte, before, at pos, stepsBytes int) []byte {
	dst = binary.AppendUvarint(dst, uint64(at.lsn-before.lsn))
	dst = binary.AppendUvarint(dst, uint64(at.seq))
	return binary.AppendUvarint(dst, uint64(stepsBytes))
}

// nextChange takes the first change off a run's body; before is the place of the one before.
// rest is nil, and ok false, when there is no well-formed one.
func nextChange(body []byte, before pos) (at pos, steps, rest []byte, ok bool) {
	var fields [3]uint64
	for i := range fields {
		v, n := binary.Uvarint(body)
		if n <= 0 {
			return pos{}, nil, nil, false
		}
		fields[i], body = v, body[n:]
	}
	lsn, seq, bytes := fields[0], fields[1], fields[2]
	if seq > 1<<32-1 || bytes > uint64(len(body)) || uint64(before.lsn)+lsn < lsn {
		return pos{}, nil, nil, false
	}
	return pos{before.lsn + logcore.LSN(lsn), uint32(seq)}, body[:bytes:bytes], body[bytes:], true
}

// checkRun makes sure that the changes of a run can be applied, and that their places
// rise from the run's own.
func checkRun(key, body []byte, first pos, pageSize uint32) error {
	before := first
	for n := 0; len(body) > 0 || n == 0; n++ {
		at, steps, rest, ok := nextChange(body, before)
		if !ok || n == 0 && at != first || n > 0 && !before.less(at) {
			return corruptValue(key, "change %d of a run", n)
		}
		if err := checkSteps(key, steps, pageSize); err != nil {
			return err
		}
		before, body = at, rest
	}
	return nil
}

// changesThrough returns the changes of a checked run at or before a place, the place of
// the last of them, and that of the run's last one. There is one at least.
func changesThrough(body []byte, first, bound pos) (through []byte, at, last pos) {
	at, last = first, first
	end := 0
	for rest := body; len(rest) > 0; {
		next, _, more, _ := nextChange(rest, last)
		rest, last = more, next
		if !bound.less(next) {
			at, end = next, len(body)-len(rest)
		}
	}
	return body[:end:end], at, last
}

// applyChanges applies changes that checkRun accepted. An error is the decoder's.
func applyChanges(decoder engine.Decoder, page, body []byte) error {
	for at := (pos{}); len(body) > 0; {
		next, steps, rest, _ := nextChange(body, at)
		if err := applySteps(decoder, page, steps); err != nil {
			return err
		}
		at, body = next, rest
	}
	return nil
}
