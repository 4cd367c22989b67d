package logcore

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
)

// LSN is the position of an entry in its log. LSNs of a log strictly increase;
// gaps are normal, because many logs share a shard. Zero means "no entry".
type LSN uint64

// String returns the decimal form, which ParseLSN reads back.
func (l LSN) String() string { return strconv.FormatUint(uint64(l), 10) }

// ParseLSN reads the decimal form of an LSN.
func ParseLSN(s string) (LSN, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("logcore: %q is not an LSN: want a decimal number", s)
	}
	return LSN(n), nil
}

// ShardID names a shard: one Raft group, one hot log on each member.
type ShardID uint32

// NoShard is no shard.
const NoShard = ^ShardID(0)

// LogID names a log inside a cluster. Ids are never used again. Zero is no log.
type LogID uint64

// Epoch is a writer epoch, the fencing token of a log. The first writer gets 1.
type Epoch uint64

// TxID names a transaction. The zero TxID means "none" and is never stored for
// the entries of a log.
type TxID [16]byte

// NewTxID returns a random transaction id.
func NewTxID() TxID {
	var id TxID
	rand.Read(id[:]) // never fails: crypto/rand aborts the process instead
	return id
}

// String returns 32 hexadecimal digits.
func (t TxID) String() string { return hex.EncodeToString(t[:]) }

// IsZero reports whether t names no transaction.
func (t TxID) IsZero() bool { return t == TxID{} }

// LogNameMax is the longest name of a log, in bytes.
const LogNameMax = 128

// ValidateLogName checks a log's name: 1 to LogNameMax bytes of [a-zA-Z0-9._/-],
// beginning with a letter or a digit. The error wraps ErrInvalid.
func ValidateLogName(name string) error {
	if name == "" || len(name) > LogNameMax {
		return fmt.Errorf("%w: log name %q: want 1 to %d bytes", ErrInvalid, name, LogNameMax)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if alnum || i > 0 && (c == '.' || c == '_' || c == '/' || c == '-') {
			continue
		}
		return fmt.Errorf("%w: log name %q: byte %d is %q; use letters, digits and . _ / -, and begin with a letter or a digit", ErrInvalid, name, i, c)
	}
	return nil
}
