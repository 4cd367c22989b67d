package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/loadtest/pagebench"
)

func pageBenchCommand() *cobra.Command {
	o := pagebench.Options{}
	var verbose bool
	var profile string
	c := &cobra.Command{
		Use:   "pageserver-bench --dir DIR",
		Short: "Measure the page server: JSON lines on stdout, a table on stderr",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelError
			if verbose {
				level = slog.LevelInfo
			}
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			o.Out, o.Table = cmd.OutOrStdout(), os.Stderr
			fmt.Fprintf(os.Stderr, "about %v\n", o.Expected().Round(10*time.Second))
			if profile != "" {
				f, err := os.Create(profile)
				if err != nil {
					return err
				}
				defer f.Close()
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
				defer pprof.StopCPUProfile()
			}
			measured, err := pagebench.Run(cmd.Context(), o)
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
	f.StringVar(&o.Dir, "dir", ".cache/bench-pageserver", "directory to work in")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds of what is compared")
	f.DurationVar(&o.Skew, "skew", 90*time.Second, "how long pages are updated before reads are measured again")
	f.IntVar(&o.SkewRate, "skew-rate", 1000, "how many records a second pages are updated with; 15000 shows in 4 minutes what becomes of a store in an hour")
	f.StringSliceVar(&o.Only, "only", nil, "parts to run: "+strings.Join(pagebench.Parts(), ", ")+"; empty for all")
	f.StringVar(&profile, "cpu-profile", "", "file to write a profile of the processor's time to")
	f.BoolVar(&verbose, "verbose", false, "log what the page servers do")
	return c
}
