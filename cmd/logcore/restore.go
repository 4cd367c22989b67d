package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// archiveFlags say where an archive is and what opens it.
type archiveFlags struct {
	dir     string
	targets []string
	key     string
}

func (f *archiveFlags) add(cmd *cobra.Command, dirUsage string) {
	cmd.Flags().StringVar(&f.dir, "dir", "", dirUsage)
	cmd.Flags().Var(config.Strings(&f.targets), "targets", "buckets of the archive as URLs, the lost ones included")
	cmd.Flags().StringVar(&f.key, "key", "", "file with the archive's key")
}

// fill completes the flags from what DIR says of itself. What stands in flags wins.
func (f *archiveFlags) fill() error {
	if f.dir == "" {
		if len(f.targets) == 0 || f.key == "" {
			return exit.Usagef("give --dir DIR of a development service, or --targets URL,... and --key FILE")
		}
		return nil
	}
	d, err := roles.OpenDevDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return exit.With(exit.Usage, fmt.Errorf("%w: name the archive with --targets and --key instead", err))
	}
	if err != nil {
		return err
	}
	if len(f.targets) == 0 {
		f.targets = d.Targets
	}
	if f.key == "" {
		f.key = d.Key
	}
	return nil
}

type restoreFlags struct {
	archiveFlags
	to, log, at, cluster string
	lsn                  uint64
	memory               config.Bytes
	answerWithin         time.Duration
	acceptLoss           bool
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Rebuild a service from the archive's targets alone",
		Long: `Rebuild the logs of a service from the archive's targets and the key, into the
directory of --to; any 4 of 6 targets will do. With --dir, the directory of a
development service whose hot tier is gone says where the archive is and is itself
rebuilt.

All logs share one history, so all of them are restored; --log names one that must be
among them, and limits the report to it. --lsn and --time restore the past: that is
another history from there on, a cluster of its own that needs targets of its own.

A restore that was interrupted goes on where it was when it is started again with the
same --to: what it had fetched lies in --to/.restoring until the service appears. A target
that does not answer within --answer-within is left out; when too few fragments of
anything are left the restore says so before it fetches a single one.

The report says what was read and rebuilt, and what is lost: nothing, or exactly what.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.lsn != 0 && f.at != "" {
				return exit.Usagef("--lsn and --time: give one of them")
			}
			if f.dir != "" && f.to == "" && (f.lsn != 0 || f.at != "") {
				return exit.Usagef("--lsn and --time restore another history, which is a service of its own: give its new directory with --to")
			}
			if f.dir == "" && f.to == "" {
				return exit.Usagef("--to DIR is required: the directory to restore to")
			}
			if err := f.fill(); err != nil {
				return err
			}
			return a.restore(cmd.Context(), f)
		},
	}
	f.add(cmd, "directory of a development service to rebuild in place")
	cmd.Flags().StringVar(&f.to, "to", "", "directory to restore to; it must hold no service")
	cmd.Flags().StringVar(&f.log, "log", "", "a log that must be there; the report shows no other")
	cmd.Flags().Uint64Var(&f.lsn, "lsn", 0, "restore up to this LSN; 0 for everything")
	cmd.Flags().StringVar(&f.at, "time", "", "restore up to this time")
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "which cluster, when the targets hold several")
	f.memory = 256 << 20
	cmd.Flags().Var(&f.memory, "memory", "memory for what is fetched at once")
	cmd.Flags().DurationVar(&f.answerWithin, "answer-within", 5*time.Second, "how long a target may take for its first answer")
	cmd.Flags().BoolVar(&f.acceptLoss, "accept-loss", false, "restore shards whose archives don't fit together, without what logs that moved had in an old one")
	a.outputFlag(cmd, "text", "json")
	a.progressFlag(cmd)
	return cmd
}

func (a *app) restore(ctx context.Context, f restoreFlags) error {
	opts := recovery.Options{To: f.to, Log: f.log, LSN: logcore.LSN(f.lsn), Logger: quiet(a), MemoryMax: int64(f.memory), AcceptLoss: f.acceptLoss, AnswerWithin: f.answerWithin}
	if opts.To == "" {
		opts.To = f.dir
	}
	var err error
	if f.at != "" {
		if opts.Time, err = parseTime(f.at); err != nil {
			return exit.With(exit.Usage, err)
		}
	}
	if f.cluster != "" {
		if n, err := hex.Decode(opts.Cluster[:], []byte(f.cluster)); err != nil || n != len(opts.Cluster) {
			return exit.Usagef("--cluster %q: want 32 hexadecimal digits", f.cluster)
		}
	}
	ring, err := tiering.LoadKeyFile(f.key)
	if err != nil {
		return err
	}
	opts.Keys = ring
	targets, err := roles.OpenTargets(ctx, f.targets, opts.Logger)
	if err != nil {
		return err
	}
	defer targets.Close()
	if err := targets.CheckNames(ctx); err != nil {
		return err
	}
	m := a.newSlowMeter()
	opts.Targets = targets.All
	opts.Progress = func(p recovery.Progress) { m.bar("restore: "+p.Step, p.Bytes, p.Total) }
	// Before the service appears: without it a restore that is killed would leave one that
	// does not know its archive.
	opts.BeforePublish = func(r recovery.Report) error {
		if r.Fork {
			return nil
		}
		return roles.RecordRestored(opts.To, f.key, f.targets)
	}
	report, err := recovery.Restore(ctx, opts)
	m.done()
	if err != nil {
		if errors.Is(err, recovery.ErrApart) {
			return exit.With(exit.Integrity, err) // it says what can be done
		}
		if len(report.Lost) > 0 {
			if err := a.writeReport(report); err != nil {
				return err
			}
			err = exit.With(exit.Integrity, fmt.Errorf("%w\n%s", err, whatRemains(report, len(targets.All)-len(targets.Lost))))
		}
		return targets.Explain(err)
	}
	return a.writeRestored(report, opts.To, f.targets)
}

// whatRemains says what can be had although a range of the archive is lost.
func whatRemains(r recovery.Report, reached int) string {
	var ways []string
	if len(r.NotGiven) > 0 {
		ways = append(ways, "name one of "+strings.Join(r.NotGiven, ", ")+" as well")
	}
	if len(r.Unreachable) > 0 {
		ways = append(ways, "bring one of "+strings.Join(r.Unreachable, ", ")+" back")
	}
	more := ""
	if len(ways) > 0 {
		more = ": " + strings.Join(ways, ", or ")
	}
	if r.Lost[0].First <= r.ArchiveFirstLSN {
		return fmt.Sprintf("nothing can be restored from these %d targets%s", reached, more)
	}
	if more != "" {
		more = "; for all of it" + more
	}
	return fmt.Sprintf("what is before can be had with --lsn %d%s", r.Lost[0].First-1, more)
}

// writeReport prints what a restore did, or what it found lost.
func (a *app) writeReport(report recovery.Report) error {
	if a.format == "json" {
		return a.writeJSON(report)
	}
	return report.WriteText(a.out)
}

func (a *app) writeRestored(report recovery.Report, to string, targets []string) error {
	if err := a.writeReport(report); err != nil || a.format == "json" {
		return err
	}
	if len(report.NotGiven) > 0 && !report.Fork {
		fmt.Fprintf(a.out, "%d targets given, %d needed to start: add %s to the targets in %s (those that are lost for good are replaced with logcore target replace)\n",
			len(targets), len(targets)+len(report.NotGiven), strings.Join(report.NotGiven, " and "), filepath.Join(to, config.DevFile))
	}
	_, err := fmt.Fprintf(a.out, "start it with:\n  logcore dev --dir %s\n", shellWord(to))
	return err
}

// quiet logs warnings only when someone asked to see what is going on: the commands
// say in their own words what went wrong.
func quiet(a *app) *slog.Logger {
	level := slog.LevelError
	if a.progress {
		level = slog.LevelWarn
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}
