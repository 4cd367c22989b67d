package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	progressEvery  = 200 * time.Millisecond
	progressSlowly = 10 * time.Second
)

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
	every    time.Duration // between two lines

	mu    sync.Mutex
	shown time.Time // guarded by mu
	what  string    // guarded by mu: what the bar is of
	began time.Time // guarded by mu: when that began
	from  int64     // guarded by mu: what was done of it then
	dirty bool      // guarded by mu: a line without its end is on the terminal
}

// newMeter returns nil when nobody asked for progress.
func (a *app) newMeter() *meter {
	terminal := isTerminal(a.err)
	if !terminal && !a.progress {
		return nil
	}
	return &meter{app: a, terminal: terminal, every: progressEvery}
}

// newSlowMeter is newMeter for what may take hours: where there is no terminal and nobody
// asked, it leaves a plain line in the log now and then.
func (a *app) newSlowMeter() *meter {
	if m := a.newMeter(); m != nil {
		return m
	}
	return &meter{app: a, every: progressSlowly, shown: time.Now()}
}

// update shows a line, unless the last one is too recent.
func (m *meter) update(format string, args ...any) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.shown) >= m.every {
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

// barWidth is how many characters a full bar has.
const barWidth = 24

// bar shows how much of something is done, as a bar on a terminal and as a plain line
// elsewhere. A total of 0 is not known.
func (m *meter) bar(what string, done, total int64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if what != m.what {
		m.what, m.began, m.from = what, now, done
	}
	if now.Sub(m.shown) < m.every && (done < total || m.every == progressSlowly) {
		return
	}
	m.shown = now
	m.print(barText(what, m.terminal, done, total, m.from, now.Sub(m.began)))
}

// barText is a line of a bar: done of total bytes, since from in the time it took.
func barText(what string, drawn bool, done, total, from int64, took time.Duration) string {
	if total <= 0 {
		return what
	}
	done = min(max(done, 0), total)
	text := fmt.Sprintf("%3d %%  %s of %s", 100*done/total, mebibytes(done), mebibytes(total))
	if drawn {
		full := int(barWidth * done / total)
		text = "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "] " + text
	}
	if rate := float64(done-from) / took.Seconds(); took > time.Second && rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second)
		text += fmt.Sprintf(", %s/s, %v left", mebibytes(int64(rate)), left)
	}
	return what + " " + text
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

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
