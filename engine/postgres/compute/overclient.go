package compute

import (
	"context"
	"iter"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// Entries reads a log from its beginning to an LSN, 0 for its end now.
func Entries(ctx context.Context, c *client.Client, log string, to logcore.LSN) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for batch, err := range c.Read(ctx, log, client.ReadOptions{To: to}) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range batch.Entries {
				if !yield(Entry{e.LSN, e.Kind, e.Payload}, nil) {
					return
				}
			}
		}
	}
}
