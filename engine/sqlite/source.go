package sqlite

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// clientSource is the log as the LogCore service gives it.
type clientSource struct {
	c      *client.Client
	log    string
	writer string
	// id is the log's, since it was last asked where it ends: pages of another one that had its name are none of it.
	id *atomic.Uint64
}

// NewSource returns a log of the service that c is connected to. writer tells people
// who holds the log when it is open for writing, as host and process.
func NewSource(c *client.Client, log, writer string) Source {
	return clientSource{c, log, writer, new(atomic.Uint64)}
}

func (s clientSource) OpenWriter(ctx context.Context, takeover bool) (Writer, error) {
	w, err := s.c.OpenWriter(ctx, s.log, client.WriterOptions{Name: s.writer, Takeover: takeover, Create: true, PayloadFormat: "pages"})
	if err != nil {
		return nil, err
	}
	// Asked for after the epoch was granted: nobody else moves it any more.
	end, err := s.End(ctx)
	if err != nil {
		w.Close(ctx)
		return nil, err
	}
	return clientWriter{w, max(end.LSN, w.LastLSN())}, nil
}

func (s clientSource) End(ctx context.Context) (End, error) {
	info, err := s.c.Info(ctx, s.log)
	if err != nil {
		return End{}, err
	}
	s.id.Store(uint64(info.ID))
	return End{LSN: max(info.LastLSN, info.BranchLSN), Committed: info.Committed, Epoch: info.Epoch, Incarnation: info.Incarnation}, nil
}

func (s clientSource) Size(ctx context.Context, lsn logcore.LSN) (Size, error) {
	size, err := s.c.SpaceSize(ctx, s.log, Space, client.ReadAt{LSN: lsn, Log: logcore.LogID(s.id.Load()), Timeout: patience(ctx)})
	if err != nil {
		return Size{}, err
	}
	return Size{LSN: size.LSN, LastLSN: size.LastLSN, Incarnation: size.Incarnation, Pages: size.Pages, PageSize: size.PageSize}, nil
}

func (s clientSource) Pages(ctx context.Context, pages []uint32, lsn, unchangedSince logcore.LSN) ([][]byte, uint64, error) {
	set, err := s.c.GetPages(ctx, s.log, Space, pages, client.ReadAt{LSN: lsn, NotModifiedSince: unchangedSince, Log: logcore.LogID(s.id.Load()), Timeout: patience(ctx)})
	if err != nil {
		return nil, 0, err
	}
	out := make([][]byte, len(set.Pages))
	for i, p := range set.Pages {
		out[i] = p.Data
	}
	return out, set.Incarnation, nil
}

// patience is how long the page server may wait for an LSN: a little less than the
// caller does, so that it is its answer that arrives, with the lag.
func patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0 // its default
	}
	return max(time.Until(deadline)*9/10, time.Millisecond)
}

// clientWriter is package client's writer in this package's words.
type clientWriter struct {
	*client.Writer
	base logcore.LSN
}

func (w clientWriter) LastLSN() logcore.LSN { return w.base }

func (w clientWriter) AppendTx(ctx context.Context, tx logcore.TxID, parts [][]byte, position []byte) (logcore.LSN, logcore.HLC, error) {
	a, err := w.Writer.AppendTx(ctx, tx, parts, position)
	return a.LSN, a.Time, err
}
