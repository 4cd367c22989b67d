package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/loadtest/chaos"
)

// secondsPerKill is what a round takes about, to say how long a run will be.
const secondsPerKill = 5

func tieringChaosCommand() *cobra.Command {
	o := chaos.Options{}
	var verbose bool
	c := &cobra.Command{
		Use:   "tiering-chaos --dir DIR",
		Short: "Kill clouds under the archive tier and check that nothing is lost",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Seed == 0 {
				o.Seed = rand.Uint64N(1 << 48)
			}
			dir, err := filepath.Abs(o.Dir)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if o.Dir, err = os.MkdirTemp(dir, "run-"); err != nil {
				return err
			}
			defer os.RemoveAll(o.Dir)
			level := slog.LevelError
			if verbose {
				level = slog.LevelInfo
			}
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			o.Out = cmd.OutOrStdout()
			fmt.Fprintf(os.Stderr, "seed %d (repeat with --seed %d --kills %d), about %v\n", o.Seed, o.Seed, o.Kills, time.Duration(o.Kills*secondsPerKill)*time.Second)
			result, err := chaos.Run(cmd.Context(), o)
			fmt.Fprintf(os.Stderr, "%d kills in %.0f s: %d lost, %d wrong bytes, %d not redundant again, %d stuck; redundant again after %d ms (median), %d ms at most\n",
				result.Kills, result.Seconds, result.Lost, result.WrongBytes, result.NotRedundant, result.Stuck, result.HealP50MS, result.HealMaxMS)
			switch {
			case err != nil:
				return codedError{exitNotDone, err}
			case !result.OK():
				return codedError{exitWrong, fmt.Errorf("seed %d: the archive tier failed", o.Seed)}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", ".cache/chaos", "directory to work in")
	f.Uint64Var(&o.Seed, "seed", 0, "what decides which cloud is killed when; 0 draws one")
	f.IntVar(&o.Kills, "kills", 50, "number of kills")
	f.StringVar(&o.Plant, "plant", "", "plant a bug, to see the run fail: "+chaos.PlantTrimFirst+" or "+chaos.PlantBlindPut)
	f.BoolVar(&verbose, "verbose", false, "log what the archiver does")
	return c
}
