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
const rootPrefix = "lcp1-"

// objectDigestBytes is how much of the digest is in a table's key.
const objectDigestBytes = 16

func storePrefix(cluster [16]byte, store string) string {
	return rootPrefix + hex.EncodeToString(cluster[:]) + "/" + store + "/"
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
	return fmt.Sprintf("%s%016x-%x", r.tablePrefix(), t.Epoch, t.Object[:objectDigestBytes])
}

func (r *Repository) parseTableKey(key string) (epoch uint64, ok bool) {
	e, digest, found := strings.Cut(strings.TrimPrefix(key, r.tablePrefix()), "-")
	epoch, err := strconv.ParseUint(e, 16, 64)
	raw, hexErr := hex.DecodeString(digest)
	return epoch, found && err == nil && hexErr == nil && len(raw) == objectDigestBytes &&
		key == fmt.Sprintf("%s%016x-%x", r.tablePrefix(), epoch, raw)
}
