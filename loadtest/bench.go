package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/loadtest/replbench"
)

func benchCommand() *cobra.Command {
	o := replbench.Options{}
	c := &cobra.Command{
		Use:   "bench --dir DIR",
		Short: "Measure the replicated append path beside its limits: JSON lines on standard output, a table on standard error",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Dir == "" {
				return errors.New("--dir is missing: want a directory on the disk to measure")
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Echo = []string{self, "echo"}
			o.Figures, o.Log = cmd.OutOrStdout(), os.Stderr
			if err := replbench.Run(cmd.Context(), o); err != nil {
				return codedError{exitNotDone, err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory on the disk to measure")
	f.StringVar(&o.Bin, "bin", "bin", "directory of the binaries logsvc and logcore")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds of each cell")
	f.DurationVar(&o.Turn, "seconds", 2*time.Second, "measured time of a turn")
	f.IntVar(&o.Kills, "kills", 50, "how often the leader is killed; 0 leaves that out")
	f.StringSliceVar(&o.Cells, "cells", nil, "cells to run, of "+strings.Join(replbench.Cells, ", ")+" (default all)")
	return c
}

// echoCommand is the bench's own child.
func echoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "echo", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return replbench.ServeEcho(cmd.Context(), cmd.OutOrStdout())
		},
	}
}
