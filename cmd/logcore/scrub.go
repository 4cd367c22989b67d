package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/tiering"
)

type scrubJSON struct {
	Objects   uint64   `json:"objects"`
	Fragments uint64   `json:"fragments"`
	Bytes     uint64   `json:"bytes"`
	Money     float64  `json:"money"`
	Damaged   uint64   `json:"damaged"`
	Repaired  uint64   `json:"repaired"`
	Unread    uint64   `json:"unread"`
	Next      uint64   `json:"next_lsn"`
	Complete  bool     `json:"complete"`
	Problems  []string `json:"problems"`

	Shards []scrubJSON `json:"shards,omitempty"` // when they are several; Shard and Next are of each then
	Shard  uint32      `json:"shard"`
}

func (a *app) scrubCommand() *cobra.Command {
	var s steering
	var bytesMax, from uint64
	var money float64
	var shard uint32
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Read what the targets hold, within a budget, and repair what is damaged",
		Long: `Read fragments from all targets, each against its checksums and the manifest, those of an object
against each other, and write anew what is damaged. It goes on where the last one stopped; a
running service does some of it every hour. --bytes and --money bound what is read; money counts
by the prices in the targets' URLs. Exit code 6 when damage was found that could not be repaired.`,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !(money >= 0) || bytesMax > 1<<62 {
			return exit.Usagef("--bytes %d --money %g: want budgets of 0 (no bound) or more", bytesMax, money)
		}
		one := cmd.Flags().Changed("shard")
		if from != 0 && !one {
			return exit.Usagef("--from is an LSN of one shard: say with --shard which")
		}
		r := scrubbing{bytes: bytesMax, money: money}
		err := s.run(cmd, a, func(ctx context.Context, c *client.Client) error {
			n, err := c.Shards(ctx)
			if err != nil {
				return err
			}
			for i := range n {
				at := logcore.ShardID(i)
				if one && at != logcore.ShardID(shard) {
					continue
				}
				err := r.scrub(n-i, one, func(bytes uint64, money float64) (client.ScrubReport, error) {
					return c.Scrub(ctx, at, bytes, money, logcore.LSN(from))
				})
				if err != nil {
					return err
				}
			}
			if one && len(r.reports) == 0 {
				return exit.Usagef("--shard %d: the service has %d shards, from 0 on", shard, n)
			}
			return nil
		}, func(ctx context.Context, archiver *tiering.Archiver) error {
			at := archiver.Status().Shard
			if one && at != logcore.ShardID(shard) {
				return nil
			}
			return r.scrub(s.shards-int(at), one, func(bytes uint64, money float64) (client.ScrubReport, error) {
				return scrubOffline(ctx, archiver, tiering.ScrubOptions{Budget: tiering.ScrubBudget{Bytes: int64(bytes), Money: money}, From: logcore.LSN(from)})
			})
		})
		if err != nil && len(r.reports) == 0 {
			return err
		}
		if err := errors.Join(a.writeScrub(r.reports), err); err != nil {
			return err
		}
		if left := r.left(); left > 0 {
			return exit.With(exit.Integrity, fmt.Errorf("%d damaged fragments could not be repaired", left))
		}
		return nil
	}
	s.add(a, cmd)
	cmd.Flags().Uint64Var(&bytesMax, "bytes", 0, "read at most so many bytes; 0 for no bound")
	cmd.Flags().Float64Var(&money, "money", 0, "read at most what costs so much; 0 for no bound")
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at this LSN; 0 where the last scrub stopped")
	cmd.Flags().Uint32Var(&shard, "shard", 0, "read this shard's archive; without it those of all, each with its share of the budget")
	a.outputFlag(cmd)
	return cmd
}

// scrubbing is a scrub of one shard after the other, within one budget: what one leaves of its share is the next ones'.
type scrubbing struct {
	bytes   uint64  // left; 0 = no bound
	money   float64 // left; 0 = no bound
	reports []client.ScrubReport
}

