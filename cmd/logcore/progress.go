package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const progressEvery = 200 * time.Millisecond

// progressFlag adds --progress to a command that may take long.
func (a *app) progressFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.progress, "progress", false, "show progress on stderr even when it is no terminal")
}

// isTerminal reports whether v is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// meter shows on stderr how far something is. A nil meter shows nothing. It may be
// used by many goroutines.
type meter struct {
	app      *app
	terminal bool

	mu    sync.Mutex
	shown time.Time // guarded by mu
	dirty bool      // guarded by mu: a line without its end is on the terminal
}

// newMeter returns nil when nobody asked for progress.
func (a *app) newMeter() *meter {
	terminal := isTerminal(a.err)
	if !terminal && !a.progress {
		return nil
	}
	return &meter{app: a, terminal: terminal}
}

// update shows a line, unless the last one is too recent.
func (m *meter) update(format string, args ...any) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.shown) >= progressEvery {
		m.shown = now
		m.print(fmt.Sprintf(format, args...))
	}
}

func (m *meter) print(line string) { // with mu held
	if m.terminal {
		fmt.Fprintf(m.app.err, "\r\x1b[K%s", line)
		m.dirty = true
		return
	}
	fmt.Fprintln(m.app.err, line)
}

// done takes the line off a terminal.
func (m *meter) done() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirty {
		fmt.Fprint(m.app.err, "\r\x1b[K")
		m.dirty = false
	}
}
