package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/postgres/compute"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/internal/exit"
)

// targetFlags say as of when a data directory is made.
type targetFlags struct {
	lsn      uint64
	position string
	at       string
}

func (f *targetFlags) add(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&f.lsn, "lsn", 0, "as of this LSN of the log; without it at its end")
	cmd.Flags().StringVar(&f.position, "position", "", "as of this position in PostgreSQL's WAL, such as 0/1500028")
	cmd.Flags().StringVar(&f.at, "time", "", "with all that was committed at this time: 2006-01-02T15:04:05Z, or local time without Z")
	cmd.MarkFlagsMutuallyExclusive("lsn", "position", "time")
}

func (f *targetFlags) target() (compute.Target, error) {
	t := compute.Target{LSN: logcore.LSN(f.lsn)}
	var err error
	if f.position != "" {
		if t.Position, err = wal.ParsePosition(f.position); err != nil {
			return t, exit.With(exit.Usage, err)
		}
	}
	if f.at != "" {
		if t.Time, err = parseTime(f.at); err != nil {
			return t, exit.With(exit.Usage, err)
		}
	}
	return t, nil
}

func (a *app) basebackupCommand() *cobra.Command {
	var f targetFlags
	var dir string
	var logOnly bool
	var timeline uint32
	cmd := &cobra.Command{
		Use:   "basebackup LOG --to DIR",
		Short: "Write a PostgreSQL data directory as of any point of a log",
		Long: `Write into DIR the data directory of the PostgreSQL cluster whose WAL is in LOG, as of any point. The server starts
on it without recovery, as if it had been shut down there. It begins a timeline of its
own, so that its WAL can't be taken for the log's.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.target()
			if err != nil {
				return err
			}
			t.Timeline = wal.Timeline(timeline)
			c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			started := time.Now()
			r, err := a.buildPGDATA(cmd.Context(), c, args[0], dir, t, logOnly)
			if err != nil {
				return err
			}
			return a.writeFields([]field{{"data directory", dir}, {"as of", fmt.Sprintf("LSN %d, position %v", r.LSN, r.End)},
				{"last commit", timeOrNever(r.LastCommit)}, {"timeline", fmt.Sprint(r.Timeline)},
				{"read", sourceText(r)},
				{"took", time.Since(started).Round(time.Millisecond).String()}})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&dir, "to", "", "the directory, empty or to be made")
	cmd.Flags().BoolVar(&logOnly, "log-only", false, "don't ask the page server: apply the whole log to its base backup")
	cmd.Flags().Uint32Var(&timeline, "timeline", 100, "the timeline that the server begins; it must be above the log's")
	_ = cmd.MarkFlagRequired("to") // the flag exists
	a.connectFlags(cmd)
	return cmd
}

func (a *app) postgresExportCommand() *cobra.Command {
	var base, wal string
	cmd := &cobra.Command{
		Use:   "export LOG --base DIR --wal DIR",
		Short: "Write a log's base backup and WAL as files that PostgreSQL itself recovers from",
		Long: `Write the base backup that LOG begins with, as it was taken, and all WAL since as segment files. PostgreSQL
recovers from them without LogCore: point restore_command to the WAL and make recovery.signal.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			if err := compute.Export(cmd.Context(), base, wal, compute.EntriesOf(c, args[0])(cmd.Context(), 0, 0)); err != nil {
				return err
			}
			return errors.Join(ownAsPostgres(base, os.Getuid()), ownAsPostgres(wal, os.Getuid()))
		},
	}
	cmd.Flags().StringVar(&base, "base", "", "directory for the base backup, empty or to be made")
	cmd.Flags().StringVar(&wal, "wal", "", "directory for the WAL, empty or to be made")
	_, _ = cmd.MarkFlagRequired("base"), cmd.MarkFlagRequired("wal") // the flags exist
	a.connectFlags(cmd)
	return cmd
}

func timeOrNever(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// buildPGDATA materialises a log. Without a target LSN it goes to the end that the log has now.
func (a *app) buildPGDATA(ctx context.Context, c *client.Client, log, dir string, t compute.Target, logOnly bool) (compute.Result, error) {
	info, err := c.Info(ctx, log)
	if err != nil {
		return compute.Result{}, err
	}
	var pages compute.Store
	if !logOnly {
		pages = compute.PagesOf(c, info)
	}
	r, err := compute.Materialise(ctx, dir, pages, compute.EntriesOf(c, log), max(info.LastLSN, info.BranchLSN), t, quiet(a))
	if err != nil {
		return r, err
	}
	return r, ownAsPostgres(dir, os.Getuid())
}

// sourceText says what a data directory was made from.
func sourceText(r compute.Result) string {
	if r.Pages > 0 {
		return fmt.Sprintf("%d pages of the page server, WAL %s", r.Pages, sizeText(r.WALBytes))
	}
	return fmt.Sprintf("base backup %s, WAL %s, %d records", sizeText(r.BaseBytes), sizeText(r.WALBytes), r.Records)
}
