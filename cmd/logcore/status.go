package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

type shardJSON struct {
	Shard        uint32      `json:"shard"`
	Term         uint64      `json:"term"`
	FirstLSN     logcore.LSN `json:"first_lsn"`
	LastLSN      logcore.LSN `json:"last_lsn"`
	Committed    logcore.LSN `json:"committed_lsn"`
	Archived     logcore.LSN `json:"archived_lsn"`
	ArchiveLagMs int64       `json:"archive_lag_ms"`
	Segments     uint64      `json:"segments"`
	HotBytes     uint64      `json:"hot_bytes"`
	Error        string      `json:"error,omitempty"`
}

type statusJSON struct {
	Cluster     string      `json:"cluster"`
	Version     string      `json:"version"`
	Healthy     bool        `json:"healthy"`
	Problems    []string    `json:"problems"`
	Shards      []shardJSON `json:"shards"`
	Logs        uint64      `json:"logs"`
	Corruptions uint64      `json:"corruptions"`
	UptimeMs    int64       `json:"uptime_ms"`

	Archive *archiveJSON `json:"archive,omitempty"`
}

type archiveJSON struct {
	Code         string             `json:"code"`
	Objects      uint64             `json:"objects"`
	Recoding     uint64             `json:"objects_to_recode"`
	RawBytes     uint64             `json:"raw_bytes"`
	StoredBytes  uint64             `json:"stored_bytes"`
	RPOMs        int64              `json:"rpo_ms"`
	RPOAllowedMs int64              `json:"rpo_allowed_ms"`
	PublicKey    string             `json:"public_key"`
	CostPerDay   float64            `json:"cost_per_day"`
	Costs        map[string]costDay `json:"costs"`
	Unpriced     []string           `json:"targets_without_prices"`
}

type costDay struct {
	Storage  float64 `json:"storage"`
	Requests float64 `json:"requests"`
	Egress   float64 `json:"egress"`
}

func archiveOf(st client.ArchiveStatus) *archiveJSON {
	out := &archiveJSON{Code: fmt.Sprintf("%d+%d", st.K, st.M), Objects: st.Objects, Recoding: st.Recoding, RawBytes: st.RawBytes, StoredBytes: st.StoredBytes,
		RPOMs: st.RPO.Milliseconds(), RPOAllowedMs: st.RPOAllowed.Milliseconds(), PublicKey: st.PublicKey, Costs: map[string]costDay{}, Unpriced: []string{}}
	for _, c := range st.Costs {
		if !c.Priced {
			out.Unpriced = append(out.Unpriced, c.Target)
			continue
		}
		out.Costs[c.Target] = costDay{c.Storage, c.Requests, c.Egress}
		out.CostPerDay += c.Storage + c.Requests + c.Egress
	}
	return out
}

// fields describes the archive for people.
func (j *archiveJSON) fields() []field {
	code := j.Code
	if j.Recoding > 0 {
		code += fmt.Sprintf(", %d objects still to be coded anew", j.Recoding)
	}
	var storage, requests, egress float64
	for _, c := range j.Costs {
		storage, requests, egress = storage+c.Storage, requests+c.Requests, egress+c.Egress
	}
	cost := fmt.Sprintf("%.4f a day: storage %.4f, requests %.4f, egress %.4f", j.CostPerDay, storage, requests, egress)
	switch {
	case len(j.Costs) == 0:
		cost = "not known: give prices in the targets' URLs (storage=, puts=, gets=, egress=)"
	case len(j.Unpriced) > 0:
		cost += "; without prices: " + strings.Join(j.Unpriced, ", ")
	}
	return []field{{"archive code", code}, {"archive size", fmt.Sprintf("%d objects, %s stored for %s of entries", j.Objects, sizeText(j.StoredBytes), sizeText(j.RawBytes))},
		{"archive RPO", fmt.Sprintf("%d ms in the last minute, %d ms allowed", j.RPOMs, j.RPOAllowedMs)}, {"archive cost", cost}}
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the service is; exit code 5 when it is not well",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				st, err := c.Status(ctx)
				if err != nil {
					return err
				}
				// Of a service without an archive, or one that is held up, the rest is shown.
				var archive *archiveJSON
				if of, err := c.ArchiveStatus(ctx); err == nil {
					archive = archiveOf(of)
				}
				if err := a.writeStatus(st, archive); err != nil {
					return err
				}
				if !st.Healthy {
					return exit.With(exit.Unhealthy, fmt.Errorf("the service at %s is not well: %d problems, listed above", a.addr, len(st.Problems)))
				}
				return nil
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) writeStatus(st client.Status, archive *archiveJSON) error {
	if a.format == "json" {
		out := statusJSON{Cluster: st.Cluster, Version: st.Version, Healthy: st.Healthy, Problems: append([]string{}, st.Problems...),
			Shards: []shardJSON{}, Logs: st.Logs, Corruptions: st.Corruptions, UptimeMs: st.Uptime.Milliseconds(), Archive: archive}
		for _, s := range st.Shards {
			out.Shards = append(out.Shards, shardJSON{uint32(s.Shard), s.Term, s.FirstLSN, s.LastLSN, s.Committed, s.Archived,
				s.ArchiveLag.Milliseconds(), s.Segments, s.HotBytes, s.Error})
		}
		return a.writeJSON(out)
	}
	fields := []field{{"healthy", fmt.Sprint(st.Healthy)}}
	for _, p := range st.Problems {
		fields = append(fields, field{"problem", p})
	}
	fields = append(fields, field{"cluster", st.Cluster}, field{"version", st.Version}, field{"up for", st.Uptime.Round(time.Second).String()},
		field{"logs", fmt.Sprint(st.Logs)}, field{"corruptions found", fmt.Sprint(st.Corruptions)})
	for _, s := range st.Shards {
		name := fmt.Sprintf("shard %d ", s.Shard)
		fields = append(fields,
			field{name + "LSNs", fmt.Sprintf("%d to %d, committed %d, term %d", s.FirstLSN, s.LastLSN, s.Committed, s.Term)},
			field{name + "archived", fmt.Sprintf("to %d, behind by %v", s.Archived, s.ArchiveLag)},
			field{name + "hot tier", fmt.Sprintf("%d segments, %s", s.Segments, sizeText(s.HotBytes))})
		if s.Error != "" {
			fields = append(fields, field{name + "error", s.Error})
		}
	}
	if archive != nil {
		fields = append(fields, archive.fields()...)
	}
	return a.writeFields(fields)
}
