package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/tiering"
)

func (a *app) compactCommand() *cobra.Command {
	var dry, all bool
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Erase from the archive what nobody has to keep; a running service does it weekly",
		Long: `Erase from the archive entries that were truncated, of aborted transactions, or older than their
log's retention, unless they are under legal hold. Signed tombstones stay in the manifest. What
the hot tier still has is let be.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onlineFor(cmd.Context(), a.patient(cmd), func(ctx context.Context, c *client.Client) error {
				r, err := c.Compact(ctx, dry, all)
				if err != nil && r.Read == 0 {
					return err
				}
				return errors.Join(a.writeCompacted(r, dry), err)
			})
		},
	}
	a.connectFlags(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be erased")
	cmd.Flags().BoolVar(&all, "all", false, "look at every object, also those that were looked at before")
	a.outputFlag(cmd)
	return cmd
}

// patient is the time that a command may take which works through an archive.
func (a *app) patient(cmd *cobra.Command) time.Duration {
	if cmd.Flags().Changed("timeout") {
		return a.timeout
	}
	return 24 * time.Hour
}

func (a *app) writeCompacted(r client.CompactReport, dry bool) error {
	if a.format == "json" {
		return a.writeJSON(map[string]any{"objects_read": r.Read, "objects_rewritten": r.Rewritten, "entries": r.Entries, "raw_bytes": r.RawBytes,
			"saved_bytes": r.Saved, "held_entries": r.Held, "dry_run": dry, "tombstones": tombstoneList(r.Tombstones)})
	}
	erased := "erased"
	if dry {
		erased = "would be erased"
	}
	fields := []field{{"looked at", fmt.Sprintf("%d objects", r.Read)}, {"rewritten", fmt.Sprintf("%d objects", r.Rewritten)},
		{erased, fmt.Sprintf("%d entries, %s of frames", r.Entries, sizeText(r.RawBytes))}, {"saved", sizeText(r.Saved) + " on all targets"}, {"kept by a hold", fmt.Sprintf("%d entries", r.Held)}}
	for _, t := range r.Tombstones {
		fields = append(fields, field{"tombstone", tombstoneText(t)})
	}
	return a.writeFields(fields)
}

func tombstoneText(t client.Tombstone) string {
	what := fmt.Sprintf("%d entries of log %d", t.Entries, t.LogID)
	if t.LogID == 0 {
		what = fmt.Sprintf("%d entries", t.Entries)
	}
	if t.Shard != 0 {
		what += fmt.Sprintf(" of shard %d", t.Shard)
	}
	return fmt.Sprintf("%s within LSN %d to %d, %s, %s, %s", what, t.First, t.Last, sizeText(t.Bytes), t.Reason, t.At.Format(time.RFC3339))
}

func tombstoneList(all []client.Tombstone) []map[string]any {
	out := []map[string]any{}
	for _, t := range all {
		out = append(out, map[string]any{"reason": t.Reason, "log_id": uint64(t.LogID), "shard": uint32(t.Shard), "first_lsn": uint64(t.First), "last_lsn": uint64(t.Last), "entries": t.Entries, "bytes": t.Bytes, "at": t.At})
	}
	return out
}

func (a *app) retentionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "retention", Short: "Say how long entries are kept in the archive"}
	var all bool
	set := &cobra.Command{
		Use:   "set [LOG] DURATION",
		Short: "Keep entries of LOG (--all: of every log) for 90d, 12h, …; forever keeps them all",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			log, text, err := logAnd(args, all)
			if err != nil {
				return err
			}
			keep, err := parseKeep(text)
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.SetRetention(ctx, log, keep); err != nil {
					return err
				}
				return a.writePolicies(ctx, c)
			})
		},
	}
	set.Flags().BoolVar(&all, "all", false, "every log that has no retention of its own")
	cmd.AddCommand(set, a.lockCommand(), a.policiesCommand("List what is kept how long, and what was erased"))
	a.connectFlags(set)
	a.outputFlag(set)
	return cmd
}

func (a *app) holdCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "hold", Short: "Put a log under legal hold: nothing of it is erased from the archive"}
	hold := func(use, short string, args int, reason func([]string) string) *cobra.Command {
		var all bool
		sub := &cobra.Command{
			Use: use, Short: short, Args: cobra.RangeArgs(args-1, args),
			RunE: func(cmd *cobra.Command, given []string) error {
				if len(given) != args && !all || len(given) == args && all {
					return exit.Usagef("name a log, or --all")
				}
				log := ""
				if !all {
					log, given = given[0], given[1:]
				}
				return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
					if err := c.SetHold(ctx, log, reason(given)); err != nil {
						return err
					}
					return a.writePolicies(ctx, c)
				})
			},
		}
		sub.Flags().BoolVar(&all, "all", false, "everything")
		a.connectFlags(sub)
		a.outputFlag(sub)
		return sub
	}
	cmd.AddCommand(hold("add [LOG] REASON", "Put LOG (--all: everything) under hold", 2, func(args []string) string { return strings.TrimSpace(args[0]) }),
		hold("release [LOG]", "Release LOG (--all: everything that was held with --all) from hold", 1, func([]string) string { return "" }),
		a.policiesCommand("List what is under hold"))
	return cmd
}

func (a *app) lockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock DURATION",
		Short: "Lock every sealed fragment at its provider for 90d, 12h, … (WORM); none for no locks",
		Long: `Lock every sealed fragment at its provider, where that was shown to work, from the time of its last
entry on. Nobody can delete it until then, whoever has the credentials; what is locked stays locked
when this is changed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lock := time.Duration(0)
			if args[0] != "none" {
				var err error
				if lock, err = parseKeep(args[0]); err != nil || lock == 0 {
					return exit.Usagef("lock %q: want days as in 90d, a duration as in 12h, or none", args[0])
				}
			}
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.SetLock(ctx, lock); err != nil {
					return err
				}
				return a.writePolicies(ctx, c)
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// logAnd takes the arguments [LOG] TEXT apart.
func logAnd(args []string, all bool) (log, text string, err error) {
	switch {
	case len(args) == 2 && !all:
		return args[0], args[1], nil
	case len(args) == 1 && all:
		return "", args[0], nil
	}
	return "", "", exit.Usagef("name a log, or --all")
}

// parseKeep reads a retention: a Go duration, or days as in 90d; forever is 0.
func parseKeep(text string) (time.Duration, error) {
	if text == "forever" {
		return 0, nil
	}
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); err == nil && n == 1 && fmt.Sprintf("%dd", days) == text && days > 0 && days < 1e5 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	keep, err := time.ParseDuration(text)
	if err != nil || keep <= 0 {
		return 0, exit.Usagef("retention %q: want days as in 90d, a duration as in 12h, or forever", text)
	}
	return keep, nil
}

