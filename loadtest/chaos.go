package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/loadtest/replchaos"
)

func replicationChaosCommand() *cobra.Command {
	o := replchaos.Options{}
	c := &cobra.Command{
		Use:   "replication-chaos --dir DIR",
		Short: "Hurt a cluster of three real services under load, and check what it acknowledged (root)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Dir == "" {
				return errors.New("--dir is missing: want a directory with some GiB of room")
			}
			o.Log = os.Stderr
			rep, err := replchaos.Run(cmd.Context(), o)
			if rep.Kind != "" {
				_ = json.NewEncoder(cmd.OutOrStdout()).Encode(rep)
			}
			switch {
			case len(rep.Wrong) > 0:
				return codedError{exitWrong, errors.New(strings.Join(rep.Wrong, "\n  "))}
			case err != nil:
				return codedError{exitNotDone, err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "a directory is made in it for the nodes' file systems; removed at the end unless something was wrong")
	f.StringVar(&o.Bin, "bin", "bin", "directory of the binary logsvc")
	f.DurationVar(&o.Duration, "duration", 10*time.Minute, "how long the cluster is hurt")
	f.Uint64Var(&o.Seed, "seed", 0, "of the faults; 0: any, which is told")
	f.StringSliceVar(&o.Only, "only", nil, "faults to inject, as they are called in the messages; none: all")
	f.BoolVar(&o.Keep, "keep", false, "keep the directory whatever was found")
	return c
}
