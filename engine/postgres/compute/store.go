package compute

import (
	"context"
	"iter"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// SpaceInfo is a space and its length at some LSN.
type SpaceInfo struct {
	Space    engine.Space
	Pages    uint32
	PageSize uint32
}

// Object is an object at some LSN.
type Object struct {
	Key  string
	Data []byte
}

// Store is what a page server has of one log. All methods may be called by many goroutines.
type Store interface {
	// Ingested waits, at most so long, until the log is there up to an LSN, and returns how far it is.
	Ingested(ctx context.Context, lsn logcore.LSN, wait time.Duration) (logcore.LSN, error)
	// Hold keeps an LSN readable until release is called, which waits for what goes on behind it.
	Hold(ctx context.Context, at logcore.LSN) (release func(), err error)
	// Spaces lists the spaces as of an LSN.
	Spaces(ctx context.Context, at logcore.LSN) iter.Seq2[SpaceInfo, error]
	// Pages returns the pages [first, first+n) of a space as of an LSN. The caller owns them; one without content is empty.
	Pages(ctx context.Context, space engine.Space, first, n uint32, at logcore.LSN) ([][]byte, error)
	// Object returns an object as of an LSN; nil when there is none.
	Object(ctx context.Context, key string, at logcore.LSN) ([]byte, error)
	// Objects lists the objects whose keys begin with prefix, as of an LSN.
	Objects(ctx context.Context, prefix string, at logcore.LSN) iter.Seq2[Object, error]
	// Before returns the last LSN at which nothing is later than a moment, as far as clocks agree.
	Before(ctx context.Context, at time.Time) (logcore.LSN, error)
}

// Log reads a log's entries [from, to], in order; to 0 is its end now.
type Log func(ctx context.Context, from, to logcore.LSN) iter.Seq2[Entry, error]
