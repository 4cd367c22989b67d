package main

import (
	"github.com/spf13/cobra"

	"github.com/logcore/logcore/internal/roles"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		RunE: func(*cobra.Command, []string) error {
			v := roles.ReadBuildInfo()
			if a.format == "json" {
				return a.writeJSON(v)
			}
			fields := []field{{"version", v.Version}, {"go", v.Go}}
			if v.Revision != "" {
				fields = append(fields, field{"revision", v.Revision})
			}
			return a.writeFields(fields)
		},
	}
	a.outputFlag(cmd)
	return cmd
}
