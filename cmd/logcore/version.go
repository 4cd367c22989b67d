package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// readVersion reads what the Go toolchain wrote into the binary.
func readVersion() versionInfo {
	v := versionInfo{Version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
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
