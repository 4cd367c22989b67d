package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

func (a *app) pageLeaseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lease", Short: "Keep single LSNs of a log readable for a while"}
	cmd.AddCommand(a.pageLeaseAddCommand(), a.pageLeaseListCommand(), a.pageLeaseRemoveCommand())
	return cmd
}

type leaseJSON struct {
	Lease   string      `json:"lease"`
	Log     string      `json:"log"`
	LSN     logcore.LSN `json:"lsn"`
	Holder  string      `json:"holder,omitempty"`
	Expires string      `json:"expires,omitempty"`
	TTLMs   int64       `json:"ttl_ms,omitempty"`
}

func leaseID(id uint64) string { return fmt.Sprintf("%016x", id) }

func (a *app) pageLeaseAddCommand() *cobra.Command {
	var lsn uint64
	var at, holder string
	var ttl time.Duration
	var renew bool
	cmd := &cobra.Command{
		Use:   "add LOG",
		Short: "Take a lease of an LSN",
		Long: "Take a lease of an LSN: it can be read until the lease runs out, whatever the log's window says. What is older or newer is not kept by it; " +
			"to keep everything from an LSN on, use logcore log hold. With --renew the command keeps the lease until it is interrupted, and gives it back then.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lsn != 0 && at != "" {
				return exit.Usagef("--lsn and --time: give one of them")
			}
			ctx := cmd.Context()
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			calling, cancel := context.WithTimeout(ctx, a.timeout)
			defer cancel()
			point, err := a.pointInTime(calling, c, args[0], lsn, at)
			if err != nil {
				return err
			}
			lease, err := c.AcquireLease(calling, args[0], point, ttl, holder)
			if err != nil {
				return err
			}
			if err := a.writeLease(args[0], holder, lease); err != nil || !renew {
				return err
			}
			return a.keepLease(ctx, c, args[0], lease)
		},
	}
	host, _ := os.Hostname()
	cmd.Flags().Uint64Var(&lsn, "lsn", 0, "the LSN to keep; 0 for the last entry")
	cmd.Flags().StringVar(&at, "time", "", "keep the last LSN at or before this time")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Minute, "how long, 1s to 1h")
	cmd.Flags().StringVar(&holder, "holder", fmt.Sprintf("logcore@%.50s", host), "who holds it, for people; up to 64 bytes")
	cmd.Flags().BoolVar(&renew, "renew", false, "keep it until the command is interrupted")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) writeLease(log, holder string, l client.Lease) error {
	if a.format == "json" {
		return a.writeJSON(leaseJSON{Lease: leaseID(l.ID), Log: log, LSN: l.LSN, Holder: holder, TTLMs: l.TTL.Milliseconds()})
	}
	return a.writeFields([]field{{"lease", leaseID(l.ID)}, {"log", log}, {"at LSN", l.LSN.String()}, {"runs for", l.TTL.String()}})
}

// keepLease renews a lease until ctx is done, and gives it back. One that ran out, because the log
// service was away for too long, is an error.
func (a *app) keepLease(ctx context.Context, c *client.Client, log string, lease client.Lease) error {
	until := time.Now().Add(lease.TTL)
	for {
		select {
		case <-time.After(lease.TTL / 3):
		case <-ctx.Done():
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
			defer cancel()
			return c.ReleaseLease(back, log, lease.ID)
		}
		calling, cancel := context.WithTimeout(ctx, lease.TTL/3)
		_, err := c.RenewLease(calling, log, lease.ID, lease.TTL)
		cancel()
		switch {
		case err == nil:
			until = time.Now().Add(lease.TTL)
		case ctx.Err() == nil && time.Now().After(until):
			return fmt.Errorf("lease %s of %s at LSN %d ran out: %w", leaseID(lease.ID), log, lease.LSN, err)
		}
	}
}

func (a *app) pageLeaseListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [LOG]",
		Short: "List the leases",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if len(args) > 0 {
					if _, err := c.Info(ctx, args[0]); err != nil {
						return err
					}
				}
				h, err := c.Histories(ctx)
				if err != nil {
					return err
				}
				return a.writeLeases(h, args)
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// writeLeases lists the leases of all logs, or of the one that is named.
func (a *app) writeLeases(h client.Histories, only []string) error {
	names := map[logcore.LogID]string{}
	for _, l := range h.Logs {
		names[l.ID] = l.Log
	}
	list, rows := []leaseJSON{}, [][]string{}
	for _, l := range h.Leases {
		if len(only) > 0 && names[l.Log] != only[0] {
			continue
		}
		one := leaseJSON{Lease: leaseID(l.ID), Log: names[l.Log], LSN: l.LSN, Holder: l.Holder, Expires: l.Expires.Wall().Format(time.RFC3339)}
		left := max(l.Expires.Wall().Sub(h.Now.Wall()), 0).Round(time.Second)
		list = append(list, one)
		rows = append(rows, []string{one.Log, one.LSN.String(), one.Lease, one.Holder, left.String()})
	}
	if a.format == "json" {
		return a.writeJSON(list)
	}
	return a.writeTable([]string{"LOG", "LSN", "LEASE", "HOLDER", "LEFT"}, rows)
}

func (a *app) pageLeaseRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm LOG LEASE",
		Short: "Give a lease back; one that ran out is no error",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[1], 16, 64)
			if err != nil || id == 0 {
				return exit.Usagef("%q is no lease: want the 16 digits that logcore page lease ls shows", args[1])
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.ReleaseLease(ctx, args[0], id); err != nil {
					return err
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"released": leaseID(id)})
				}
				return a.writeFields([]field{{"released", leaseID(id)}})
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}