// scrub does one shard, with shards to go, this one included.
func (r *scrubbing) scrub(shards int, alone bool, do func(bytes uint64, money float64) (client.ScrubReport, error)) error {
	if alone {
		shards = 1
	}
	bytes, money := r.bytes/uint64(shards), r.money/float64(shards)
	report, err := do(bytes, money)
	if err != nil {
		return err
	}
	r.reports = append(r.reports, report)
	if r.bytes > 0 {
		r.bytes = max(r.bytes-min(report.Bytes, r.bytes), 1) // 0 would be no bound
	}
	if r.money > 0 {
		r.money = max(r.money-report.Money, 1e-9)
	}
	return nil
}

// left counts the damage that is still there.
func (r *scrubbing) left() (n uint64) {
	for _, one := range r.reports {
		n += one.Damaged - one.Repaired
	}
	return n
}

func scrubOffline(ctx context.Context, archiver *tiering.Archiver, o tiering.ScrubOptions) (client.ScrubReport, error) {
	r, err := archiver.Scrub(ctx, o)
	out := client.ScrubReport{Objects: uint64(r.Objects), Fragments: uint64(r.Fragments), Bytes: uint64(r.Bytes), Money: r.Money, Damaged: uint64(r.Damaged),
		Repaired: uint64(r.Repaired), Unread: uint64(r.Unread), Next: r.Next, Complete: r.Complete, Shard: archiver.Status().Shard}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, p.String())
	}
	return out, err
}

func scrubOf(r client.ScrubReport) scrubJSON {
	return scrubJSON{Objects: r.Objects, Fragments: r.Fragments, Bytes: r.Bytes, Money: r.Money, Damaged: r.Damaged, Repaired: r.Repaired, Unread: r.Unread,
		Next: uint64(r.Next), Complete: r.Complete, Problems: append([]string{}, r.Problems...), Shard: uint32(r.Shard)}
}

func (a *app) writeScrub(reports []client.ScrubReport) error {
	sum := client.ScrubReport{Complete: true}
	for _, r := range reports {
		sum.Objects, sum.Fragments, sum.Bytes, sum.Money = sum.Objects+r.Objects, sum.Fragments+r.Fragments, sum.Bytes+r.Bytes, sum.Money+r.Money
		sum.Damaged, sum.Repaired, sum.Unread = sum.Damaged+r.Damaged, sum.Repaired+r.Repaired, sum.Unread+r.Unread
		sum.Complete, sum.Problems = sum.Complete && r.Complete, append(sum.Problems, r.Problems...)
	}
	if len(reports) == 1 {
		sum.Next, sum.Shard = reports[0].Next, reports[0].Shard
	}
	if a.format == "json" {
		out := scrubOf(sum)
		if len(reports) > 1 {
			for _, r := range reports {
				out.Shards = append(out.Shards, scrubOf(r))
			}
		}
		return a.writeJSON(out)
	}
	fields := []field{}
	for _, p := range sum.Problems {
		fields = append(fields, field{"problem", p})
	}
	fields = append(fields, field{"read", fmt.Sprintf("%d objects, %d fragments, %s", sum.Objects, sum.Fragments, sizeText(sum.Bytes))}, field{"cost", fmt.Sprintf("%.4f", sum.Money)},
		field{"damaged", fmt.Sprintf("%d, %d repaired", sum.Damaged, sum.Repaired)}, field{"not read", fmt.Sprint(sum.Unread)})
	for _, r := range reports {
		name := "scrub"
		if len(reports) > 1 {
			name = fmt.Sprintf("shard %d", r.Shard)
		}
		end := fmt.Sprintf("the next one begins at %d", r.Next)
		if r.Complete {
			end = "came to the end of the archive"
		}
		fields = append(fields, field{name, end})
	}
	return a.writeFields(fields)
}
