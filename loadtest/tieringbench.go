package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/loadtest/tieringbench"
)

func tieringBenchCommand() *cobra.Command {
	o := tieringbench.Options{}
	var verbose bool
	c := &cobra.Command{
		Use:   "tiering-bench --dir DIR --logcore bin/logcore",
		Short: "Measure the archive tier: JSON lines on stdout, a table on stderr",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelError
			if verbose {
				level = slog.LevelInfo
			}
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			o.Out, o.Table = cmd.OutOrStdout(), os.Stderr
			fmt.Fprintf(os.Stderr, "about %v\n", o.Expected().Round(10*time.Second))
			measured, err := tieringbench.Run(cmd.Context(), o)
			if err != nil {
				return codedError{exitNotDone, err}
			}
			if err := figures.Missed(measured); err != nil {
				return codedError{exitWrong, err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", ".cache/bench-tiering", "directory to work in")
	f.StringVar(&o.Logcore, "logcore", "bin/logcore", "the logcore binary")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds of what is compared")
	f.DurationVar(&o.RPO, "rpo", 5*time.Minute, "how long the RPO is measured")
	f.IntVar(&o.Rate, "rate", 5000, "appends a second meanwhile")
	f.DurationVar(&o.Slow, "slow", 300*time.Millisecond, "what one gateway adds to every round trip meanwhile")
	f.StringSliceVar(&o.Only, "only", nil, "parts to run: "+strings.Join(tieringbench.Parts(), ", ")+"; empty for all")
	f.BoolVar(&verbose, "verbose", false, "log what the archiver does")
	return c
}
