package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/exit"
)

type changeJSON struct {
	LSN          logcore.LSN `json:"lsn"`
	Time         string      `json:"time,omitempty"`
	Tx           string      `json:"tx,omitempty"`
	Kind         string      `json:"kind"`
	BytesChanged uint32      `json:"bytes_changed"`
	RecordBytes  uint32      `json:"record_bytes"`
}

type historyJSON struct {
	LSN          logcore.LSN  `json:"lsn"`
	CompleteFrom logcore.LSN  `json:"complete_from,omitempty"`
	Changes      []changeJSON `json:"changes"`
	// Next is the --lsn to go on with; 0 when there are no more.
	Next logcore.LSN `json:"next,omitempty"`
}

// pageFlags are those of every command about pages of a space.
type pageFlags struct {
	space, spaceHi uint64
	lsn            uint64
	at             string
}

func (f *pageFlags) add(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&f.space, "space", 0, "the page file in its log: its number, or the lower half of what the engine calls it")
	cmd.Flags().Uint64Var(&f.spaceHi, "space-hi", 0, "the upper half of what the engine calls the page file; 0 for engines that number them")
	cmd.Flags().Uint64Var(&f.lsn, "lsn", 0, "as of this LSN; 0 for the newest")
	cmd.Flags().StringVar(&f.at, "time", "", "as of the last LSN at or before this time")
}

func (f *pageFlags) of() engine.Space { return engine.Space{Hi: f.spaceHi, Lo: f.space} }

// point returns the LSN that the flags mean; that of the log's end when they mean none.
func (f *pageFlags) point(ctx context.Context, a *app, c *client.Client, log string) (logcore.LSN, error) {
	if f.lsn != 0 && f.at != "" {
		return 0, exit.Usagef("--lsn and --time: give one of them")
	}
	point, err := a.pointInTime(ctx, c, log, f.lsn, f.at)
	if err == nil && point == 0 {
		point, err = logEnd(ctx, c, log)
	}
	return point, err
}

func (a *app) pageHistoryCommand() *cobra.Command {
	var f pageFlags
	var from uint64
	var limit int
	cmd := &cobra.Command{
		Use:   "history LOG PAGE",
		Short: "Show which transactions changed a page, the last one first",
		Long:  "Show which transactions changed a page, the last one first: when, how, and how many bytes of the page differ from before. What the page server keeps as an image is shown as one, whatever the change was.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			numbers, err := pageNumbers(args[1:])
			if err != nil {
				return err
			}
			if limit < 1 || limit > 1000 {
				return exit.Usagef("--limit %d: want 1 to 1000", limit)
			}
			return a.onlineFor(cmd.Context(), a.timeout+answerSlack, func(ctx context.Context, c *client.Client) error {
				to, err := f.point(ctx, a, c, args[0])
				if err != nil {
					return err
				}
				h, err := c.PageHistory(ctx, args[0], f.of(), numbers[0], logcore.LSN(from), to, limit, a.timeout)
				if err != nil {
					return err
				}
				return a.writeHistory(h)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().Uint64Var(&from, "from-lsn", 0, "no changes before this LSN")
	cmd.Flags().IntVar(&limit, "limit", 100, "the most changes to show, up to 1000")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) writeHistory(h client.PageChanges) error {
	out := historyJSON{LSN: h.LSN, CompleteFrom: h.CompleteFrom, Next: h.Next, Changes: []changeJSON{}}
	for _, c := range h.Changes {
		j := changeJSON{LSN: c.LSN, Time: timeText(c.Time), Kind: c.Kind, BytesChanged: c.BytesChanged, RecordBytes: c.RecordBytes}
		if c.Tx != (logcore.TxID{}) {
			j.Tx = c.Tx.String()
		}
		out.Changes = append(out.Changes, j)
	}
	if a.format == "json" {
		return a.writeJSON(out)
	}
	rows := make([][]string, 0, len(out.Changes))
	for _, c := range out.Changes {
		rows = append(rows, []string{c.LSN.String(), c.Time, c.Kind, fmt.Sprint(c.BytesChanged), fmt.Sprint(c.RecordBytes), c.Tx})
	}
	if err := a.writeTable([]string{"LSN", "TIME", "KIND", "BYTES CHANGED", "RECORD BYTES", "TRANSACTION"}, rows); err != nil {
		return err
	}
	if out.Next != 0 {
		fmt.Fprintf(a.out, "there are more: go on with --lsn %d\n", out.Next)
	}
	return nil
}

type rangeJSON struct {
	Offset int    `json:"offset"`
	Before string `json:"before"`
	After  string `json:"after"`
}

type diffJSON struct {
	Page   uint32      `json:"page"`
	From   logcore.LSN `json:"from"`
	To     logcore.LSN `json:"to"`
	Ranges []rangeJSON `json:"ranges"`
}

func (a *app) pageDiffCommand() *cobra.Command {
	var f, before pageFlags
	cmd := &cobra.Command{
		Use:   "diff LOG PAGE",
		Short: "Show which bytes of a page differ between two LSNs",
		Long:  "Show which bytes of a page differ between --from-lsn or --from-time and --lsn or --time: ranges, in hexadecimal. A page that does not exist is zeros.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			numbers, err := pageNumbers(args[1:])
			if err != nil {
				return err
			}
			if before.lsn == 0 && before.at == "" {
				return exit.Usagef("say what to compare with: --from-lsn or --from-time")
			}
			return a.onlineFor(cmd.Context(), a.timeout+answerSlack, func(ctx context.Context, c *client.Client) error {
				from, err := before.point(ctx, a, c, args[0])
				if err != nil {
					return err
				}
				to, err := f.point(ctx, a, c, args[0])
				if err != nil {
					return err
				}
				var content [2][]byte
				for i, lsn := range []logcore.LSN{from, to} {
					set, err := c.GetPages(ctx, args[0], f.of(), numbers, client.ReadAt{LSN: lsn, Timeout: a.timeout})
					if err != nil {
						return err
					}
					content[i] = set.Pages[0].Data
				}
				return a.writeDiff(diffJSON{Page: numbers[0], From: from, To: to, Ranges: diffRanges(content[0], content[1])})
			})
		},
	}
	f.add(cmd)
	cmd.Flags().Uint64Var(&before.lsn, "from-lsn", 0, "compare with the page as of this LSN")
	cmd.Flags().StringVar(&before.at, "from-time", "", "compare with the page as of the last LSN at or before this time")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// diffRanges returns where two pages differ. One that is shorter, or not there, is zeros.
func diffRanges(before, after []byte) []rangeJSON {
	n := max(len(before), len(after))
	before = append(before[:len(before):len(before)], make([]byte, n-len(before))...)
	after = append(after[:len(after):len(after)], make([]byte, n-len(after))...)
	ranges := []rangeJSON{}
	for _, g := range pages.Diff(before, after) {
		end := int(g.Offset) + len(g.Data)
		ranges = append(ranges, rangeJSON{int(g.Offset), hex.EncodeToString(before[g.Offset:end]), hex.EncodeToString(g.Data)})
	}
	return ranges
}

func (a *app) writeDiff(d diffJSON) error {
	if a.format == "json" {
		return a.writeJSON(d)
	}
	fmt.Fprintf(a.out, "page %d, LSN %d to %d: %d ranges differ\n", d.Page, d.From, d.To, len(d.Ranges))
	for _, r := range d.Ranges {
		fmt.Fprintf(a.out, "offset %d, %d bytes\n- %s\n+ %s\n", r.Offset, len(r.After)/2, r.Before, r.After)
	}
	return nil
}
