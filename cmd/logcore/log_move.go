package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// moveTimeout is how long a move may take: its writers must not wait, but a log that is acknowledged when it
// is archived is archived first.
const moveTimeout = time.Minute

func (a *app) logMoveCommand() *cobra.Command {
	var to uint32
	cmd := &cobra.Command{
		Use:   "move LOG --to SHARD",
		Short: "Move a log, with its branches, to another shard",
		Long: `Move a log to another shard, with its branches, leases and holds. Its writers and readers go on; its LSNs go on rising.
A move that was begun finishes by itself, whatever becomes of this command; repeating it waits for the end.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				left, err := c.MoveLog(ctx, args[0], logcore.ShardID(to))
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"log": args[0], "shard": to, "left_lsn": left})
				}
				if left == 0 {
					_, err = fmt.Fprintf(a.out, "log %s is in shard %d\n", args[0], to)
					return err
				}
				_, err = fmt.Fprintf(a.out, "moved log %s to shard %d; what is up to LSN %d stays where it was\n", args[0], to, left)
				return err
			})
		},
	}
	cmd.Flags().Uint32Var(&to, "to", 0, "the shard that it goes to")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag is there
	}
	a.connectFlags(cmd)
	a.timeoutDefault(cmd, moveTimeout)
	a.outputFlag(cmd)
	return cmd
}
