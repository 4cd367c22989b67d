package checkpoint

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// The keys of everything in a bucket are built and read here and nowhere else:
//
//	lcp1-CLUSTER/STORE/manifest/INVERTED-NUMBER
//	lcp1-CLUSTER/STORE/table/EPOCH-DIGEST
//
// Numbers are hexadecimal with leading zeros. The inverted number is the one's
// complement, so that a listing begins with the newest manifest. A table's key holds the
// epoch of who stored it and the first half of the digest of the stored bytes: no two
// different objects ever want the same key.
//
// The stores of page servers that share pages are a family: their names are that of the
// family, the page server's number in 16 hexadecimal digits, and the store's there.
const rootPrefix = "lcp1-"

// objectDigestBytes is how much of the digest is in a table's key.
const objectDigestBytes = 16

func clusterPrefix(cluster [16]byte) string {
	return rootPrefix + hex.EncodeToString(cluster[:]) + "/"
}

func storePrefix(cluster [16]byte, store string) string { return clusterPrefix(cluster) + store + "/" }

// storeOf returns the store that a key belongs to.
func storeOf(cluster [16]byte, key string) (store string, ok bool) {
	rest, ok := strings.CutPrefix(key, clusterPrefix(cluster))
	store, _, found := strings.Cut(rest, "/")
	return store, ok && found && validName(store)
}

func memberName(family string, server uint64, number int) string {
	return fmt.Sprintf("%s.%016x.%d", family, server, number)
}

// parseMember reads the name of a family's store.
func parseMember(family, store string) (server uint64, number int, ok bool) {
	rest, found := strings.CutPrefix(store, family+".")
	id, n, cut := strings.Cut(rest, ".")
	server, err := strconv.ParseUint(id, 16, 64)
	number, nerr := strconv.Atoi(n)
	return server, number, found && cut && err == nil && nerr == nil && memberName(family, server, number) == store
}

func (r *Repository) manifestPrefix() string { return r.prefix + "manifest/" }
func (r *Repository) tablePrefix() string    { return r.prefix + "table/" }

func (r *Repository) manifestKey(number uint64) string {
	return fmt.Sprintf("%s%016x", r.manifestPrefix(), ^number)
}

func (r *Repository) parseManifestKey(key string) (number uint64, ok bool) {
	v, err := strconv.ParseUint(strings.TrimPrefix(key, r.manifestPrefix()), 16, 64)
	return ^v, err == nil && r.manifestKey(^v) == key
}

func (r *Repository) tableKey(t Table) string {
	return fmt.Sprintf("%stable/%016x-%x", storePrefix(r.o.Cluster, t.store), t.Epoch, t.Object[:objectDigestBytes])
}

func (r *Repository) parseTableKey(key string) (epoch uint64, ok bool) {
	e, digest, found := strings.Cut(strings.TrimPrefix(key, r.tablePrefix()), "-")
	epoch, err := strconv.ParseUint(e, 16, 64)
	raw, hexErr := hex.DecodeString(digest)
	return epoch, found && err == nil && hexErr == nil && len(raw) == objectDigestBytes &&
		key == fmt.Sprintf("%s%016x-%x", r.tablePrefix(), epoch, raw)
}
