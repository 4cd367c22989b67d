package receiver

import (
	"context"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// OverClient returns the log that w writes. c is asked for the log's last entry.
func OverClient(c *client.Client, w *client.Writer) Log { return clientLog{c, w} }

type clientLog struct {
	c *client.Client
	w *client.Writer
}

// Tail returns the last payload. A transaction's last part is in its COMMIT entry.
func (l clientLog) Tail(ctx context.Context) ([]byte, bool, error) {
	last := l.w.LastLSN()
	if last == 0 {
		return nil, false, nil
	}
	for batch, err := range l.c.Read(ctx, l.w.Log(), client.ReadOptions{From: last, To: last}) {
		if err != nil {
			return nil, false, err
		}
		for _, e := range batch.Entries {
			if e.Kind == logcore.KindData || e.Kind == logcore.KindCommit {
				return e.Payload, true, nil
			}
		}
	}
	return nil, false, logcore.ErrLogNotFound
}

func (l clientLog) Submit(ctx context.Context, parts [][]byte, position []byte) Pending {
	return pending{l.w.Submit(ctx, logcore.TxID{}, parts, position)}
}

func (l clientLog) PartBytesMax() int { return l.w.EntryBytesMax() }

type pending struct{ *client.Future }

func (p pending) Err() error {
	_, _, err := p.Poll()
	return err
}
