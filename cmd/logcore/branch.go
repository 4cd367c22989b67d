package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

func (a *app) branchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "branch", Short: "Fork a log at an LSN, copy on write"}
	cmd.AddCommand(a.branchCreateCommand(), a.branchListCommand(), a.branchDeleteCommand(), a.branchResetCommand())
	return cmd
}

func (a *app) branchCreateCommand() *cobra.Command {
	var lsn uint64
	var at string
	cmd := &cobra.Command{
		Use:   "create PARENT BRANCH",
		Short: "Create a branch of a log; it is a log of its own from then on",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lsn != 0 && at != "" {
				return exit.Usagef("--lsn and --time: give one of them")
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				point, err := a.pointInTime(ctx, c, args[0], lsn, at)
				if err != nil {
					return err
				}
				if point == 0 {
					if point, err = logEnd(ctx, c, args[0]); err != nil {
						return err
					}
				}
				id, lsn, err := c.CreateBranch(ctx, args[0], args[1], point)
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"branch": args[1], "id": uint64(id), "parent": args[0], "lsn": uint64(lsn)})
				}
				return a.writeFields([]field{{"branch", args[1]}, {"id", fmt.Sprint(id)}, {"parent", args[0]}, {"at LSN", lsn.String()}})
			})
		},
	}
	cmd.Flags().Uint64Var(&lsn, "lsn", 0, "fork at this LSN; 0 for the newest")
	cmd.Flags().StringVar(&at, "time", "", "fork at the last LSN at or before this time")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// logEnd returns the LSN of the last entry that was acknowledged; the page server may
// be a little behind it.
func logEnd(ctx context.Context, c *client.Client, log string) (logcore.LSN, error) {
	i, err := c.Info(ctx, log)
	return max(i.LastLSN, i.BranchLSN), err
}

// pointInTime returns the LSN that --lsn or --time mean; 0 for the newest.
func (a *app) pointInTime(ctx context.Context, c *client.Client, log string, lsn uint64, at string) (logcore.LSN, error) {
	if at == "" {
		return logcore.LSN(lsn), nil
	}
	t, err := parseTime(at)
	if err != nil {
		return 0, exit.With(exit.Usage, err)
	}
	if now := time.Now(); t.After(now.Add(time.Minute)) { // clocks differ a little
		return 0, exit.Usagef("--time %s is in the future: here it is %s", at, now.Format(time.RFC3339))
	}
	found, _, err := c.ResolveTime(ctx, log, t)
	if errors.Is(err, logcore.ErrTrimmed) || err == nil && found == 0 {
		begin := ""
		if info, infoErr := c.Info(ctx, log); infoErr == nil && info.FirstLSN != 0 {
			begin = fmt.Sprintf("; its first change is at LSN %d", info.FirstLSN)
		}
		err = exit.With(exit.Server, fmt.Errorf("log %s had no change yet at %s%s", log, at, begin))
	}
	return found, err
}

func (a *app) branchListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the branches",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), a.listLogs(func(l client.LogInfo) bool { return l.Parent != "" }))
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}