func (a *app) policiesCommand(short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Short: short,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), a.writePolicies)
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) writePolicies(ctx context.Context, c *client.Client) error {
	st, err := c.ArchiveStatus(ctx)
	if err != nil {
		return err
	}
	list, rows := []map[string]any{}, [][]string{}
	for _, p := range st.Policies {
		name, keep := p.Log, "forever"
		if p.LogID == 0 {
			name = "(every log)"
		}
		if p.Keep > 0 {
			keep = p.Keep.String()
		}
		list = append(list, map[string]any{"log": p.Log, "log_id": uint64(p.LogID), "keep_seconds": int64(p.Keep / time.Second), "hold": p.Hold})
		rows = append(rows, []string{name, keep, p.Hold})
	}
	if a.format == "json" {
		return a.writeJSON(map[string]any{"policies": list, "lock_seconds": int64(st.Lock / time.Second), "tombstones": tombstoneList(st.Tombstones)})
	}
	if err := a.writeTable([]string{"LOG", "KEPT", "HOLD"}, rows); err != nil {
		return err
	}
	if st.Lock > 0 {
		if _, err := fmt.Fprintf(a.out, "sealed fragments are locked for %v where that is offered\n", st.Lock); err != nil {
			return err
		}
	}
	for _, t := range st.Tombstones {
		if _, err := fmt.Fprintln(a.out, "erased:", tombstoneText(t)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) manifestCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "manifest", Short: "Rebuild a lost manifest"}
	var f archiveFlags
	rebuild := &cobra.Command{
		Use:   "rebuild",
		Short: "Make a manifest of what the fragments say, when every target has lost it",
		Long: `Make a manifest of what the fragments say of themselves, signed anew, when no target has one any
more. Every object is read and opened. The service must be stopped. Retention and holds are lost
with the old manifest: everything is under hold until ` + "`logcore hold release --all`" + `.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.fill(); err != nil {
				return err
			}
			return a.rebuildManifest(cmd.Context(), f)
		},
	}
	f.add(rebuild, "directory of a development service")
	a.outputFlag(rebuild)
	a.progressFlag(rebuild)
	cmd.AddCommand(rebuild)
	return cmd
}

func (a *app) rebuildManifest(ctx context.Context, f archiveFlags) error {
	ring, err := tiering.LoadKeyFile(f.key)
	if err != nil {
		return err
	}
	targets, err := roles.OpenTargets(ctx, f.targets, quiet(a))
	if err != nil {
		return err
	}
	defer targets.Close()
	if err := targets.CheckNames(ctx); err != nil {
		return err
	}
	shards := []logcore.ShardID{0} // of an archive without any key there is nothing to rebuild: Salvage says so
	cluster, found, err := tiering.Shards(ctx, targets.All, [16]byte{})
	if err == nil {
		shards = found
	}
	var reports []tiering.SalvageReport
	var whole error
	for _, shard := range shards {
		m := a.newMeter()
		r, err := tiering.Salvage(ctx, tiering.ReaderOptions{Targets: targets.All, Keys: ring, Cluster: cluster, Shard: shard, Logger: quiet(a)}, func(p tiering.SalvageReport) {
			m.update("rebuild: shard %d, %d objects, %s read", shard, p.Objects, sizeText(p.Bytes))
		})
		m.done()
		switch {
		case errors.Is(err, logcore.ErrInvalid):
			whole = exit.With(exit.Usage, err) // it has its manifest
		case err != nil:
			return targets.Explain(fmt.Errorf("shard %d: %w", shard, err))
		default:
			reports = append(reports, r)
		}
	}
	if len(reports) == 0 {
		return targets.Explain(whole)
	}
	return a.writeRebuilt(reports)
}

func (a *app) writeRebuilt(reports []tiering.SalvageReport) error {
	var list []map[string]any
	var fields []field
	var missing []string
	for _, r := range reports {
		gaps, unusable := []string{}, []string{}
		for _, g := range r.Gaps {
			gaps = append(gaps, fmt.Sprintf("%d to %d", g.First, g.Last))
			missing = append(missing, fmt.Sprintf("LSN %d to %d of shard %d", g.First, g.Last, r.Shard))
		}
		for _, p := range r.Unusable {
			unusable = append(unusable, p.String())
		}
		list = append(list, map[string]any{"shard": uint32(r.Shard), "record": r.Record, "epoch": r.Epoch, "first_lsn": uint64(r.First), "covered_lsn": uint64(r.Covered), "objects": r.Objects, "superseded": r.Superseded,
			"fragments": r.Fragments, "bytes": r.Bytes, "gaps": gaps, "unusable": unusable, "silent": append([]string{}, r.Silent...)})
		fields = append(fields, field{fmt.Sprintf("shard %d", r.Shard), fmt.Sprintf("rebuilt from %d fragments of %d objects, signed anew as record %d", r.Fragments, r.Objects, r.Record)},
			field{"covers", fmt.Sprintf("LSN %d to %d", r.First, r.Covered)}, field{"lost with the old one", "retention, holds, the code: everything is under hold until you release it"})
		for _, g := range gaps {
			fields = append(fields, field{"missing", "LSN " + g})
		}
		for _, s := range append(unusable, r.Silent...) {
			fields = append(fields, field{"not used", s})
		}
	}
	err := a.writeRebuiltAs(list, fields)
	if err == nil && len(missing) > 0 {
		err = exit.With(exit.Integrity, fmt.Errorf("entries are missing: %s", strings.Join(missing, ", ")))
	}
	return err
}

func (a *app) writeRebuiltAs(list []map[string]any, fields []field) error {
	if a.format == "json" {
		return a.writeJSON(list)
	}
	return a.writeFields(fields)
}

func (a *app) keyPublicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "public FILE",
		Short: "Print the public keys that verify the manifest; give them to auditors",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, err := tiering.LoadKeyFile(args[0])
			if err != nil {
				return err
			}
			list, rows := []map[string]string{}, [][]string{}
			for _, id := range ring.IDs() {
				public, err := tiering.SigningKey(cmd.Context(), ring, id)
				if err != nil {
					return err
				}
				list = append(list, map[string]string{"key_id": id.String(), "public_key": public.String()})
				rows = append(rows, []string{id.String(), public.String()})
			}
			if a.format == "json" {
				return a.writeJSON(list)
			}
			return a.writeTable([]string{"KEY", "PUBLIC KEY"}, rows)
		},
	}
	a.outputFlag(cmd)
	return cmd
}
