package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

func (a *app) branchDeleteCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "delete BRANCH",
		Short: "Delete a branch, its entries and pages included",
		Long:  "Delete a branch, its entries and pages included. While it has branches, leases or holds of its own it stays, and they are named.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.DeleteBranch(ctx, args[0], force); err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"deleted": args[0]})
				}
				return a.writeFields([]field{{"deleted", args[0]}})
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even while a writer of it is alive")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) branchResetCommand() *cobra.Command {
	var lsn uint64
	var force bool
	cmd := &cobra.Command{
		Use:   "reset BRANCH",
		Short: "Begin a branch again, where its parent is now or at an LSN",
		Long:  "Begin a branch again, where its parent is now or at an LSN of the parent. What was written to it is gone; its writers are fenced.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				id, at, err := c.ResetBranch(ctx, args[0], logcore.LSN(lsn), force)
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"branch": args[0], "id": uint64(id), "lsn": uint64(at)})
				}
				return a.writeFields([]field{{"branch", args[0]}, {"id", fmt.Sprint(id)}, {"at LSN", at.String()}})
			})
		},
	}
	cmd.Flags().Uint64Var(&lsn, "lsn", 0, "fork at this LSN of the parent; 0 for its last entry")
	cmd.Flags().BoolVar(&force, "force", false, "even while a writer of it is alive")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) logRetainCommand() *cobra.Command {
	var window time.Duration
	var bytes string
	cmd := &cobra.Command{
		Use:   "retain LOG",
		Short: "Say how long the history of a log's pages is kept",
		Long: "Say how long the history of a log's pages is kept: as long as it is younger than --window or within the last --bytes of the log. " +
			"Without both it is kept for ever. What leases, holds and branches need is kept in any case.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(bytes, 10, 64)
			if err != nil {
				return exit.Usagef("--bytes %q: want a number of bytes", bytes)
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.SetHistoryWindow(ctx, args[0], window, n); err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"log": args[0], "window_ms": window.Milliseconds(), "window_bytes": n})
				}
				return a.writeFields([]field{{"log", args[0]}, {"window", window.String()}, {"bytes", fmt.Sprint(n)}})
			})
		},
	}
	cmd.Flags().DurationVar(&window, "window", 0, "keep what is younger, for instance 168h")
	cmd.Flags().StringVar(&bytes, "bytes", "0", "keep what is within so many bytes of the log")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) logHoldCommand() *cobra.Command {
	var lsn uint64
	var lift bool
	cmd := &cobra.Command{
		Use:   "hold LOG NAME",
		Short: "Keep the history of a log's pages from an LSN on until the hold is lifted",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lift == (lsn != 0) {
				return exit.Usagef("--lsn and --lift: give one of them")
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.HoldHistory(ctx, args[0], args[1], logcore.LSN(lsn)); err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"log": args[0], "hold": args[1], "lsn": lsn})
				}
				return a.writeFields([]field{{"log", args[0]}, {"hold", args[1]}, {"from LSN", fmt.Sprint(lsn)}})
			})
		},
	}
	cmd.Flags().Uint64Var(&lsn, "lsn", 0, "keep everything from this LSN on")
	cmd.Flags().BoolVar(&lift, "lift", false, "lift the hold")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) pageLogsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs [LOG]",
		Short: "What the page server has of each log: how far, since when, how large",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log := ""
			if len(args) > 0 {
				log = args[0]
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				logs, err := c.PageStatus(ctx, log)
				if err != nil {
					return err
				}
				return a.writePageLogs(logs)
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

type pageLogJSON struct {
	Log            string      `json:"log"`
	ID             uint64      `json:"id"`
	State          string      `json:"state"`
	Reason         string      `json:"reason,omitempty"`
	From           string      `json:"from,omitempty"`
	Last           logcore.LSN `json:"last_lsn"`
	BehindBytes    uint64      `json:"behind_bytes"`
	BehindMs       int64       `json:"behind_ms"`
	Ingested       logcore.LSN `json:"ingested_lsn"`
	Horizon        logcore.LSN `json:"horizon_lsn"`
	Pins           uint64      `json:"pins"`
	Counted        string      `json:"counted,omitempty"`
	LogicalBytes   uint64      `json:"logical_bytes"`
	Versions       uint64      `json:"versions"`
	VersionBytes   uint64      `json:"version_bytes"`
	Collected      uint64      `json:"collected_versions"`
	CollectedBytes uint64      `json:"collected_bytes"`
	DiskBytes      uint64      `json:"disk_bytes"`
}

func (a *app) writePageLogs(logs []client.PageLogStatus) error {
	list, rows := []pageLogJSON{}, [][]string{}
	for _, l := range logs {
		one := pageLogJSON{Log: l.Log, ID: uint64(l.ID), State: l.State, Reason: l.Reason, From: l.From, Last: l.LastLSN, BehindBytes: l.BehindBytes, BehindMs: l.Behind.Milliseconds(), Ingested: l.Ingested, Horizon: l.Horizon, Pins: l.Pins,
			LogicalBytes: l.LogicalBytes, Versions: l.Versions, VersionBytes: l.VersionBytes, Collected: l.CollectedVersions, CollectedBytes: l.CollectedBytes, DiskBytes: l.DiskBytes}
		logical, versions := "not counted yet", ""
		if !l.Counted.IsZero() {
			one.Counted = l.Counted.UTC().Format(time.RFC3339)
			logical, versions = sizeText(l.LogicalBytes), fmt.Sprintf("%d, %s", l.Versions, sizeText(l.VersionBytes))
		}
		behind := "-"
		if l.BehindBytes > 0 || l.Behind > 0 {
			behind = fmt.Sprintf("%s, %v", sizeText(l.BehindBytes), l.Behind.Round(time.Millisecond))
		}
		list = append(list, one)
		rows = append(rows, []string{l.Log, l.State, l.From, l.Ingested.String(), behind, l.Horizon.String(), fmt.Sprint(l.Pins), logical, versions, sizeText(l.DiskBytes), l.Reason})
	}
	if a.format == "json" {
		return a.writeJSON(list)
	}
	return a.writeTable([]string{"LOG", "STATE", "FROM", "INGESTED", "BEHIND", "HORIZON", "PINS", "LOGICAL", "VERSIONS", "DISK", "WHY"}, rows)
}
