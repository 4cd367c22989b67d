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
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/target"
)

// steering is a command about the archive: of a running service, through it, or with
// --offline of one that is stopped.
type steering struct {
	archiveFlags
	offline bool
	known   knownTarget
	shards  int // offline: how many there are
	// after is what is done offline once all shards' archives are changed; nil = nothing.
	after func() error
}

func (s *steering) add(a *app, cmd *cobra.Command) {
	a.connectFlags(cmd)
	s.archiveFlags.add(cmd, "with --offline: directory of a development service")
	cmd.Flags().BoolVar(&s.offline, "offline", false, "the service is stopped: work on the archive of --dir, or of --targets and --key")
}

// run does online through the service, or offline with an archiver of its own for each shard, one after the other.
func (s *steering) run(cmd *cobra.Command, a *app, online func(context.Context, *client.Client) error, offline func(context.Context, *tiering.Archiver) error) error {
	if !s.offline {
		if s.dir != "" || len(s.targets) > 0 || s.key != "" {
			return exit.Usagef("--dir, --targets and --key are for --offline; a running service is named with --addr")
		}
		timeout := a.timeout
		if !cmd.Flags().Changed("timeout") {
			timeout = 24 * time.Hour // moving an archive takes its time; who wants less says so
		}
		return a.onlineFor(cmd.Context(), timeout, online)
	}
	if err := s.fill(); err != nil {
		return err
	}
	ctx := cmd.Context()
	ring, err := tiering.LoadKeyFile(s.key)
	if err != nil {
		return err
	}
	targets, err := roles.OpenTargets(ctx, s.targets, quiet(a))
	if err != nil {
		return err
	}
	defer targets.Close()
	if err := targets.CheckNames(ctx); err != nil {
		return err
	}
	cluster, shards, err := tiering.Shards(ctx, targets.All, [16]byte{})
	if err != nil {
		return targets.Explain(err)
	}
	s.shards = int(shards[len(shards)-1]) + 1
	var done []logcore.ShardID
	for _, shard := range shards {
		err := tiering.Offline(ctx, tiering.Options{Targets: targets.All, Keys: ring, Cluster: cluster, Shard: shard, Logger: quiet(a)}, offline)
		if err != nil && len(shards) > 1 {
			err = &client.ShardError{Shard: shard, Done: done, Err: err}
		}
		if err != nil {
			return targets.Explain(err)
		}
		done = append(done, shard)
	}
	if s.after == nil {
		return nil
	}
	return s.after()
}

// knownTarget remembers whether any shard's archive has a target: one that lacks it, because adding it was interrupted, is no
// failure then.
type knownTarget struct {
	somewhere bool
	unknown   error
}

func (k *knownTarget) filter(err error) error {
	if errors.Is(err, tiering.ErrUnknownTarget) {
		k.unknown = err
		return nil
	}
	k.somewhere = k.somewhere || err == nil
	return err
}

func (k *knownTarget) err() error {
	if k.somewhere {
		return nil
	}
	return k.unknown
}

// serviceDir is where a service notes changes of its targets; empty when it is not known.
func (s *steering) serviceDir() (string, error) {
	if s.dir == "" {
		return "", nil
	}
	d, err := roles.OpenDevDir(s.dir)
	return d.LogServiceDir(), err
}

// refused gives what the archive says about policy and names the exit code of a usage error.
func refused(err error) error {
	if errors.Is(err, tiering.ErrPlacement) || errors.Is(err, tiering.ErrUnknownTarget) {
		return exit.With(exit.Usage, err)
	}
	return err
}

const configure = "%s; of a service with a configuration file put its URL there as well\n"

