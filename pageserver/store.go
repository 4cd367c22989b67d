package pageserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
)

const (
	markerFile = "FORMAT"
	storeDir   = "store"
	// asideDir keeps the last damaged store for a person to look at.
	asideDir = "store.damaged"
)

// comparer is Pebble's bytewise order with one addition: the prefix of a key ends before
// its place, so that one bloom filter entry stands for a page, a space or an object and a
// read skips the tables that know nothing of it. The name is part of the format.
var comparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "logcore.pageserver.v2"
	c.Split = keyPrefixBytes
	return &c
}()

// pebbleOptions are the store's options, each for a reason.
func (s *Server) pebbleOptions() *pebble.Options {
	opts := &pebble.Options{
		// A full disk must not end the process.
		FS:       diskFS{s.local.FS(), &s.room},
		Comparer: comparer,
		// Pinned: v6 tables carry a checksum in their footer too.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		// The log is the write-ahead log.
		DisableWAL:                  true,
		MemTableSize:                uint64(s.opts.MemTableBytes),
		MemTableStopWritesThreshold: noPebbleLimit,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       noPebbleLimit,
		LBaseMaxBytes:               64 << 20,
		// A checkpoint holds Pebble's manifest, history and all: it must stay small.
		MaxManifestFileSize: 1 << 20,
		CacheSize:           s.opts.BlockCacheBytes,
		// Two compactions on a small machine leave a core to ingest and reads.
		CompactionConcurrencyRange: func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)-1) },
		Logger:                     pebbleLogger{s.log},
		EventListener:              s.listener(),
	}
	// Pebble would put all but a key's newest version apart, for readers of the newest. A
	// chain is read as a whole: its versions stay side by side.
	opts.Experimental.SpanPolicyFunc = func([]byte) (pebble.SpanPolicy, []byte, error) {
		return pebble.SpanPolicy{DisableValueSeparationBySuffix: true}, nil, nil
	}
	for i := range opts.Levels {
		// What is flushed is compacted soon: compressing it costs ingest more than the disk
		// gains. Below, what decompresses fastest: a read pays for it with every block.
		opts.Levels[i].Compression = func() *sstable.CompressionProfile { return block.FastestCompression }
		// 10 bits a page: 1 % of the tables that lack a page are read in vain.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].FilterType = pebble.TableFilter
	}
	opts.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	return opts
}

// listener tells what Pebble does in the background.
func (s *Server) listener() *pebble.EventListener {
	return &pebble.EventListener{
		// Without this listener Pebble ends the process.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.tables.note(info.Path)
			s.damaged(&logcore.CorruptionError{Place: s.opts.Dir, Object: info.Path, Offset: -1, Reason: fmt.Sprint(info.Details)})
		},
		FlushEnd: func(info pebble.FlushInfo) { s.sayOnce(s.room.flushed(info.Err)) },
		CompactionEnd: func(info pebble.CompactionInfo) {
			s.recacher.compacted(info)
			s.sayOnce(s.room.merged(info.Err))
		},
		BackgroundError: func(err error) {
			level := slog.LevelWarn
			if s.room.failing() {
				level = slog.LevelDebug // said once, when it began
			}
			s.log.Log(context.Background(), level, "pageserver: background work of the page store failed; it is tried again", "err", err)
			s.noteStoreError(err)
		},
	}
}

// sayOnce says when background work begins to fail for want of something, and when that has ended.
func (s *Server) sayOnce(before, now error) {
	switch {
	case before == nil && now != nil:
		s.log.Error("pageserver: the page store can't be written", "err", now)
	case before != nil && now == nil:
		s.log.Info("pageserver: the page store can be written again", "dir", s.opts.Dir)
	}
}

// openStore opens the store or, when it is damaged, puts it aside and begins a new one.
func (s *Server) openStore() (*pebble.DB, error) {
	dir := filepath.Join(s.opts.Dir, storeDir)
	if err := s.checkMarker(); err != nil {
		switch {
		case errors.Is(err, errOldStore):
			s.log.Info("pageserver: the store was written by an older version: it is built again from the logs", "dir", s.opts.Dir)
		case errors.Is(err, logcore.ErrCorrupt):
			s.countDamage(err)
		default:
			return nil, err
		}
		if err := s.putAside(); err != nil {
			return nil, err
		}
	}
	if err := s.beginFromCheckpoint(); err != nil {
		return nil, err
	}
	db, err := s.openPebble(dir)
	if err == nil || !blamesStore(err) {
		return db, err
	}
	// Whatever is wrong with it: all it holds can be derived again.
	s.countDamage(&logcore.CorruptionError{Place: s.opts.Dir, Object: storeDir, Offset: -1, Reason: err.Error()})
	if err := s.replaceDamaged(); err != nil {
		return nil, err
	}
	if err := s.beginFromCheckpoint(); err != nil {
		return nil, err
	}
	return s.openPebble(dir)
}

