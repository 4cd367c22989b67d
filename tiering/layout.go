package tiering

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
)

// The keys of everything in a bucket are built and read here and nowhere else:
//
//	lc1-CLUSTER/sSHARD/claim/EPOCH
//	lc1-CLUSTER/sSHARD/manifest/NUMBER-EPOCH-c|r
//	lc1-CLUSTER/sSHARD/fragment/SEGMENT/FIRST-LAST-t|s-EPOCH-DIGEST.INDEX
//
// Numbers are hexadecimal with leading zeros, so that keys sort as they do. Keys
// carry the epoch and the digest: no two different objects ever want the same key.
const rootPrefix = "lc1-"

func clusterPrefix(cluster [16]byte) string { return rootPrefix + hex.EncodeToString(cluster[:]) + "/" }

func shardPrefix(cluster [16]byte, shard logcore.ShardID) string {
	return fmt.Sprintf("%ss%08x/", clusterPrefix(cluster), uint32(shard))
}

func claimPrefix(c [16]byte, s logcore.ShardID) string    { return shardPrefix(c, s) + "claim/" }
func recordPrefix(c [16]byte, s logcore.ShardID) string   { return shardPrefix(c, s) + "manifest/" }
func fragmentPrefix(c [16]byte, s logcore.ShardID) string { return shardPrefix(c, s) + "fragment/" }

func claimKey(c [16]byte, s logcore.ShardID, epoch uint64) string {
	return fmt.Sprintf("%s%016x", claimPrefix(c, s), epoch)
}

// recordName is the part of a record's key after the prefix.
type recordName struct {
	number, epoch uint64
	rollup        bool
}

func (n recordName) key(c [16]byte, s logcore.ShardID) string {
	kind := "c"
	if n.rollup {
		kind = "r"
	}
	return fmt.Sprintf("%s%016x-%016x-%s", recordPrefix(c, s), n.number, n.epoch, kind)
}

func parseRecordKey(c [16]byte, s logcore.ShardID, key string) (n recordName, ok bool) {
	rest, found := strings.CutPrefix(key, recordPrefix(c, s))
	f := strings.Split(rest, "-")
	if !found || len(f) != 3 {
		return n, false
	}
	n.number, _ = strconv.ParseUint(f[0], 16, 64)
	n.epoch, _ = strconv.ParseUint(f[1], 16, 64)
	n.rollup = f[2] == "r"
	return n, n.key(c, s) == key
}

// objectName identifies a stored object: what the keys of its fragments are made of.
type objectName struct {
	segment, first, last logcore.LSN
	kind                 Kind
	epoch                uint64
	digest               [8]byte // the first bytes of the object's SHA-256
}

func (n objectName) key(c [16]byte, s logcore.ShardID, index int) string {
	kind := "t"
	if n.kind == KindSealed {
		kind = "s"
	}
	return fmt.Sprintf("%s%016x/%016x-%016x-%s-%016x-%x.%02d", fragmentPrefix(c, s),
		uint64(n.segment), uint64(n.first), uint64(n.last), kind, n.epoch, n.digest, index)
}

func parseFragmentKey(c [16]byte, s logcore.ShardID, key string) (n objectName, index int, ok bool) {
	rest, found := strings.CutPrefix(key, fragmentPrefix(c, s))
	segment, rest, slash := strings.Cut(rest, "/")
	rest, idx, dot := strings.Cut(rest, ".")
	f := strings.Split(rest, "-")
	if !found || !slash || !dot || len(f) != 5 {
		return n, 0, false
	}
	n.segment, n.first, n.last = hexLSN(segment), hexLSN(f[0]), hexLSN(f[1])
	n.kind = KindTail
	if f[2] == "s" {
		n.kind = KindSealed
	}
	n.epoch, _ = strconv.ParseUint(f[3], 16, 64)
	if d, err := hex.DecodeString(f[4]); err == nil && len(d) == len(n.digest) {
		n.digest = [8]byte(d)
	}
	index, _ = strconv.Atoi(idx)
	return n, index, n.key(c, s, index) == key // whatever failed to parse fails here
}

func hexLSN(s string) logcore.LSN {
	n, _ := strconv.ParseUint(s, 16, 64)
	return logcore.LSN(n)
}

// parseLocation reads the cluster and the shard from the front of a key.
func parseLocation(key string) (l Location, ok bool) {
	rest, found := strings.CutPrefix(key, rootPrefix)
	cluster, rest, slash := strings.Cut(rest, "/")
	raw, err := hex.DecodeString(cluster)
	if !found || !slash || err != nil || len(raw) != len(l.Cluster) {
		return l, false
	}
	l.Cluster = [16]byte(raw)
	shard, _, slash := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(strings.TrimPrefix(shard, "s"), 16, 32)
	l.Shard = logcore.ShardID(n)
	return l, slash && err == nil && strings.HasPrefix(key, shardPrefix(l.Cluster, l.Shard))
}

// ClusterPrefix is what every key of a cluster's archive begins with.
func ClusterPrefix(cluster [16]byte) string { return clusterPrefix(cluster) }
