package recovery

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/tiering"
)

// spoolDir, in the work directory, keeps the objects that were fetched, so that a restore
// that is killed goes on where it was.
const spoolDir = "objects"

// spool is the cache of a restore's reader: a file for every object. Its files are not
// synced: what a power cut takes is fetched again, and what it damages is found out,
// because the reader checks every object against the manifest.
type spool struct{ dir string }

var _ tiering.ObjectCache = spool{}

func openSpool(stage string, shard logcore.ShardID) (spool, error) {
	s := spool{filepath.Join(stage, spoolDir)}
	if shard != 0 {
		s.dir += fmt.Sprintf("-shard-%d", shard)
	}
	return s, durable.MkdirAll(s.dir, 0o700)
}

// Load implements tiering.ObjectCache.
func (s spool) Load(name string) []byte {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return nil
	}
	return data
}

// Store implements tiering.ObjectCache. An object that can't be kept, for want of space for
// example, is fetched again the next time: it is no error.
func (s spool) Store(name string, object []byte) {
	temp, err := os.CreateTemp(s.dir, "~*")
	if err != nil {
		return
	}
	_, err = temp.Write(object)
	if cerr := temp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp.Name(), filepath.Join(s.dir, name))
	}
	if err != nil {
		os.Remove(temp.Name()) // best effort: the work directory goes in the end
	}
}

// empty reports whether nothing was kept.
func (s spool) empty() bool {
	entries, err := os.ReadDir(s.dir)
	return err == nil && len(entries) == 0
}
