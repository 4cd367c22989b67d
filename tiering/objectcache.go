package tiering

import (
	"strings"

	"github.com/logcore/logcore/tiering/erasure"
)

// ObjectCache keeps objects that were read, so that who is interrupted need not fetch them
// again. What it holds is sealed, and checked against the manifest before it is used: it
// may lose, truncate or damage what it likes. It may be called by many goroutines.
type ObjectCache interface {
	// Load returns the object of that name; nil when there is none.
	Load(name string) []byte
	// Store keeps an object, if it can. The slice is not its own.
	Store(name string, object []byte)
}

// cacheName names an object in a cache: it tells the cluster, the shard, and what it is.
func (o *object) cacheName() string {
	name, _, _ := strings.Cut(o.name().key(o.Cluster, o.Shard, 0), ".")
	return strings.ReplaceAll(name, "/", "_")
}

// cached returns an object from the cache, if it is there and whole.
func (r *Reader) cached(o *object) []byte {
	if r.cache == nil {
		return nil
	}
	object := r.cache.Load(o.cacheName())
	if object == nil || int64(len(object)) != o.Length || erasure.DigestOf(o.Meta, object) != o.Digest {
		return nil
	}
	r.stats.cachedObjects.Add(1)
	r.stats.cachedBytes.Add(int64(len(object)))
	return object
}
