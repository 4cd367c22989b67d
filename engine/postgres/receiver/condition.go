package receiver

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// Condition names what keeps a server's WAL from getting into the log, or its commits from being protected by it. It
// is a label of a metric and a word of a status: it does not change any more.
type Condition string

// The conditions.
const (
	ConditionCluster      Condition = "other_cluster"       // the log is of another database cluster
	ConditionFenced       Condition = "fenced"              // another writer has the log
	ConditionGap          Condition = "gap"                 // the server no longer has the WAL that comes next
	ConditionSlot         Condition = "slot_lost"           // the slot keeps no WAL for the log
	ConditionCorrupt      Condition = "corrupt"             // a record does not match its checksum
	ConditionTimeline     Condition = "timeline"            // the server went another way before the log's end
	ConditionVersion      Condition = "version"             // the server, or the log, is of a version that is not followed
	ConditionLevel        Condition = "wal_level"           // the server does not write what a standby needs
	ConditionApply        Condition = "remote_apply"        // commits would wait for what never comes
	ConditionUnprotected  Condition = "not_synchronous"     // commits don't wait for the log
	ConditionServer       Condition = "server_unreachable"  // no connection to the server
	ConditionService      Condition = "logcore_unreachable" // no connection to LogCore, or it does not acknowledge
	ConditionDiskFull     Condition = "disk_full"           // of LogCore
	ConditionUnhealthy    Condition = "logcore_unhealthy"   // LogCore says itself that something is wrong with it
	ConditionQuarantined  Condition = "quarantined"         // no page server ingests the log any more
	ConditionNotFollowing Condition = "not_followed"        // nobody copies the server's WAL into the log
	ConditionOther        Condition = "other"               // see the log of the agent
)

// Conditions are all of them.
var Conditions = []Condition{ConditionCluster, ConditionFenced, ConditionGap, ConditionSlot, ConditionCorrupt, ConditionTimeline, ConditionVersion, ConditionLevel,
	ConditionApply, ConditionUnprotected, ConditionServer, ConditionService, ConditionDiskFull, ConditionUnhealthy, ConditionQuarantined, ConditionNotFollowing, ConditionOther}

// refusal is an error with its condition.
type refusal struct {
	condition Condition
	err       error
}

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

func refuse(c Condition, format string, args ...any) error {
	return &refusal{c, fmt.Errorf(format, args...)}
}

// ConditionOf returns the condition that an error of a receiver, or of the client that it writes with, tells of.
func ConditionOf(err error) Condition {
	if r := new(refusal); errors.As(err, &r) {
		return r.condition
	}
	for _, c := range []struct {
		err error
		is  Condition
	}{{ErrGap, ConditionGap}, {logcore.ErrFenced, ConditionFenced}, {logcore.ErrWriterActive, ConditionFenced}, {logcore.ErrDiskFull, ConditionDiskFull},
		{logcore.ErrUnsupportedVersion, ConditionVersion}, {logcore.ErrCorrupt, ConditionCorrupt}, {ErrConnection, ConditionServer},
		{client.ErrUnavailable, ConditionService}, {client.ErrUnknownOutcome, ConditionService}} {
		if errors.Is(err, c.err) {
			return c.is
		}
	}
	return ConditionOther
}
