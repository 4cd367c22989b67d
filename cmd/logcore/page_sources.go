package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
)

type sourcesJSON struct {
	Server         string   `json:"server"`
	LogService     bool     `json:"log_service"`
	Archive        bool     `json:"archive"`
	ArchiveError   string   `json:"archive_error,omitempty"`
	ArchiveChecked string   `json:"archive_checked,omitempty"`
	Unreachable    []string `json:"unreachable_targets,omitempty"`
	MapRemembered  bool     `json:"map_remembered,omitempty"`
	Error          string   `json:"error,omitempty"`
}

func (a *app) pageSourcesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sources",
		Short: "Where page servers get entries from: the log service, the archive, and how these are",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				all, err := c.PageSources(ctx)
				if err != nil {
					return err
				}
				return a.writeSources(all)
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) writeSources(all []client.PageSources) error {
	list, rows := []sourcesJSON{}, [][]string{}
	for _, s := range all {
		one := sourcesJSON{Server: s.Server, LogService: s.LogService, Archive: s.Archive, ArchiveError: s.ArchiveError, Unreachable: s.Unreachable, MapRemembered: s.MapRemembered}
		logs, archive := "answers", "not read by this page server"
		if !s.LogService {
			logs = "does not answer"
		}
		if s.MapRemembered {
			logs = "has not answered since the start: what was had is served"
		}
		switch {
		case s.Archive && s.ArchiveError != "":
			archive = "can't be read"
		case s.Archive && s.ArchiveChecked.IsZero():
			archive = "not looked at yet"
		case s.Archive:
			archive = "can be read"
		}
		if !s.ArchiveChecked.IsZero() {
			one.ArchiveChecked = s.ArchiveChecked.UTC().Format(time.RFC3339)
		}
		why := s.ArchiveError
		if why == "" && len(s.Unreachable) > 0 {
			why = "targets that did not answer last: " + strings.Join(s.Unreachable, ", ")
		}
		if s.Err != nil {
			one.Error, logs, archive, why = s.Err.Error(), "unknown", "unknown", s.Err.Error()
		}
		list, rows = append(list, one), append(rows, []string{s.Server, logs, archive, why})
	}
	if a.format == "json" {
		return a.writeJSON(list)
	}
	return a.writeTable([]string{"PAGE SERVER", "LOG SERVICE", "ARCHIVE", "WHY"}, rows)
}
