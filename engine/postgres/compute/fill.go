package compute

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/wal"
)

const (
	fillWorkers   = 4
	fillBatch     = 256 // pages in one request
	versionName   = "PG_VERSION"
	versionOfFile = "15\n"
)

// filled says what fill wrote.
type filled struct {
	base       pages.Base
	checkpoint pages.Checkpoint
	history    []byte // of the log's timeline
	pages      int64
}

// fill writes into dir what the store has of the data directory as of an LSN: what the base backup and all records up to there lead to. Its pg_control
// counts what the last Checkpoint counts.
func fill(ctx context.Context, dir string, s Store, at logcore.LSN) (f filled, err error) {
	b, err := s.Object(ctx, pages.BaseKey, at)
	if err == nil && b == nil {
		err = ErrNoBase
	}
	if err != nil {
		return f, err
	}
	if f.base, err = pages.ParseBase(b); err != nil {
		return f, err
	}
	w := &filler{dir: dir, store: s, at: at, keys: pages.KeysOf(f.base.Start)}
	if err := w.files(ctx); err != nil {
		return f, err
	}
	if err := w.control(ctx, &f); err != nil {
		return f, err
	}
	w.sums = f.checkpoint.Settings.Checksums
	if f.history, err = s.Object(ctx, w.keys.History(), at); err != nil {
		return f, err
	}
	f.pages, err = w.spaces(ctx)
	return f, err
}

type filler struct {
	dir   string
	store Store
	at    logcore.LSN
	keys  pages.Keys
	sums  bool
}

// files writes what is no page, and makes the directories of tablespaces.
func (w *filler) files(ctx context.Context) error {
	for o, err := range w.store.Objects(ctx, w.keys.Files(), w.at) {
		if err != nil {
			return err
		}
		head, err := pages.ParseFileHead(o.Data)
		if err != nil {
			return err
		}
		if !filepath.IsLocal(head.Path) {
			return fmt.Errorf("compute: %w: a file %q", logcore.ErrCorrupt, head.Path)
		}
		if err := w.file(ctx, head); err != nil {
			return err
		}
	}
	for o, err := range w.store.Objects(ctx, w.keys.Tablespaces(), w.at) {
		if err != nil {
			return err
		}
		dir := filepath.Join("pg_tblspc", strings.TrimPrefix(o.Key, w.keys.Tablespaces()), wal.TablespaceDirectory)
		if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (w *filler) file(ctx context.Context, head pages.FileHead) error {
	f, err := w.create(head.Path)
	if err != nil {
		return err
	}
	for n := range head.Parts {
		b, err := w.store.Object(ctx, w.keys.Part(head.Path, n), w.at)
		if err == nil && b == nil {
			err = fmt.Errorf("compute: %w: part %d of the file %q is missing", logcore.ErrCorrupt, n, head.Path)
		}
		if err == nil {
			_, err = f.Write(b)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// create opens a file of the data directory for writing, and makes it and its directory when they aren't there.
func (w *filler) create(path string) (*os.File, error) {
	full := filepath.Join(w.dir, filepath.FromSlash(path))
	f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE, 0o600)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(full, os.O_WRONLY|os.O_CREATE, 0o600)
}

// control brings pg_control forward.
func (w *filler) control(ctx context.Context, f *filled) error {
	path := filepath.Join(w.dir, filepath.FromSlash(effect.ControlPath))
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	control, err := effect.ParseControl(b)
	if err != nil {
		return err
	}
	parameters, err := w.store.Object(ctx, w.keys.Parameters(), w.at)
	if err != nil {
		return err
	}
	if len(parameters) == effect.ParametersBytes {
		control.SetParameters(parameters)
	}
	counters, err := w.store.Object(ctx, w.keys.Counters(), w.at)
	if err != nil {
		return err
	}
	if f.checkpoint, err = pages.ParseCheckpoint(counters); err != nil {
		return err
	}
	control.SetCounters(f.checkpoint.Counters)
	return os.WriteFile(path, control.File(), 0o600)
}

// run is pages of a space that one worker writes.
type run struct {
	place    pages.Place
	space    SpaceInfo
	first, n uint32
}

// spaces writes all pages, several batches at once.
func (w *filler) spaces(ctx context.Context) (written int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan run, fillWorkers)
	var done sync.WaitGroup
	for range fillWorkers {
		done.Go(func() {
			for r := range work {
				if err := w.run(ctx, r); err != nil {
					cancel(err)
				}
			}
		})
	}
	err = w.list(ctx, func(r run) error {
		written += int64(r.n)
		select {
		case work <- r:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(work)
	done.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return written, err
}

// list gives all pages of all spaces, and makes the files.
func (w *filler) list(ctx context.Context, each func(run) error) error {
	for s, err := range w.store.Spaces(ctx, w.at) {
		if err != nil {
			return err
		}
		place, ok := pages.PlaceOf(s.Space)
		if !ok {
			return fmt.Errorf("compute: %w: a space %v", logcore.ErrCorrupt, s.Space)
		}
		if place.Kind == pages.PlaceMap && place.Database.Tablespace != wal.TablespaceGlobal {
			err = w.database(place.Database)
		}
		if err == nil {
			err = w.size(place, s)
		}
		if err != nil {
			return err
		}
		for first := uint32(0); first < s.Pages; first += fillBatch {
			if err := each(run{place, s, first, min(fillBatch, s.Pages-first)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *filler) database(d effect.Database) error {
	dir := filepath.Join(w.dir, wal.DatabasePath(d.Tablespace, d.OID))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, versionName), []byte(versionOfFile), 0o600)
}

// size makes the files of a space, as long as they have to be.
func (w *filler) size(p pages.Place, s SpaceInfo) error {
	for first := uint32(0); first == 0 || first < s.Pages; first += wal.FilePages {
		path, _ := p.Path(first)
		f, err := w.create(path)
		if err != nil {
			return err
		}
		n := min(s.Pages-first, wal.FilePages)
		if err := errors.Join(f.Truncate(int64(n)*int64(s.PageSize)), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// run writes the pages of one batch, which lie in one file.
func (w *filler) run(ctx context.Context, r run) error {
	got, err := w.store.Pages(ctx, r.space.Space, r.first, r.n, w.at)
	if err != nil {
		return err
	}
	b := make([]byte, 0, int(r.n)*int(r.space.PageSize))
	for i, p := range got {
		if len(p) == 0 {
			p = make([]byte, r.space.PageSize)
		}
		if len(p) != int(r.space.PageSize) {
			return fmt.Errorf("compute: %w: page %d of space %v has %d bytes", logcore.ErrCorrupt, int(r.first)+i, r.space.Space, len(p))
		}
		if w.sums && r.place.Kind == pages.PlaceRelation && !page.Page(p).IsNew() {
			page.Page(p).SetChecksum(page.Page(p).ComputeChecksum(r.first + uint32(i)))
		}
		b = append(b, p...)
	}
	path, offset := r.place.Path(r.first)
	f, err := w.create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, offset)
	return errors.Join(err, f.Close())
}
