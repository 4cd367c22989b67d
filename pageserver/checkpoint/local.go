package checkpoint

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/stripemap"
)

const (
	// ManifestFile is a store's own file with the manifest it last agreed with. Pebble does
	// not know it; it goes where the store goes.
	ManifestFile = "CHECKPOINT"
	newSuffix    = ".new"     // of a store's directory that is being made
	lazySuffix   = ".fetched" // of the directory of tables that are not whole yet
	sumsSuffix   = ".sums"
)

// Local is the directory of a store whose tables may be in a checkpoint instead. The
// store is opened with FS, and with nothing else.
//
// A table that the store's manifest names and the directory lacks is lazy: it can be
// opened and read at once. That is all the state there is, so that a crash at any point,
// or a table that somebody removed, needs no special care: what is missing is fetched.
// Pebble removes lazy tables that it no longer needs when it opens the store.
type Local struct {
	dir  string
	lazy string
	r    *Repository // nil: no checkpoints, nothing is lazy
	fs   *lazyFS

	mu      sync.Mutex
	known   map[string]Table // guarded by mu; of ManifestFile
	stripes stripemap.Set    // guarded by mu; of ManifestFile
	loan    Loan             // guarded by mu; what was borrowed, and of whom
	warm    []warmBlock      // guarded by mu; what Fetch begins with
}

type warmBlock struct {
	name  string
	block int
}

// OpenLocal looks at the store's directory dir, which may be missing. Only one Local may
// use it at a time. Without a repository, or with one that can't read the store's
// manifest, nothing is lazy.
func OpenLocal(ctx context.Context, dir string, r *Repository) (*Local, error) {
	l := &Local{dir: filepath.Clean(dir), lazy: filepath.Clean(dir) + lazySuffix, r: r}
	l.fs = &lazyFS{FS: vfs.Default, files: map[string]*lazyFile{}}
	if r == nil {
		return l, nil
	}
	if _, err := os.Stat(l.dir); errors.Is(err, fs.ErrNotExist) {
		return l, l.Reset()
	}
	return l, l.reload(ctx)
}

// FS is what the store has to be opened with.
func (l *Local) FS() vfs.FS { return l.fs }

// Known returns the tables of the store that its last checkpoint has, by name.
func (l *Local) Known() map[string]Table {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.known)
}

// Stripes returns those that the store's last checkpoint has in full; none when there is
// no checkpoint.
func (l *Local) Stripes() stripemap.Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stripes
}

// Borrowed returns the other store whose checkpoint this one needs, and which: the one that
// it began from, as long as it has none of its own or something of it is missing. Empty: none.
func (l *Local) Borrowed() (store string, number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loan.Store == "" {
		return "", 0
	}
	for _, t := range l.known {
		if t.store == l.loan.Store {
			return l.loan.Store, l.loan.Number
		}
	}
	for _, f := range l.fs.lazyTables() {
		if f.t.store == l.loan.Store {
			return l.loan.Store, l.loan.Number
		}
	}
	return "", 0
}

