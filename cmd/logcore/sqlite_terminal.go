package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"
)

// interactive talks to a person on a terminal; an error is shown and the session goes
// on. Ctrl-C ends a statement that runs or drops what is typed, never the session.
func (s *shell) interactive(ctx context.Context, in *os.File) error {
	fmt.Fprintf(s.app.out, "%s\nEnd statements with a semicolon; .help for help, Ctrl-D to leave.\n", s.banner)
	// From here on Ctrl-C is this shell's; other signals still end ctx.
	signal.Reset(os.Interrupt)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	lines := newLineReader(in, s.app.out, interrupts)
	var pending strings.Builder
	for ctx.Err() == nil {
		prompt := "logcore> "
		if pending.Len() > 0 {
			prompt = "    ...> "
		}
		line, err := lines.read(prompt)
		switch {
		case errors.Is(err, errLineDropped):
			pending.Reset()
			fmt.Fprintln(s.app.out, "^C")
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if pending.Len() == 0 {
			quit, done := s.notSQL(ctx, line)
			if quit {
				return nil
			}
			if done {
				continue
			}
		}
		pending.WriteString(line + "\n")
		if completeSQL(pending.String()) {
			s.complain(s.execInterruptibly(ctx, interrupts, pending.String()))
			pending.Reset()
		}
	}
	return ctx.Err()
}

// notSQL runs a line that is a command of the shell, or one that people bring along from
// other shells. done reports whether it was one.
func (s *shell) notSQL(ctx context.Context, line string) (quit, done bool) {
	word := strings.ToLower(strings.TrimRight(strings.TrimSpace(line), "; "))
	switch {
	case word == "exit" || word == "quit":
		return true, true
	case word == "help":
		line = ".help"
	case strings.HasPrefix(word, `\`):
		s.complain(fmt.Errorf("unknown command %s: .tables and .schema show what there is, .help lists the commands", word))
		return false, true
	}
	quit, done, err := s.dot(ctx, s.app.out, line)
	s.complain(err)
	return quit, done
}

// execInterruptibly is exec for a person: Ctrl-C ends the statement. It says when an
// error has ended the transaction around it as well.
func (s *shell) execInterruptibly(ctx context.Context, interrupts <-chan os.Signal, sql string) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-interrupts:
			cancel()
		case <-ctx.Done():
		}
	}()
	open := !s.conn.GetAutocommit()
	err := s.exec(ctx, s.app.out, sql)
	cancel()
	<-done
	if err != nil && open && s.conn.GetAutocommit() {
		err = fmt.Errorf("%w (the open transaction was rolled back)", err)
	}
	return err
}

// errLineDropped: Ctrl-C while a line was edited.
var errLineDropped = errors.New("line dropped")

// lineReader reads lines from a terminal.
type lineReader struct {
	in      *os.File
	out     io.Writer
	tty     *term.Terminal
	dropped bool // the last bytes read hold a Ctrl-C

	interrupts <-chan os.Signal
}

func newLineReader(in *os.File, out io.Writer, interrupts <-chan os.Signal) *lineReader {
	r := &lineReader{in: in, out: out, interrupts: interrupts}
	r.tty = term.NewTerminal(r, "")
	return r
}

// Read and Write are the terminal's ends for term.Terminal.
func (r *lineReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.dropped = bytes.IndexByte(p[:n], 3) >= 0
	return n, err
}

func (r *lineReader) Write(p []byte) (int, error) { return r.out.Write(p) }

// read holds the terminal in raw mode only while a line is edited, so that Ctrl-C
// interrupts a statement that runs.
func (r *lineReader) read(prompt string) (string, error) {
	state, err := term.MakeRaw(int(r.in.Fd()))
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	defer term.Restore(int(r.in.Fd()), state)
	// In raw mode Ctrl-C is a byte: a signal that is here by now came too late for the last
	// statement, and must not end the next one.
	select {
	case <-r.interrupts:
	default:
	}
	r.tty.SetPrompt(prompt)
	line, err := r.tty.ReadLine()
	if errors.Is(err, io.EOF) && r.dropped {
		// The terminal has no way to drop a line: a new one begins without it.
		history := r.tty.History
		r.tty = term.NewTerminal(r, "")
		r.tty.History, r.dropped = history, false
		return "", errLineDropped
	}
	return line, err
}
