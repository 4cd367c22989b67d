package tiering

import (
	"fmt"
	"sync"

	"github.com/logcore/logcore"
)

// errEnded: the archiver has ended; whoever steers it asks the next one.
var errEnded = fmt.Errorf("%w: the archiver has ended", logcore.ErrClosed)

// background is the goroutines that nobody waits for but the end of the archiver.
type background struct {
	mu    sync.Mutex
	ended bool // guarded by mu: nothing is started any more
	group sync.WaitGroup
}

// start runs f in a goroutine; false after the end.
func (b *background) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.group.Go(f)
	}
	return !b.ended
}

// over reports whether the end has come.
func (b *background) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// end waits for all that was started, and starts nothing any more.
func (b *background) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.group.Wait()
}
