package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
)

// devSegmentBytes: small segments seal, archive whole and trim while someone watches.
const devSegmentBytes = 16 << 20

type devFlags struct {
	dir, listen, metrics string
	targets              []string
	entryBytesMax        config.Bytes
	hotBytesKeep         config.Bytes
	shards               int
	logging              config.Logging
}

func (a *app) devCommand() *cobra.Command {
	defaults := config.DefaultLogService()
	f := devFlags{entryBytesMax: defaults.EntryBytesMax, hotBytesKeep: defaults.HotBytesKeep, logging: defaults.Logging}
	f.logging.Level = "warn"
	cmd := &cobra.Command{
		Use:   "dev --dir DIR",
		Short: "Run the whole service in one process, for development",
		Long: `Run the log service and the page server in one process, for this machine only.

A new DIR gets a key and six local targets that stand for three clouds (or those of
--targets). Later starts use what is there: a target that is missing then is a lost
cloud, and is not made again. It prints a line "ready HOST:PORT" when it serves;
SIGTERM or Ctrl-C stops it cleanly.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.dir == "" {
				return exit.Usagef("--dir is required: give the directory where the service keeps its data")
			}
			return a.dev(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory of the service")
	cmd.Flags().StringVar(&f.listen, "listen", defaultAddr, "address to serve on; loopback only")
	cmd.Flags().StringVar(&f.metrics, "metrics", "127.0.0.1:7421", "HTTP address of /metrics and /healthz; empty for none")
	cmd.Flags().Var(config.Strings(&f.targets), "targets", "buckets of the archive as URLs, instead of six local directories")
	cmd.Flags().Var(&f.entryBytesMax, "entry-bytes-max", "largest payload of one entry")
	cmd.Flags().Var(&f.hotBytesKeep, "hot-bytes-keep", "archived segments that stay in the hot tier")
	cmd.Flags().IntVar(&f.shards, "shards", 0, "number of shards; 0 for those that DIR has, one in a new DIR; more can be added, none taken away")
	cmd.Flags().StringVar(&f.logging.Level, "log-level", f.logging.Level, "least severe messages to log: debug, info, warn or error")
	cmd.Flags().StringVar(&f.logging.Format, "log-format", f.logging.Format, "form of the messages: text or json")
	return cmd
}

func (a *app) dev(ctx context.Context, f devFlags) error {
	log := f.logging.Logger(a.err)
	cfg := config.DefaultLogService()
	cfg.SegmentBytes, cfg.EntryBytesMax, cfg.HotBytesKeep, cfg.Logging = devSegmentBytes, f.entryBytesMax, f.hotBytesKeep, f.logging
	cfg.Shards = f.shards
	cfg.QueueBytesMax = max(cfg.QueueBytesMax, 2*cfg.EntryBytesMax)
	var dir roles.DevDir
	prepare := func(ctx context.Context) (d roles.DevDir, err error) {
		if dir, err = roles.PrepareDevDir(ctx, f.dir, f.targets); err == nil && dir.Fresh {
			_, err = fmt.Fprintf(a.out, "made %s with a key and %d targets. Keep a copy of %s: without it the archive can't be read.\n", dir.Path, len(dir.Targets), dir.Key)
		}
		return dir, err
	}
	role, err := roles.StartDev(ctx, roles.DevOptions{Prepare: prepare, Targets: f.targets, Listen: f.listen, Metrics: f.metrics, Config: *cfg, Version: roles.Version(), Logger: log})
	if err != nil {
		return err
	}
	return roles.Play(ctx, role, log, func() error { return devReady(a.out, f, role.Addr()) })
}

// devReady says what to do next, and that it serves.
func devReady(w io.Writer, f devFlags, addr string) error {
	flag := ""
	if addr != defaultAddr {
		flag = " --addr " + addr
	}
	var b strings.Builder
	fmt.Fprintf(&b, "try in another terminal:\n")
	fmt.Fprintf(&b, "  logcore sqlite%s mydb -c \"CREATE TABLE t(x); INSERT INTO t VALUES ('hello'); SELECT * FROM t\"\n", flag)
	fmt.Fprintf(&b, "  logcore log ls%s\n  logcore status%s\n", flag, flag)
	fmt.Fprintf(&b, "when %s is gone, from the targets alone:\n  logcore restore --dir %s\n", filepath.Join(f.dir, "logsvc"), shellWord(f.dir))
	fmt.Fprintf(&b, "ready %s\n", addr)
	_, err := io.WriteString(w, b.String())
	return err
}
