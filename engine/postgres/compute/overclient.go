package compute

import (
	"context"
	"iter"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// EntriesOf reads a log.
func EntriesOf(c *client.Client, log string) Log {
	return func(ctx context.Context, from, to logcore.LSN) iter.Seq2[Entry, error] {
		return func(yield func(Entry, error) bool) {
			for batch, err := range c.Read(ctx, log, client.ReadOptions{From: from, To: to}) {
				if err != nil {
					yield(Entry{}, err)
					return
				}
				for _, e := range batch.Entries {
					if !yield(Entry{e.LSN, e.Epoch, e.Kind, e.Tx, e.Payload}, nil) {
						return
					}
				}
			}
		}
	}
}
