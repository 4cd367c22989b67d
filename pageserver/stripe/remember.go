package stripe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/stripemap"
)

// A page server keeps the map that the log service told it last, so that one that is started
// while the log service is down can say who has what. It is served as remembered: clients
// take it only when they know none, or an older one of the same incarnation. What is behind it
// is safe whatever became of the map: pages are of the incarnation that the answer names, the
// newest are refused while nobody confirms them, and no checkpoint is written or removed
// before the log service has said that this page server is still in the map.

// loadMap reads the map that was known last; a damaged one counts for nothing.
func (h *Host) loadMap() (stripemap.Map, error) {
	f, err := os.Open(filepath.Join(h.opts.Dir, mapFile))
	if errors.Is(err, os.ErrNotExist) {
		return stripemap.Map{}, nil
	}
	if err != nil {
		return stripemap.Map{}, fmt.Errorf("stripe: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, mapBytesMax+1))
	if err != nil {
		return stripemap.Map{}, fmt.Errorf("stripe: %w", err)
	}
	m, err := decodeMap(b)
	if errors.Is(err, logcore.ErrCorrupt) {
		h.log.Error("stripe: damage detected: the map of stripes that was known last is of no use; the log service is waited for", "dir", h.opts.Dir, "err", err)
		return stripemap.Map{}, nil
	}
	return m, err
}

// keepMap makes a map durable when it is not the one that was kept last. That it can't be,
// as on a full disk, is no reason not to follow it.
func (h *Host) keepMap(m stripemap.Map) {
	if len(m.Servers) == 0 || h.keptMap && !m.Newer(h.Map()) {
		return
	}
	if err := durable.WriteFile(filepath.Join(h.opts.Dir, mapFile), encodeMap(m), 0o644); err != nil {
		h.keptMap = false
		h.log.Warn("stripe: the map of stripes can't be kept; tried again", "dir", h.opts.Dir, "err", err)
		return
	}
	h.keptMap = true
}

// standing reports whether the log service has said in this process that the page server is
// in the map: until it has, others may have what it has, and its checkpoints.
func (h *Host) standing() bool {
	v := h.view.Load()
	_, known := v.m.Server(v.id)
	return !v.remembered && known
}
