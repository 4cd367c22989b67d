package pageserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/logcore/logcore"
)

// Inspector looks into the store of a page server that is stopped, without changing
// it: for tools and measurements that need what is below a page.
type Inspector struct {
	db    *pebble.DB
	cache *pebble.Cache
}

// Inspect opens the store in a page server's directory for reading, with a cache of
// blocks of its own. Errors are Pebble's, or wrap logcore.ErrUnsupportedVersion.
func Inspect(dir string, cacheBytes int64) (*Inspector, error) {
	cache := pebble.NewCache(cacheBytes)
	db, err := pebble.Open(filepath.Join(dir, storeDir), &pebble.Options{Comparer: comparer, FormatMajorVersion: pebble.FormatTableFormatV6,
		ReadOnly: true, Cache: cache, Filters: map[string]pebble.FilterPolicy{bloom.FilterPolicy(10).Name(): bloom.FilterPolicy(10)}, Logger: pebbleLogger{slog.New(slog.DiscardHandler)}})
	if err != nil {
		cache.Unref()
		return nil, fmt.Errorf("pageserver: inspect %s: %w", dir, err)
	}
	return &Inspector{db, cache}, nil
}

// Close closes the store.
func (i *Inspector) Close() error {
	err := i.db.Close()
	i.cache.Unref()
	return err
}

// Each visits every key and value, in the order of the keys, with the LSN that the key
// names, 0 when it names none. The slices are valid until visit returns.
func (i *Inspector) Each(visit func(lsn logcore.LSN, key, value []byte) error) error {
	it, err := i.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := visit(lsnOfKey(it.Key()), it.Key(), value); err != nil {
			return err
		}
	}
	return it.Error()
}

// EachChange is Each with every change of a page, and every commit, under a key of its own,
// as if it had been written alone.
func (i *Inspector) EachChange(visit func(lsn logcore.LSN, key, value []byte) error) error {
	return i.Each(func(lsn logcore.LSN, key, value []byte) error {
		switch {
		case key[0] == tagCommit:
			var err error
			failed := decodeCommits(key, value, func(c commit) bool {
				k := append(bytes.Clone(key[:logPrefixBytes]), binary.BigEndian.AppendUint64(nil, uint64(c.lsn))...)
				err = visit(c.lsn, k, seal(k, appendTime(nil, c.time)))
				return err == nil
			})
			return errors.Join(failed, err)
		case key[0] == tagVersion && len(value) > 0 && versionKind(value[0]) == kindRun:
			return eachChangeOf(key, value, visit)
		}
		return visit(lsn, key, value)
	})
}

func eachChangeOf(key, sealed []byte, visit func(lsn logcore.LSN, key, value []byte) error) error {
	h, body, err := decodeVersion(key, sealed)
	if err != nil {
		return err
	}
	h.kind = kindRedo
	head := appendVersionHeader(nil, h)
	head, body = append(head, body[:h.imageBytes()]...), body[h.imageBytes():]
	for at := decodePos(key[versionPrefixBytes:]); len(body) > 0; {
		var steps []byte
		at, steps, body, _ = nextChange(body, at)
		k := appendPos(bytes.Clone(key[:versionPrefixBytes]), at)
		if err := visit(at.lsn, k, seal(k, append(bytes.Clone(head), steps...))); err != nil {
			return err
		}
		h.flags, h.base = 0, at
		head = appendVersionHeader(nil, h)
	}
	return nil
}

// Newest returns the key of the newest version of every page in the store.
func (i *Inspector) Newest() ([][]byte, error) {
	var keys [][]byte
	var last []byte
	err := i.Each(func(_ logcore.LSN, key, _ []byte) error {
		if key[0] != tagVersion || len(key) <= versionPrefixBytes || bytes.Equal(key[:versionPrefixBytes], last) {
			return nil
		}
		k := bytes.Clone(key)
		keys, last = append(keys, k), k[:versionPrefixBytes]
		return nil
	})
	return keys, err
}

// Seek looks one key up as a read of a page does, with an iterator of its own, and
// returns the length of the value.
func (i *Inspector) Seek(key []byte) (int, error) {
	it, err := i.db.NewIter(nil)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.SeekPrefixGE(key) {
		return 0, it.Error()
	}
	value, err := it.ValueAndErr()
	return len(value), err
}

// lsnOfKey returns the LSN at which what a key stands for became visible, 0 for what
// is no event of a log.
func lsnOfKey(key []byte) logcore.LSN {
	switch {
	case len(key) < 1+8+8:
		return 0
	case key[0] == tagCommit:
		return logcore.LSN(binary.BigEndian.Uint64(key[len(key)-8:]))
	case len(key) >= 1+8+spaceBytes+posBytes && (key[0] == tagVersion || key[0] == tagSize || key[0] == tagCut):
		return decodePos(key[len(key)-posBytes:]).lsn
	}
	return 0
}
