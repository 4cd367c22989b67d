package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/roles"
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
	cmd := &cobra.Command{Use: "target", Short: "Show the buckets of the archive, add, evacuate, remove and replace them"}
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
	cmd.AddCommand(list, a.targetAddCommand(), a.targetEvacuateCommand(), a.targetRemoveCommand(), a.targetReplaceCommand())
	return cmd
}

func (a *app) targetReplaceCommand() *cobra.Command {
	var f archiveFlags
	cmd := &cobra.Command{
		Use:   "replace NAME",
		Short: "Put an empty bucket in the place of a lost target",
		Long: `Put an empty bucket in the place of a lost target, under its name and URL (a directory
is made). What it held is lost for good; the service fills it again from the others,
also when it runs already. A target that only does not answer needs none of this.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.dir == "" && len(f.targets) == 0 {
				return exit.Usagef("give --dir DIR of a development service, or all --targets URL,...")
			}
			if f.dir != "" {
				if err := f.fill(); err != nil {
					return err
				}
			}
			targets, err := roles.OpenTargets(cmd.Context(), f.targets, quiet(a))
			if err != nil {
				return err
			}
			defer targets.Close()
			if err := roles.ReplaceTarget(cmd.Context(), targets, args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "target %s is replaced; a running service fills it by itself\n", args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory of a development service")
	cmd.Flags().Var(config.Strings(&f.targets), "targets", "all buckets of the archive as URLs, instead of --dir")
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
