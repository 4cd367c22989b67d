package tiering

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
)

// ProblemKind says what is wrong with something stored.
type ProblemKind string

// The kinds of problem. The last seven are notices: nothing is damaged.
const (
	ProblemFragmentRotten  ProblemKind = "fragment-rotten"  // bytes differ from what was written
	ProblemFragmentMissing ProblemKind = "fragment-missing" // the manifest places it here and it is not
	ProblemObject          ProblemKind = "object-unreadable"
	ProblemRecordRotten    ProblemKind = "record-rotten"     // a manifest record or a claim is damaged
	ProblemRecordMissing   ProblemKind = "record-missing"    // lost, or the target was rolled back
	ProblemRecordFork      ProblemKind = "record-fork"       // a record that is not of the chain that counts, though its archiver went on from it
	ProblemManifest        ProblemKind = "manifest"          // the chain as a whole
	ProblemUnreachable     ProblemKind = "unreachable"       // a target did not answer or was not given
	ProblemDegraded        ProblemKind = "degraded"          // a fragment was never placed
	ProblemRecordOpen      ProblemKind = "record-unfinished" // the newest record is on no majority: its archiver stopped while writing it
	ProblemRecordLeftover  ProblemKind = "record-leftover"   // a single record beside the chain: its archiver stopped while writing it
	ProblemRecordBehind    ProblemKind = "record-behind"     // one of the newest, which a majority has: the target was away
	ProblemOrphan          ProblemKind = "orphan"            // a fragment that no record names
	ProblemForeign         ProblemKind = "foreign"           // an object that is none of the archive's
)

// Problem is something wrong, with its place.
type Problem struct {
	Target string
	Key    string // empty when the problem is the target as a whole
	Offset int64  // -1 when unknown
	Kind   ProblemKind
	Detail string

	err error // the cause, when there is one
}

// Notice reports whether p is no damage: something to know, or to tidy up.
func (p Problem) Notice() bool {
	switch p.Kind {
	case ProblemUnreachable, ProblemDegraded, ProblemRecordOpen, ProblemRecordLeftover, ProblemRecordBehind, ProblemOrphan, ProblemForeign:
		return true
	}
	return false
}

// String names the place and the problem.
func (p Problem) String() string {
	place := p.Target
	if p.Key != "" {
		place += ": " + p.Key
	}
	if p.Offset >= 0 {
		place += fmt.Sprintf(" at offset %d", p.Offset)
	}
	return fmt.Sprintf("%s: %s: %s", place, p.Kind, p.Detail)
}

// problemOf makes a problem of an error, with the offset when it knows one.
func problemOf(target, key string, kind ProblemKind, err error) Problem {
	p := Problem{Target: target, Key: key, Offset: -1, Kind: kind, Detail: err.Error(), err: err}
	var ce *logcore.CorruptionError
	if errors.As(err, &ce) {
		p.Offset, p.Detail = ce.Offset, ce.Reason
	}
	return p
}
