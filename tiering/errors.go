package tiering

import (
	"errors"
	"fmt"
	"strings"

	"github.com/logcore/logcore"
)

// The conditions that callers branch on, besides logcore's own.
var (
	// ErrNoArchive: the targets that answered hold no archive (of that cluster and shard).
	ErrNoArchive = errors.New("tiering: no archive on these targets")
	// ErrUnproven: too few targets answered to know which record of the manifest is the newest.
	ErrUnproven = errors.New("tiering: too few targets to prove the newest manifest record")
	// ErrNoQuorum: a record of the manifest could not be written to a majority of the targets.
	ErrNoQuorum = errors.New("tiering: no majority of the targets took the manifest record")
	// ErrTooFewFragments: fewer than k good fragments of an object are left.
	ErrTooFewFragments = errors.New("tiering: too few fragments are left")
	// ErrDiverged: the hot tier is not the one the archive was written from: older, or with
	// other entries. Nothing is archived over it.
	ErrDiverged = errors.New("tiering: the hot tier and the archive have diverged")
	// ErrKeyNotFound: the keyring holds no key of the id an object was sealed under.
	ErrKeyNotFound = errors.New("tiering: key not found")
	// ErrUnknownSigner: a manifest record is signed by a key pair that is not trusted.
	ErrUnknownSigner = errors.New("tiering: manifest record signed by an unknown key")
	// ErrPlacement: the targets can't carry the code so that any one provider may be lost.
	ErrPlacement = errors.New("tiering: the targets don't meet the placement policy")
	// ErrUnknownTarget: no target of the archive has that name.
	ErrUnknownTarget = errors.New("tiering: unknown target")
	// ErrHeld: a legal hold forbids it.
	ErrHeld = errors.New("tiering: under legal hold")
	// ErrKeyUnavailable: the key service that a master key is wrapped by did not answer, or
	// not with the key. It may the next time: nothing is written until it does.
	ErrKeyUnavailable = errors.New("tiering: the key service does not give the key")
	// ErrKeyFile: a key file that can't be used as it is.
	ErrKeyFile = errors.New("tiering: bad key file")
)

// FragmentsError names an object that can't be rebuilt and what is missing. It
// wraps ErrTooFewFragments.
type FragmentsError struct {
	Shard       logcore.ShardID
	First, Last logcore.LSN
	Need, Have  int
	Missing     []string // "target: reason", one for each fragment that could not be used

	damaged int // how many of them are rotten or gone, not only out of reach
}

// Error names the range, the count and each missing fragment.
func (e *FragmentsError) Error() string {
	return fmt.Sprintf("tiering: entries [%d,%d] of shard %d need %d fragments and only %d are good: %s",
		e.First, e.Last, e.Shard, e.Need, e.Have, strings.Join(e.Missing, "; "))
}

// Unwrap makes errors.Is(err, ErrTooFewFragments) true.
func (e *FragmentsError) Unwrap() error { return ErrTooFewFragments }
