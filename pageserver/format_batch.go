package pageserver

import (
	"encoding/binary"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// Commits and the states of a decoder that were written at once stand under one key, that of
// the first: the newest key at or before a place has what holds there.
const (
	// commitsMax is the most commits under a key, statesMax the most states: who looks for
	// one goes through all of them.
	commitsMax = 256
	statesMax  = 256
	// stateRun marks the length of a state that others follow.
	stateRun = 1 << 31
)

// appendCommits is the value of commits: the clock of the first, then of each how many LSNs
// it is behind the one before, and how far its clock is ahead.
func appendCommits(dst []byte, group []commit) []byte {
	dst = appendTime(dst, group[0].time)
	for i := 1; i < len(group); i++ {
		dst = binary.AppendUvarint(dst, uint64(group[i].lsn-group[i-1].lsn))
		dst = binary.AppendUvarint(dst, uint64(group[i].time-group[i-1].time))
	}
	return dst
}

// decodeCommits visits the commits under a key, in order, until visit returns false.
func decodeCommits(key, sealed []byte, visit func(commit) bool) error {
	b, err := unseal(key, sealed, -1)
	if err != nil {
		return err
	}
	if len(key) != logPrefixBytes+8 || len(b) < 8 {
		return corruptValue(key, "commits of %d bytes under a key of %d", len(b), len(key))
	}
	c := commit{logcore.LSN(binary.BigEndian.Uint64(key[logPrefixBytes:])), logcore.HLC(binary.LittleEndian.Uint64(b))}
	for b = b[8:]; visit(c) && len(b) > 0; {
		lsns, n := binary.Uvarint(b)
		if n <= 0 || lsns == 0 {
			return corruptValue(key, "commits")
		}
		b = b[n:]
		time, n := binary.Uvarint(b)
		if n <= 0 {
			return corruptValue(key, "commits")
		}
		b = b[n:]
		c.lsn, c.time = c.lsn+logcore.LSN(lsns), c.time+logcore.HLC(time)
	}
	return nil
}

// appendStateChange adds what a state differs in from the one before: how many bytes of both
// ends they share.
func appendStateChange(dst []byte, before, at pos, was, is []byte) []byte {
	n := min(len(was), len(is))
	prefix, suffix := 0, 0
	for prefix < n && was[prefix] == is[prefix] {
		prefix++
	}
	for suffix < n-prefix && was[len(was)-1-suffix] == is[len(is)-1-suffix] {
		suffix++
	}
	middle := is[prefix : len(is)-suffix]
	dst = binary.AppendUvarint(dst, uint64(at.lsn-before.lsn))
	dst = binary.AppendUvarint(dst, uint64(at.seq))
	dst = binary.AppendUvarint(dst, uint64(prefix))
	dst = binary.AppendUvarint(dst, uint64(suffix))
	dst = binary.AppendUvarint(dst, uint64(len(middle)))
	return append(dst, middle...)
}

// stateChange is one change of a state: what of the one before stays at both ends, and what
// comes between.
type stateChange struct {
	at             pos
	prefix, suffix uint64
	middle, rest   []byte
}

// nextStateChange takes the first change off those that follow a state.
func nextStateChange(key, changes []byte, before pos) (c stateChange, err error) {
	var f [5]uint64
	for i := range f {
		v, n := binary.Uvarint(changes)
		if n <= 0 {
			return c, corruptValue(key, "decoder state: a change is cut")
		}
		f[i], changes = v, changes[n:]
	}
	lsns, seq, middle := f[0], f[1], f[4]
	if middle > uint64(len(changes)) || seq > 1<<32-1 {
		return c, corruptValue(key, "decoder state: a change of %d bytes, %d are left", middle, len(changes))
	}
	c = stateChange{pos{before.lsn + logcore.LSN(lsns), uint32(seq)}, f[2], f[3], changes[:middle], changes[middle:]}
	if !before.less(c.at) {
		return c, corruptValue(key, "decoder state: places do not rise")
	}
	return c, nil
}

// stateThrough returns the state at a place of those that follow the first under a key.
func stateThrough(key, changes, state []byte, first, bound pos) ([]byte, error) {
	for at := first; len(changes) > 0; {
		c, err := nextStateChange(key, changes, at)
		if err != nil {
			return nil, err
		}
		if bound.less(c.at) {
			break
		}
		n := uint64(len(state))
		if c.prefix > n || c.suffix > n-c.prefix || n+uint64(len(c.middle)) > engine.StateBytesMax {
			return nil, corruptValue(key, "decoder state: a change leaves the state of %d bytes", n)
		}
		is := make([]byte, 0, c.prefix+uint64(len(c.middle))+c.suffix)
		is = append(append(append(is, state[:c.prefix]...), c.middle...), state[n-c.suffix:]...)
		state, changes, at = is, c.rest, c.at
	}
	return state, nil
}

// statesThrough returns the changes of a state at or before a place.
func statesThrough(key, changes []byte, first, bound pos) ([]byte, error) {
	all := changes
	for at := first; len(changes) > 0; {
		c, err := nextStateChange(key, changes, at)
		if err != nil {
			return nil, err
		}
		if bound.less(c.at) {
			break
		}
		changes, at = c.rest, c.at
	}
	return all[:len(all)-len(changes)], nil
}