// reload reads the store's manifest and makes what is missing lazy.
func (l *Local) reload(ctx context.Context) error {
	b, err := os.ReadFile(filepath.Join(l.dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	m, err := l.r.openAny(ctx, b)
	if err == nil && m.Name != l.r.o.Name && l.r.family == nil {
		err = fmt.Errorf("%w: checkpoint: it is of store %q", logcore.ErrInvalid, m.Name)
	}
	if err != nil {
		// What is missing shows when the store is opened.
		l.r.o.Logger.Warn("checkpoint: the store's manifest is of no use; what is not local can't be fetched", "dir", l.dir, "err", err)
		l.r.countDamage(err)
		return nil
	}
	return l.adopt(m)
}

// adopt makes the tables of a manifest that are missing lazy.
func (l *Local) adopt(m *Manifest) error {
	known := map[string]Table{}
	for _, t := range m.Tables {
		known[t.Name] = t
		_, err := os.Lstat(filepath.Join(l.dir, t.Name))
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			l.fs.add(newLazyFile(l, t))
		default:
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.stripes, l.warm = known, m.Stripes, nil
	if l.loan = (Loan{}); m.Name != l.r.o.Name {
		l.loan = Loan{Store: m.Name, Number: m.Number}
	}
	for _, w := range m.Warm {
		l.warm = append(l.warm, warmBlock{m.Tables[w.Table].Name, w.Block})
	}
	l.noteMissing()
	if l.fs.count() == 0 {
		return nil
	}
	return durable.MkdirAll(l.lazy, 0o755)
}

// noteMissing sets the metric.
func (l *Local) noteMissing() { l.r.metrics.missing.Set(float64(l.fs.missing())) }

// Begin makes the store's directory, which must be missing, from a checkpoint. On return
// the store can be opened; its tables are lazy. After a crash in between, the directory
// is missing still.
func (l *Local) Begin(m *Manifest) error {
	if m.raw == nil || m.Empty() {
		return fmt.Errorf("%w: checkpoint: manifest %d holds no store", logcore.ErrInvalid, m.Number)
	}
	if err := l.Reset(); err != nil {
		return err
	}
	temp := l.dir + newSuffix
	if err := durable.MkdirAll(temp, 0o755); err != nil {
		return err
	}
	for _, s := range append(m.Small[:len(m.Small):len(m.Small)], Small{ManifestFile, m.raw}) {
		if err := writeSynced(filepath.Join(temp, s.Name), s.Data); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	if err := durable.SyncDir(temp); err != nil {
		return err
	}
	// Commit point: the store is there, as it was at the checkpoint.
	if err := os.Rename(temp, l.dir); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(l.dir)); err != nil {
		return err
	}
	return l.adopt(m)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// Agree notes that the store's content is what a manifest that was saved from it holds.
func (l *Local) Agree(m *Manifest) error {
	if err := durable.WriteFile(filepath.Join(l.dir, ManifestFile), m.raw, 0o644); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.stripes = map[string]Table{}, m.Stripes
	for _, t := range m.Tables {
		l.known[t.Name] = t
	}
	return nil
}

// Reset forgets everything that is not whole yet. The store's directory must be gone, or
// on its way out.
func (l *Local) Reset() error {
	l.fs.clear()
	l.mu.Lock()
	l.known, l.stripes, l.warm, l.loan = nil, stripemap.Set{}, nil, Loan{}
	l.mu.Unlock()
	if err := errors.Join(os.RemoveAll(l.lazy), os.RemoveAll(l.dir+newSuffix)); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if l.r != nil {
		l.noteMissing()
	}
	return nil
}

// Refetch replaces a damaged table by the checkpoint's. The store must be closed; it
// fails with ErrNone when the checkpoint does not have that very table.
func (l *Local) Refetch(name string) error {
	l.mu.Lock()
	t, ok := l.known[name]
	l.mu.Unlock()
	if !ok || l.r == nil {
		return fmt.Errorf("%w: checkpoint: table %s is in none", ErrNone, name)
	}
	l.fs.remove(filepath.Join(l.dir, name)) // damaged while it was lazy
	for _, path := range []string{filepath.Join(l.dir, name), l.partPath(name), l.partPath(name) + sumsSuffix} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	if err := errors.Join(durable.MkdirAll(l.lazy, 0o755), durable.SyncDir(l.dir)); err != nil {
		return err
	}
	l.fs.add(newLazyFile(l, t))
	l.noteMissing()
	return nil
}

// Damaged reads every table that is local and in the last checkpoint, and returns the names
// of those that are not what the checkpoint says. The store must be closed. It reads the
// whole store: it is for when something is known to be damaged and not what.
func (l *Local) Damaged(ctx context.Context) ([]string, error) {
	var names []string
	for name, t := range l.Known() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f, err := os.Open(filepath.Join(l.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil || n != t.Size || Digest(h.Sum(nil)) != t.Content {
			names = append(names, name) // what can't be read is damaged too
		}
	}
	return names, nil
}

func (l *Local) partPath(name string) string { return filepath.Join(l.lazy, name) }

// Missing is how many bytes of the store are not local yet.
func (l *Local) Missing() int64 { return l.fs.missing() }

// Close closes the files of lazy tables; what was fetched stays for the next time. The
// store must be closed.
func (l *Local) Close() error { return l.fs.close() }

// ClusterOf returns the cluster that a store's directory says it belongs to.
func ClusterOf(dir string) (cluster [16]byte, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return cluster, false
	}
	m, _, err := parseManifestHeader(b)
	if err != nil {
		return cluster, false
	}
	return m.Cluster, true
}
