package tieringbench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

// sqliteLog returns the frames of the log that the SQLite demo leaves behind: a load, then
// thousands of small transactions, as page images and page deltas.
func (r *run) sqliteLog(ctx context.Context) ([]byte, error) {
	if r.log != nil {
		return r.log, nil
	}
	dir := filepath.Join(r.Dir, "demo")
	cmd := exec.CommandContext(ctx, r.o.Logcore, "demo", "--dir", dir, "--transactions", "2000")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, said.Bytes())
	}
	defer os.RemoveAll(dir)
	shards, err := filepath.Glob(filepath.Join(dir, "*", "logsvc", "shard-0"))
	if err != nil || len(shards) != 1 {
		return nil, fmt.Errorf("the demo left %d hot logs in %s: %w", len(shards), dir, err)
	}
	log, _, err := hotlog.Open(ctx, hotlog.Options{Dir: shards[0], SegmentBytes: 16 << 20, LogOf: catalog.LogOf, Logger: r.o.Logger})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	for _, seg := range log.Segments() {
		if seg.Last < seg.First {
			continue
		}
		span, err := log.Span(seg.First, seg.Last)
		if err != nil {
			return nil, err
		}
		r.log = append(r.log, span.Frames...)
	}
	if len(r.log) < 8<<20 {
		return nil, fmt.Errorf("the demo's log has %d bytes: too few to measure with", len(r.log))
	}
	return r.log, nil
}
