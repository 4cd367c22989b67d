package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/tiering"
)

type verifyFlags struct {
	archiveFlags
	repair bool
	public []string
}

// verifyResult is what verify read and found. Problems are damage; notices are not.
type verifyResult struct {
	HotLogBytes  int64    `json:"hot_log_bytes"`
	ArchiveBytes int64    `json:"archive_bytes"`
	Bytes        int64    `json:"bytes"`
	Objects      int      `json:"objects"`
	Fragments    int      `json:"fragments"`
	Problems     []string `json:"problems"`
	Notices      []string `json:"notices"`
	Repaired     []string `json:"repaired"`

	complete bool // every target was read
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read and check every byte of the hot log and the archive, offline",
		Long: `Read and check every byte: with --dir, the hot log, the state files and the targets
of a development service that does not run; with --targets and --key, an archive.
Exit code 6 and the place when something is damaged; what a lost target should hold
is a notice. --repair puts back what another copy holds.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.public) > 0 {
				return a.audit(cmd.Context(), f)
			}
			if err := f.fill(); err != nil {
				return err
			}
			return a.verify(cmd.Context(), f)
		},
	}
	f.add(cmd, "directory of a development service")
	cmd.Flags().BoolVar(&f.repair, "repair", false, "put back what is damaged from another copy")
	cmd.Flags().Var(config.Strings(&f.public), "public-key", "instead of the key: public keys (logcore key public) that must have signed the manifest; nothing is decrypted")
	a.outputFlag(cmd)
	a.progressFlag(cmd)
	return cmd
}

// audit verifies an archive without being able to read or forge anything.
func (a *app) audit(ctx context.Context, f verifyFlags) error {
	if f.dir != "" || f.key != "" || f.repair || len(f.targets) == 0 {
		return exit.Usagef("--public-key goes with --targets, and not with --dir, --key and --repair")
	}
	var keys tiering.PublicKeys
	for _, text := range f.public {
		k, err := tiering.ParsePublicKey(text)
		if err != nil {
			return exit.With(exit.Usage, err)
		}
		keys = append(keys, k)
	}
	return a.verifyWith(ctx, f, keys)
}

func (a *app) verify(ctx context.Context, f verifyFlags) error {
	ring, err := tiering.LoadKeyFile(f.key)
	if err != nil {
		return err
	}
	return a.verifyWith(ctx, f, ring)
}

func (a *app) verifyWith(ctx context.Context, f verifyFlags, ring tiering.KeyProvider) error {
	targets, err := roles.OpenTargets(ctx, f.targets, quiet(a))
	if err != nil {
		return err
	}
	defer targets.Close()
	out := &verifyResult{Problems: []string{}, Notices: []string{}, Repaired: []string{}}
	m := a.newMeter()
	defer m.done()
	// The hot log first: what is repaired there comes from the archive as it is.
	if f.dir != "" {
		if err := a.verifyDir(ctx, f, targets, ring, out, m); err != nil {
			return err
		}
	}
	if err := a.verifyArchive(ctx, f, targets, ring, out, m); err != nil {
		return targets.Explain(err)
	}
	m.done()
	out.Bytes = out.HotLogBytes + out.ArchiveBytes
	if err := a.writeVerified(out); err != nil {
		return err
	}
	if len(out.Problems) > 0 {
		return exit.With(exit.Integrity, fmt.Errorf("%d problems found, listed above%s", len(out.Problems), repairHint(f)))
	}
	return nil
}

// repairHint says what to do about damage.
func repairHint(f verifyFlags) string {
	if f.repair {
		return ": no other copy holds what is missing"
	}
	return ": --repair puts back what another copy holds"
}

// found notes a problem.
func (r *verifyResult) found(err error) {
	r.Problems = append(r.Problems, err.Error())
}

// verifyDir checks what a service keeps on its own disk: the cluster file and, of every shard, the Raft
// state and the hot log. A hot tier that is gone is a notice: the archive has its own say. One shard of several that is gone is a
// problem: the service does not start without it.
func (a *app) verifyDir(ctx context.Context, f verifyFlags, targets *roles.Targets, keys tiering.KeyProvider, out *verifyResult, m *meter) error {
	d, err := roles.OpenDevDir(f.dir)
	if err != nil {
		return err
	}
	shards := d.Shards()
	if len(shards) == 0 {
		out.Notices = append(out.Notices, fmt.Sprintf("%s: no hot log", d.ShardDir(0)))
		return nil
	}
	if _, err := cluster.Read(d.LogServiceDir()); err != nil {
		out.found(err)
	}
	for _, shard := range d.MissingShards(ctx, targets) {
		out.found(fmt.Errorf("%s: no hot log: shard %d of this member is lost: restore from the archive, or replace the member", d.ShardDir(shard), shard))
	}
	for _, shard := range shards {
		if err := a.verifyShard(ctx, f, d, shard, targets, keys, out, m); err != nil {
			return err
		}
	}
	return nil
}

// verifyShard checks one shard's part of it.
func (a *app) verifyShard(ctx context.Context, f verifyFlags, d roles.DevDir, shard logcore.ShardID, targets *roles.Targets, keys tiering.KeyProvider, out *verifyResult, m *meter) error {
	if err := replication.CheckState(d.ShardDir(shard)); err != nil {
		out.found(err)
	}
	progress := func(done, total int64) {
		m.update("verify: hot log of shard %d, %d of %d MiB", shard, done>>20, total>>20)
	}
	if f.repair {
		return a.repairHotLog(ctx, d, shard, targets, keys, out, progress)
	}
	check, err := inspect.Check(ctx, inspect.CheckOptions{Dir: d.ShardDir(shard), LogOf: catalog.LogOf, Progress: progress})
	if err != nil {
		return err
	}
	out.HotLogBytes += check.Bytes
	for _, p := range append(check.Problems, check.Rotten...) {
		out.found(p)
	}
	out.Notices = append(out.Notices, check.Notes...)
	return nil
}

func (a *app) repairHotLog(ctx context.Context, d roles.DevDir, shard logcore.ShardID, targets *roles.Targets, keys tiering.KeyProvider, out *verifyResult, progress func(done, total int64)) error {
	report, err := recovery.RepairHotLog(ctx, recovery.RepairOptions{Dir: d.ShardDir(shard), Shard: shard, Progress: progress, Logger: quiet(a),
		Archive: func(ctx context.Context) (*tiering.Reader, error) {
			return tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: targets.All, Keys: keys, Shard: shard, Logger: quiet(a)})
		}})
	out.HotLogBytes += report.Bytes
	for _, r := range report.Repaired {
		out.Repaired = append(out.Repaired, fmt.Sprintf("%s: LSN %d to %d, from the archive up to LSN %d", r.File, r.First, r.Last, r.FromArchive))
	}
	if errors.Is(err, logcore.ErrCorrupt) {
		out.found(err)
		return nil
	}
	return err
}

func (a *app) writeVerified(r *verifyResult) error {
	if a.format == "json" {
		return a.writeJSON(r)
	}
	fields := []field{{"read", fmt.Sprintf("%d bytes: %d of the hot log, %d of the archive (%d objects, %d fragments)", r.Bytes, r.HotLogBytes, r.ArchiveBytes, r.Objects, r.Fragments)}}
	for _, p := range r.Repaired {
		fields = append(fields, field{"repaired", p})
	}
	for _, n := range r.Notices {
		fields = append(fields, field{"notice", n})
	}
	for _, p := range r.Problems {
		fields = append(fields, field{"PROBLEM", p})
	}
	switch {
	case len(r.Problems) > 0:
	case r.complete:
		fields = append(fields, field{"result", "every byte is what was written"})
	default:
		fields = append(fields, field{"result", "every byte that was read is what was written; not every target could be read"})
	}
	return a.writeFields(fields)
}