// openPebble opens the store as it is.
func (s *Server) openPebble(dir string) (*pebble.DB, error) {
	s.room.begin()
	opts, scheduler := s.pebbleOptions(), newDeferring(&s.intake)
	opts.Experimental.CompactionScheduler = scheduler
	db, err := pebble.Open(dir, opts)
	if errors.Is(err, syscall.ENOSPC) {
		err = errors.Join(logcore.ErrDiskFull, err)
	}
	if err == nil && s.room.abandoned.Load() {
		s.closeDamaged(db)
		err = s.room.isStuck()
	}
	if err != nil {
		return nil, fmt.Errorf("pageserver: open the store in %s: %w", dir, err)
	}
	scheduler.begin()
	return db, nil
}

// blamesStore reports whether an error of opening a store says that the store is damaged, and not that
// something is lacking around it.
func blamesStore(err error) bool {
	for _, other := range []error{os.ErrPermission, logcore.ErrDiskFull, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// checkMarker reads the format marker, and writes it when the directory is new.
func (s *Server) checkMarker() error {
	path := filepath.Join(s.opts.Dir, markerFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s.writeMarker()
	}
	if err != nil {
		return fmt.Errorf("pageserver: %w", err)
	}
	if err := decodeMarker(b); err != nil || binary.LittleEndian.Uint16(b[8:]) >= markerFormatVersion {
		return err
	}
	// What is written from here on older builds don't read.
	return s.writeMarker()
}

func (s *Server) writeMarker() error {
	if err := durable.WriteFile(filepath.Join(s.opts.Dir, markerFile), encodeMarker(), 0o644); err != nil {
		return fmt.Errorf("pageserver: write the format marker: %w", err)
	}
	return nil
}

// putAside moves the store out of the way, in place of the one moved before.
func (s *Server) putAside() error {
	dir, aside := filepath.Join(s.opts.Dir, storeDir), filepath.Join(s.opts.Dir, asideDir)
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("pageserver: %w", err)
	}
	if err := os.Rename(dir, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pageserver: put the damaged store aside: %w", err)
	}
	if err := s.local.Reset(); err != nil {
		return err
	}
	return s.writeMarker()
}

// loadStates returns the states of all logs in the store.
func loadStates(db *pebble.DB) (map[logcore.LogID]stateValue, error) {
	states := map[logcore.LogID]stateValue{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{tagState}, UpperBound: []byte{tagState + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		state, err := decodeState(it.Key(), v)
		if err != nil {
			return nil, err
		}
		if len(it.Key()) != 9 {
			return nil, corruptValue(it.Key(), "key of %d bytes, want 9", len(it.Key()))
		}
		states[logcore.LogID(binary.BigEndian.Uint64(it.Key()[1:]))] = state
	}
	return states, it.Error()
}

// deleteLog removes everything of a log from the store, in one batch.
func deleteLog(db *pebble.DB, log logcore.LogID) error {
	b := db.NewBatch()
	defer b.Close()
	for _, tag := range []byte{tagState, tagVersion, tagSize, tagCut, tagCommit, tagPart, tagObject, tagDecoder, tagHistory, tagMilestone, tagSpilled} {
		lower := appendLogKey(nil, tag, log)
		if err := b.DeleteRange(lower, prefixEnd(lower), nil); err != nil {
			return err
		}
	}
	return db.Apply(b, pebble.NoSync)
}

// prefixEnd returns the smallest key above every key that begins with prefix, which
// begins with a tag.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	panic("pageserver: a prefix of 0xff bytes only")
}

// pebbleLogger turns Pebble's log into ours. Fatalf is Pebble's way to say that it
// cannot go on: it must not return.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("pageserver: the page store cannot go on: " + fmt.Sprintf(format, args...))
}