func (a *app) targetAddCommand() *cobra.Command {
	var s steering
	cmd := &cobra.Command{
		Use:   "add URL",
		Short: "Make an empty bucket a target of the archive",
		Long: `Make an empty bucket a target of the archive (a directory is made). The running service opens
it, with credentials that it finds itself; it gets the whole manifest, and fragments as the
placement says. Then another one can be evacuated or removed, or the code be made wider.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		spec, err := target.Parse(args[0])
		if err != nil {
			return exit.With(exit.Usage, err)
		}
		err = s.run(cmd, a, func(ctx context.Context, c *client.Client) error { return c.AddTarget(ctx, args[0]) },
			func(ctx context.Context, archiver *tiering.Archiver) error {
				return s.addOffline(ctx, archiver, args[0])
			})
		if err != nil {
			return refused(err)
		}
		_, err = fmt.Fprintf(a.out, configure, "target "+spec.Name+" is added")
		return err
	}
	s.add(a, cmd)
	return cmd
}

func (s *steering) addOffline(ctx context.Context, archiver *tiering.Archiver, url string) error {
	t, closeIt, err := roles.NewTarget(ctx, url, archiver.Status().Cluster)
	if err != nil {
		return err
	}
	defer closeIt()
	dir, err := s.serviceDir()
	if err != nil {
		return err
	}
	if dir != "" { // first: the service takes it in where this command does not come to it
		if err := roles.NoteTargetAdded(dir, url); err != nil {
			return err
		}
	}
	return archiver.AddTarget(ctx, t)
}

func (a *app) targetEvacuateCommand() *cobra.Command {
	var s steering
	cmd := &cobra.Command{
		Use:   "evacuate NAME",
		Short: "Move everything off a target; it stays one, for majorities",
		Long: `Move everything off a target, also one that is lost: its fragments are rebuilt on the others.
Refused when those can't carry the archive with no provider holding more than it may: add a
target first, or re-code.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.after = s.known.err
		wait := func(ctx context.Context, left func() (uint64, error)) error {
			m := a.newMeter()
			defer m.done()
			for {
				n, err := left()
				if err != nil || n == 0 {
					return err
				}
				m.update("evacuate %s: %d fragments are left", args[0], n)
				select {
				case <-time.After(200 * time.Millisecond):
				case <-ctx.Done():
					return fmt.Errorf("%w: %d fragments are still on %s; the evacuation goes on", ctx.Err(), n, args[0])
				}
			}
		}
		err := s.run(cmd, a, func(ctx context.Context, c *client.Client) error {
			return wait(ctx, func() (uint64, error) { return c.EvacuateTarget(ctx, args[0]) })
		}, func(ctx context.Context, archiver *tiering.Archiver) error {
			if err := archiver.Evacuate(ctx, args[0]); err != nil {
				return s.known.filter(err)
			}
			s.known.somewhere = true
			return wait(ctx, func() (uint64, error) { return uint64(archiver.Evacuated(args[0])), nil })
		})
		if err != nil {
			return refused(err)
		}
		_, err = fmt.Fprintf(a.out, "nothing that is needed is left on target %s\n", args[0])
		return err
	}
	s.add(a, cmd)
	a.progressFlag(cmd)
	return cmd
}

func (a *app) targetRemoveCommand() *cobra.Command {
	var s steering
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Evacuate a target and take it off the archive",
		Args:  cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.after = func() error {
			if err := s.known.err(); err != nil {
				return err
			}
			dir, err := s.serviceDir()
			if err != nil || dir == "" {
				return err
			}
			return roles.NoteTargetRemoved(dir, args[0])
		}
		err := s.run(cmd, a, func(ctx context.Context, c *client.Client) error { return c.RemoveTarget(ctx, args[0]) },
			func(ctx context.Context, archiver *tiering.Archiver) error {
				return s.known.filter(archiver.RemoveTarget(ctx, args[0]))
			})
		if err != nil {
			return refused(err)
		}
		_, err = fmt.Fprintf(a.out, "target %s is no part of the archive any more; take it out of the configuration too\n", args[0])
		return err
	}
	s.add(a, cmd)
	return cmd
}

func (a *app) recodeCommand() *cobra.Command {
	var s steering
	var k, m int
	var wait bool
	cmd := &cobra.Command{
		Use:   "recode --k K --m M",
		Short: "Make the archive one of K data and M parity fragments",
		Long: `Make the archive one of K data and M parity fragments, on K+M targets: new objects at once, what
is there little by little. Old fragments are collected once the new ones are named by the
manifest.`,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("k") || !cmd.Flags().Changed("m") {
			return exit.Usagef("--k and --m are required")
		}
		until := func(ctx context.Context, left func() (uint64, error)) error {
			for wait || s.offline {
				n, err := left()
				if err != nil || n == 0 {
					return err
				}
				select {
				case <-time.After(200 * time.Millisecond):
				case <-ctx.Done():
					return fmt.Errorf("%w: %d objects are still of another code; it goes on", ctx.Err(), n)
				}
			}
			return nil
		}
		err := s.run(cmd, a, func(ctx context.Context, c *client.Client) error {
			if err := c.Recode(ctx, k, m); err != nil {
				return err
			}
			return until(ctx, func() (uint64, error) {
				st, err := c.ArchiveStatus(ctx)
				return st.Recoding, err
			})
		}, func(ctx context.Context, archiver *tiering.Archiver) error {
			if err := archiver.SetCode(ctx, k, m); err != nil {
				return err
			}
			return until(ctx, func() (uint64, error) { return uint64(archiver.Recoding()), nil })
		})
		if err != nil {
			return refused(err)
		}
		_, err = fmt.Fprintf(a.out, "the archive is coded %d+%d\n", k, m)
		return err
	}
	s.add(a, cmd)
	cmd.Flags().IntVar(&k, "k", 0, "data fragments")
	cmd.Flags().IntVar(&m, "m", 0, "parity fragments: how many targets may be lost")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until everything is coded anew")
	return cmd
}
