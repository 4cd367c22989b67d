package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
)

type targetJSON struct {
	Name         string   `json:"name"`
	Provider     string   `json:"provider"`
	Region       string   `json:"region"`
	URL          string   `json:"url"`
	Healthy      bool     `json:"healthy"`
	Error        string   `json:"error,omitempty"`
	Fragments    uint64   `json:"fragments"`
	Bytes        uint64   `json:"bytes"`
	Capabilities []string `json:"capabilities"`
}

func (a *app) targetCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "target", Short: "Show the buckets of the archive"}
	list := &cobra.Command{
		Use:   "ls",
		Short: "List the targets, their health and what they hold",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				targets, err := c.Targets(ctx)
				if err != nil {
					return err
				}
				return a.writeTargets(targets)
			})
		},
	}
	a.connectFlags(list)
	a.outputFlag(list)
	cmd.AddCommand(list)
	return cmd
}

func (a *app) writeTargets(targets []client.Target) error {
	list, rows := []targetJSON{}, [][]string{}
	for _, t := range targets {
		list = append(list, targetJSON{t.Name, t.Provider, t.Region, t.URL, t.Healthy, t.Error, t.Fragments, t.Bytes, append([]string{}, t.Capabilities...)})
		state := "healthy"
		if !t.Healthy {
			state = t.Error
		}
		rows = append(rows, []string{t.Name, t.Provider, t.Region, fmt.Sprint(t.Fragments), sizeText(t.Bytes), strings.Join(t.Capabilities, ","), state, t.URL})
	}
	if a.format == "json" {
		return a.writeJSON(list)
	}
	return a.writeTable([]string{"NAME", "PROVIDER", "REGION", "FRAGMENTS", "SIZE", "CAPABILITIES", "STATE", "URL"}, rows)
}
