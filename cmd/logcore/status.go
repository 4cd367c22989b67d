package main

import (
	"context"
	"fmt"
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
				if err := a.writeStatus(st); err != nil {
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

func (a *app) writeStatus(st client.Status) error {
	if a.format == "json" {
		out := statusJSON{Cluster: st.Cluster, Version: st.Version, Healthy: st.Healthy, Problems: append([]string{}, st.Problems...),
			Shards: []shardJSON{}, Logs: st.Logs, Corruptions: st.Corruptions, UptimeMs: st.Uptime.Milliseconds()}
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
	return a.writeFields(fields)
}
