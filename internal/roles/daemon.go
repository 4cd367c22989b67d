package roles

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/exit"
)

// Running is a started role.
type Running interface {
	// Addr is the gRPC address it serves on, HOST:PORT.
	Addr() string
	// Failed yields the error that keeps the role from going on; it must be stopped then.
	Failed() <-chan error
	// Stop stops everything in reverse build order and waits for it.
	Stop() error
}

// Daemon is a command that plays one role until it is told to stop.
type Daemon struct {
	Name   string
	Short  string
	Config config.Config
	// Logger is called once the configuration is loaded.
	Logger func(io.Writer) *slog.Logger
	Start  func(context.Context, *slog.Logger) (Running, error)
}

// Run parses args, loads the configuration, starts the role, prints a line `ready
// HOST:PORT` on stdout and plays it until ctx is done or it fails.
func (d Daemon) Run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) exit.Code {
	var path string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   d.Name,
		Short: d.Short,
		Long: d.Short + ".\n\nSettings come from the YAML file of --config, LOGCORE_* variables over it, flags over both.\n" +
			"It prints a line `ready HOST:PORT` when it serves; SIGTERM stops it cleanly.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return exit.Usagef("unknown argument %q: settings are flags", args[0])
			}
			return nil
		},
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Load(d.Config, path, getenv, cmd.Flags()); err != nil {
				return err
			}
			if printConfig {
				return config.Print(stdout, d.Config)
			}
			return d.play(cmd.Context(), stdout, stderr)
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.With(exit.Usage, err) })
	cmd.Flags().StringVar(&path, "config", "", "YAML file with the settings")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the settings that result, as YAML, and end")
	config.AddFlags(cmd.Flags(), d.Config)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	code := exit.Of(err)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", d.Name, err)
	}
	if code == exit.Usage {
		fmt.Fprintf(stderr, "see: %s --help\n", d.Name)
	}
	return code
}

func (d Daemon) play(ctx context.Context, stdout, stderr io.Writer) error {
	log := d.Logger(stderr)
	role, err := d.Start(ctx, log)
	if err != nil {
		return err
	}
	return Play(ctx, role, log, func() error {
		_, err := fmt.Fprintf(stdout, "ready %s\n", role.Addr())
		return err
	})
}

// Play calls ready and waits until ctx is done or the role fails; then it stops the role.
func Play(ctx context.Context, role Running, log *slog.Logger, ready func() error) error {
	err := ready()
	if err == nil {
		select {
		case <-ctx.Done():
			log.Info("stopping")
		case err = <-role.Failed():
			log.Error("can't go on", "err", err)
		}
	}
	if stopErr := role.Stop(); err == nil {
		err = stopErr
	}
	return err
}
