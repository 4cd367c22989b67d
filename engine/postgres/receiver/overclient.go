package receiver

import (
	"context"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// OverClient returns the log that w writes. c is asked for the log's last entry.
func OverClient(c *client.Client, w *client.Writer) Log { return clientLog{c, w} }

type clientLog struct {
	c *client.Client
	w *client.Writer
}

// Tail returns the last payload.
func (l clientLog) Tail(ctx context.Context) ([]byte, bool, error) {
	return LastPayload(ctx, l.c, l.w.Log(), 0, l.w.LastLSN())
}

// LastPayload returns the payload of the last entry of a log at or before last and behind after that counts; false when there is
// none. A transaction's last part is in its COMMIT entry; parts at the end are of a writer that died and never count.
func LastPayload(ctx context.Context, c *client.Client, log string, after, last logcore.LSN) ([]byte, bool, error) {
	for back := logcore.LSN(1); last > after; back *= 4 {
		from := last - min(back-1, last-after-1)
		var found []byte
		for batch, err := range c.Read(ctx, log, client.ReadOptions{From: from, To: last}) {
			if err != nil {
				return nil, false, err
			}
			for _, e := range batch.Entries {
				if e.Kind == logcore.KindData || e.Kind == logcore.KindCommit {
					found = e.Payload
				}
			}
		}
		if found != nil {
			return found, true, nil
		}
		if from == after+1 {
			break
		}
	}
	return nil, false, nil
}

func (l clientLog) Submit(ctx context.Context, parts [][]byte, position []byte) Pending {
	return pending{l.w.Submit(ctx, logcore.TxID{}, parts, position)}
}

// AdvisedPause implements Adviser.
func (l clientLog) AdvisedPause() time.Duration { return l.w.AdvisedPause() }

func (l clientLog) PartBytesMax() int { return l.w.EntryBytesMax() }

type pending struct{ *client.Future }

func (p pending) Err() error {
	_, _, err := p.Poll()
	return err
}
