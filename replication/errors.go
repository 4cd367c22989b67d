package replication

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
)

var (
	// ErrStaleMember: the member's disk is older than it was, or another one. It must not
	// vote: the entries it had acknowledged count on it. It is removed and comes back, with an empty
	// directory, under a new identity.
	ErrStaleMember = errors.New("replication: the member's disk is older than it was")
	// ErrMembersChanging: a change of the members is under way; try again once it is done.
	ErrMembersChanging = errors.New("replication: a change of the members is under way")
	// ErrQuorum: a change of the members would leave fewer of them in working order than
	// the group needs to go on.
	ErrQuorum = errors.New("replication: the change would cost the group its quorum")
	// ErrBehind: a learner has not caught up yet.
	ErrBehind = errors.New("replication: the member has not caught up yet")
	// ErrLeads: the member to be removed leads the group. The others might never hear that its removal
	// is committed, and then need its vote: let another one lead first.
	ErrLeads = errors.New("replication: the member leads the group")
	// ErrNoMember: the group has no member of that id, or not in that role.
	ErrNoMember = errors.New("replication: no such member")
)

// errLeadershipLost: what was proposed may or may not become part of the log.
var errLeadershipLost = fmt.Errorf("replication: leadership lost before the entry was committed, it may or may not be: %w", logcore.ErrClosed)
