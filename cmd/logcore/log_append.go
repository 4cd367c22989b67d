package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

// appendBytesMax bounds what a single entry reads from a file; the service's own
// limit is lower and refuses with a message of its own.
const appendBytesMax = 256 << 20

type appendedJSON struct {
	LSN  logcore.LSN `json:"lsn"`
	Time string      `json:"time"`
}

func (a *app) logAppendCommand() *cobra.Command {
	var data, file string
	var lines, takeover bool
	cmd := &cobra.Command{
		Use:   "append LOG",
		Short: "Append entries to a log, which is created when it does not exist",
		Long:  "Append an entry to a log, which is created when it does not exist: the text of --data, the content of --file, or standard input; with --lines one entry for each line of it.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("data") && file != "" {
				return exit.Usagef("--data and --file: give one of them")
			}
			in, name, err := a.appendSource(cmd.Flags().Changed("data"), data, file)
			if err != nil {
				return err
			}
			defer in.Close()
			return a.appendAll(cmd.Context(), args[0], takeover, entriesOf(in, name, lines))
		},
	}
	cmd.Flags().StringVarP(&data, "data", "d", "", "the entry's payload as text")
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with the payload")
	cmd.Flags().BoolVar(&lines, "lines", false, "one entry for each line")
	cmd.Flags().BoolVar(&takeover, "takeover", false, "fence the log's current writer even when it is alive")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) appendSource(isText bool, text, file string) (io.ReadCloser, string, error) {
	if isText {
		return io.NopCloser(&textReader{rest: text}), "--data", nil
	}
	if file == "" {
		return io.NopCloser(a.in), "standard input", nil
	}
	f, err := os.Open(file)
	return f, file, err
}

type textReader struct{ rest string }

func (r *textReader) Read(p []byte) (int, error) {
	if r.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// entriesOf returns a function that yields one payload after the other, io.EOF at the end.
func entriesOf(in io.Reader, name string, lines bool) func() ([]byte, error) {
	if lines {
		scan := bufio.NewScanner(in)
		scan.Buffer(make([]byte, 64<<10), appendBytesMax)
		return func() ([]byte, error) {
			if scan.Scan() {
				return append([]byte(nil), scan.Bytes()...), nil
			}
			if err := scan.Err(); err != nil {
				return nil, fmt.Errorf("reading %s: %w", name, err)
			}
			return nil, io.EOF
		}
	}
	done := false
	return func() ([]byte, error) {
		if done {
			return nil, io.EOF
		}
		done = true
		payload, err := io.ReadAll(io.LimitReader(in, appendBytesMax+1))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		if len(payload) > appendBytesMax {
			return nil, fmt.Errorf("%w: %s holds more than %s", logcore.ErrTooLarge, name, sizeText(appendBytesMax))
		}
		return payload, nil
	}
}

func (a *app) appendAll(ctx context.Context, log string, takeover bool, next func() ([]byte, error)) (err error) {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	host, _ := os.Hostname()
	w, err := c.OpenWriter(ctx, log, client.WriterOptions{Name: fmt.Sprintf("logcore log append, %s pid %d", host, os.Getpid()), Create: true, Takeover: takeover, PayloadFormat: "raw"})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		err = errors.Join(err, w.Close(ctx))
	}()
	for {
		payload, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.appendOne(ctx, w, payload); err != nil {
			return err
		}
	}
}

func (a *app) appendOne(ctx context.Context, w *client.Writer, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	at, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{payload}, nil)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.writeJSONLine(appendedJSON{LSN: at.LSN, Time: timeText(at.Time)})
	}
	_, err = fmt.Fprintln(a.out, at.LSN)
	return err
}
