package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/exit"
)

type pageJSON struct {
	Page    uint32      `json:"page"`
	LastLSN logcore.LSN `json:"last_lsn"`
	Bytes   int         `json:"bytes"`
	Data    []byte      `json:"data"`
}

func (a *app) pageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "page", Short: "Read database pages at any LSN"}
	cmd.AddCommand(a.pageGetCommand(), a.pageHistoryCommand(), a.pageDiffCommand(), a.pageCheckpointCommand(), a.pageStatusCommand(), a.pageLogsCommand(),
		a.pageLeaseCommand(), a.pageSourcesCommand(), a.pageStripesCommand(), a.pageServerCommand())
	return cmd
}

func (a *app) pageGetCommand() *cobra.Command {
	var space, spaceHi uint64
	var lsn uint64
	var at string
	cmd := &cobra.Command{
		Use:   "get LOG PAGE...",
		Short: "Read pages of a log as of an LSN; page numbers begin at 0",
		Long:  "Read pages of a log as of an LSN; page numbers begin at 0. -o json has the content in base64, -o raw is the content alone.",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			numbers, err := pageNumbers(args[1:])
			if err != nil {
				return err
			}
			if lsn != 0 && at != "" {
				return exit.Usagef("--lsn and --time: give one of them")
			}
			return a.onlineFor(cmd.Context(), a.timeout+answerSlack, func(ctx context.Context, c *client.Client) error {
				point, err := a.pointInTime(ctx, c, args[0], lsn, at)
				if err != nil {
					return err
				}
				if point == 0 {
					if point, err = logEnd(ctx, c, args[0]); err != nil {
						return err
					}
				}
				set, err := c.GetPages(ctx, args[0], engine.Space{Hi: spaceHi, Lo: space}, numbers, client.ReadAt{LSN: point, Timeout: a.timeout})
				if err != nil {
					return err
				}
				return a.writePages(set)
			})
		},
	}
	cmd.Flags().Uint64Var(&space, "space", 0, "the page file in its log: its number, or the lower half of what the engine calls it")
	cmd.Flags().Uint64Var(&spaceHi, "space-hi", 0, "the upper half of what the engine calls the page file; 0 for engines that number them")
	cmd.Flags().Uint64Var(&lsn, "lsn", 0, "read as of this LSN; 0 for the newest")
	cmd.Flags().StringVar(&at, "time", "", "read as of the last LSN at or before this time")
	a.connectFlags(cmd)
	a.outputFlag(cmd, "table", "json", "raw")
	return cmd
}

func pageNumbers(args []string) ([]uint32, error) {
	numbers := make([]uint32, len(args))
	for i, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 32)
		if err != nil {
			return nil, exit.Usagef("%q is no page number: want 0 to %d", arg, uint32(1<<32-1))
		}
		numbers[i] = uint32(n)
	}
	return numbers, nil
}

func (a *app) writePages(set client.PageSet) error {
	switch a.format {
	case "raw":
		for _, p := range set.Pages {
			if _, err := a.out.Write(p.Data); err != nil {
				return err
			}
		}
		return nil
	case "json":
		pages := []pageJSON{}
		for _, p := range set.Pages {
			pages = append(pages, pageJSON{p.Number, p.LastLSN, len(p.Data), p.Data})
		}
		return a.writeJSON(map[string]any{"lsn": set.LSN, "pages": pages})
	}
	for _, p := range set.Pages {
		if len(p.Data) == 0 {
			fmt.Fprintf(a.out, "page %d does not exist at LSN %d\n", p.Number, set.LSN)
			continue
		}
		fmt.Fprintf(a.out, "page %d at LSN %d, last changed at LSN %d\n%s", p.Number, set.LSN, p.LastLSN, hex.Dump(p.Data))
	}
	return nil
}
