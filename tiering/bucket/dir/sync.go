package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// syncedDirs remembers directories that are durable together with all their parents
// up to the root, so that the many puts into one directory sync only that.
type syncedDirs struct {
	mu    sync.Mutex
	known map[string]bool // guarded by mu; at most syncedDirsMax
}

// syncedDirsMax bounds the memory; past it everything is forgotten and synced again.
const syncedDirsMax = 4096

func (s *syncedDirs) has(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[dir]
}

func (s *syncedDirs) add(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= syncedDirsMax {
		s.known = make(map[string]bool)
	}
	s.known[dir] = true
}

func (s *syncedDirs) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = nil
}

// makeParents makes the directories of key below the root, never the root itself, and
// makes them durable. A directory that exists may be another writer's, not yet synced,
// so it counts as durable only when this bucket has synced its parent.
func (b *Bucket) makeParents(key string) error {
	dir := b.root
	segments := strings.Split(key, "/")
	for _, segment := range segments[:len(segments)-1] {
		parent := dir
		dir = filepath.Join(dir, segment)
		if b.synced.has(dir) {
			continue
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := b.syncDirOrPoison(parent); err != nil {
			return err
		}
		b.synced.add(dir)
	}
	return nil
}

// syncParents syncs dir and every parent up to the root that is not known to be durable.
func (b *Bucket) syncParents(dir string) error {
	if err := b.syncDirOrPoison(dir); err != nil {
		return err
	}
	for ; dir != b.root && !b.synced.has(dir); dir = filepath.Dir(dir) {
		if err := b.syncDirOrPoison(filepath.Dir(dir)); err != nil {
			return err
		}
		b.synced.add(dir)
	}
	return nil
}

// syncDirOrPoison makes the names in dir durable. When that fails the bucket takes no
// more writes.
func (b *Bucket) syncDirOrPoison(dir string) error {
	err := syncDir(dir, b.syncFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.poison.CompareAndSwap(nil, poisoned{err})
	}
	return err
}

func syncDir(dir string, sync func(*os.File) error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := sync(f); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
