package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

// payloadShown is how much of a payload a table shows.
const payloadShown = 64

type entryJSON struct {
	LSN      logcore.LSN `json:"lsn"`
	Time     string      `json:"time"`
	Kind     string      `json:"kind"`
	Tx       string      `json:"tx"`
	Epoch    uint64      `json:"epoch"`
	Sequence uint64      `json:"sequence"`
	Position []byte      `json:"position,omitempty"`
	Bytes    int         `json:"bytes"`
	Payload  []byte      `json:"payload"`
}

func (a *app) logReadCommand() *cobra.Command {
	var from, to, limit uint64
	var follow bool
	cmd := &cobra.Command{
		Use:   "read LOG",
		Short: "Read the entries of a log, from the hot tier or the archive",
		Long:  "Read the entries of a log in LSN order. -o json writes one object a line with the payload in base64, -o raw the payloads alone.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to != 0 && to < from {
				return exit.Usagef("--to %d is below --from %d", to, from)
			}
			return a.readLog(cmd.Context(), args[0], client.ReadOptions{From: logcore.LSN(from), To: logcore.LSN(to), Follow: follow, Limit: limit})
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first LSN to read; 0 for the beginning")
	cmd.Flags().Uint64Var(&to, "to", 0, "last LSN to read; 0 for the end")
	cmd.Flags().Uint64Var(&limit, "limit", 0, "read at most so many entries; 0 for all")
	cmd.Flags().BoolVarP(&follow, "follow", "F", false, "wait for new entries at the end")
	a.connectFlags(cmd)
	a.outputFlag(cmd, "table", "json", "raw")
	return cmd
}

func (a *app) readLog(ctx context.Context, log string, opts client.ReadOptions) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	header := func() {
		fmt.Fprintf(a.out, "%-10s  %-24s  %-6s  %-12s  %10s  %s\n", "LSN", "TIME", "KIND", "TX", "BYTES", "PAYLOAD")
	}
	shown := a.format != "table"
	for batch, err := range c.Read(ctx, log, opts) {
		if !shown && err == nil {
			header()
			shown = true
		}
		if err != nil {
			if opts.Follow && errors.Is(err, context.Canceled) && ctx.Err() != nil {
				return nil // Ctrl-C is how a follow ends
			}
			return err
		}
		for _, e := range batch.Entries {
			if err := a.writeEntry(e); err != nil {
				return err
			}
		}
	}
	if !shown {
		header()
	}
	return nil
}

func (a *app) writeEntry(e client.LogEntry) error {
	switch a.format {
	case "json":
		return a.writeJSONLine(entryJSON{LSN: e.LSN, Time: timeText(e.Time), Kind: e.Kind.String(), Tx: e.Tx.String(), Epoch: uint64(e.Epoch),
			Sequence: e.Sequence, Position: e.Position, Bytes: len(e.Payload), Payload: e.Payload})
	case "raw":
		_, err := a.out.Write(e.Payload)
		return err
	}
	_, err := fmt.Fprintf(a.out, "%-10d  %-24s  %-6s  %-12s  %10d  %s\n", e.LSN, timeText(e.Time), e.Kind, e.Tx.String()[:12], len(e.Payload), payloadText(e.Payload))
	return err
}

// payloadText shows the beginning of a payload: as text when it is some, else in hexadecimal.
func payloadText(p []byte) string {
	more := ""
	if len(p) > payloadShown {
		p, more = p[:payloadShown], "…"
		for len(p) > payloadShown-utf8.UTFMax && !utf8.Valid(p) {
			p = p[:len(p)-1]
		}
	}
	printable := utf8.Valid(p) && strings.IndexFunc(string(p), func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
	if printable {
		return string(p) + more
	}
	return hex.EncodeToString(p[:min(len(p), payloadShown/2)]) + "…"
}
