package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

func (a *app) logCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "log", Short: "List, read and write logs; look into the files of the hot tier"}
	cmd.AddCommand(a.logListCommand(), a.logCreateCommand(), a.logInfoCommand(), a.logMoveCommand(), a.logRetainCommand(), a.logHoldCommand(), a.logAppendCommand(), a.logReadCommand(),
		a.logFlushCommand(), a.logDumpCommand(), a.logCheckCommand())
	return cmd
}

// logJSON is a log in the JSON output.
type logJSON struct {
	Log         string      `json:"log"`
	ID          uint64      `json:"id"`
	Shard       uint32      `json:"shard"`
	Epoch       uint64      `json:"epoch"`
	Writer      string      `json:"writer,omitempty"`
	FirstLSN    logcore.LSN `json:"first_lsn"`
	LastLSN     logcore.LSN `json:"last_lsn"`
	LastTime    string      `json:"last_time,omitempty"`
	Committed   logcore.LSN `json:"committed_lsn"`
	Archived    logcore.LSN `json:"archived_lsn"`
	HotFirst    logcore.LSN `json:"hot_first_lsn"`
	Entries     uint64      `json:"entries"`
	Bytes       uint64      `json:"bytes"`
	Parent      string      `json:"parent,omitempty"`
	BranchLSN   logcore.LSN `json:"branch_lsn,omitempty"`
	Incarnation string      `json:"incarnation"`
	Durability  string      `json:"durability"`
}

func toLogJSON(i client.LogInfo) logJSON {
	return logJSON{Log: i.Log, ID: uint64(i.ID), Shard: uint32(i.Shard), Epoch: uint64(i.Epoch), Writer: i.Writer,
		FirstLSN: i.FirstLSN, LastLSN: i.LastLSN, LastTime: timeText(i.LastTime), Committed: i.Committed, Archived: i.Archived,
		HotFirst: i.HotFirstLSN, Entries: i.Entries, Bytes: i.Bytes, Parent: i.Parent, BranchLSN: i.BranchLSN,
		Incarnation: fmt.Sprintf("%016x", i.Incarnation), Durability: i.Durability}
}

// timeText shows the wall clock of a reading, empty for none.
func timeText(h logcore.HLC) string {
	if h == 0 {
		return ""
	}
	return h.Wall().Format("2006-01-02T15:04:05.000Z")
}

// parseTime reads the times that --time takes.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--time %q is no time: want 2006-01-02T15:04:05Z, or 2006-01-02 15:04:05 in local time", s)
}

func (a *app) logListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the logs and branches",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), a.listLogs(func(client.LogInfo) bool { return true }))
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// listLogs shows the logs that keep accepts.
func (a *app) listLogs(keep func(client.LogInfo) bool) func(context.Context, *client.Client) error {
	return func(ctx context.Context, c *client.Client) error {
		logs, err := c.Logs(ctx)
		if err != nil {
			return err
		}
		list, rows := []logJSON{}, [][]string{}
		for _, l := range logs {
			if !keep(l) {
				continue
			}
			list = append(list, toLogJSON(l))
			parent := ""
			if l.Parent != "" {
				parent = fmt.Sprintf("%s@%d", l.Parent, l.BranchLSN)
			}
			rows = append(rows, []string{l.Log, fmt.Sprint(l.ID), fmt.Sprint(l.Shard), fmt.Sprint(l.Epoch), l.FirstLSN.String(), l.LastLSN.String(),
				timeText(l.LastTime), fmt.Sprint(l.Entries), sizeText(l.Bytes), l.Archived.String(), parent})
		}
		if a.format == "json" {
			return a.writeJSON(list)
		}
		return a.writeTable([]string{"LOG", "ID", "SHARD", "EPOCH", "FIRST", "LAST", "LAST TIME", "ENTRIES", "SIZE", "ARCHIVED", "BRANCH OF"}, rows)
	}
}

func (a *app) logCreateCommand() *cobra.Command {
	var durability string
	cmd := &cobra.Command{
		Use:   "create LOG",
		Short: "Create an empty log",
		Long: "Create an empty log.\n\nWith --durability quorum an append is acknowledged once a quorum of the members has it on stable storage; it reaches the\n" +
			"archive within archive_max_age. With --durability quorum+archive it is acknowledged once the archive covers it too: what was\n" +
			"acknowledged outlives every member, and an append takes as long as the targets do.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if durability != client.Quorum && durability != client.QuorumAndArchive {
				return exit.Usagef("--durability %q: want %s or %s", durability, client.Quorum, client.QuorumAndArchive)
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				id, err := c.Create(ctx, client.NewLog{Log: args[0], Durability: durability})
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"log": args[0], "id": uint64(id), "durability": durability})
				}
				_, err = fmt.Fprintf(a.out, "created log %s, acknowledged by %s\n", args[0], durability)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&durability, "durability", client.Quorum, "when an append is acknowledged: quorum or quorum+archive")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) logInfoCommand() *cobra.Command {
	var staleness time.Duration
	cmd := &cobra.Command{
		Use:   "info LOG",
		Short: "Describe a log",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				i, err := c.InfoWithin(ctx, args[0], staleness)
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(toLogJSON(i))
				}
				fields := []field{{"log", i.Log}, {"id", fmt.Sprint(i.ID)}, {"shard", fmt.Sprint(i.Shard)},
					{"writer epoch", fmt.Sprint(i.Epoch)}, {"writer", i.Writer},
					{"first LSN", i.FirstLSN.String()}, {"last LSN", i.LastLSN.String()}, {"last time", timeText(i.LastTime)},
					{"committed LSN", i.Committed.String()}, {"archived LSN", i.Archived.String()}, {"hot tier from LSN", i.HotFirstLSN.String()},
					{"entries", fmt.Sprint(i.Entries)}, {"size", sizeText(i.Bytes)}, {"incarnation", fmt.Sprintf("%016x", i.Incarnation)}, {"durability", i.Durability}}
				for _, e := range i.Extents {
					fields = append(fields, field{fmt.Sprintf("before in shard %d", e.Shard), fmt.Sprintf("LSN %d to %d", e.First, e.Last)})
				}
				if i.Parent != "" {
					fields = append(fields, field{"branch of", fmt.Sprintf("%s at LSN %d", i.Parent, i.BranchLSN)})
				}
				return a.writeFields(fields)
			})
		},
	}
	cmd.Flags().DurationVar(&staleness, "max-staleness", 0, "let any member answer with what was so long ago at most; 0: what is now, which only the one that leads can say")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) logFlushCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flush LOG",
		Short: "Wait until everything acknowledged so far is archived",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				lsn, err := c.Flush(ctx, args[0])
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]logcore.LSN{"archived_lsn": lsn})
				}
				return a.writeFields([]field{{"archived LSN", lsn.String()}})
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}
