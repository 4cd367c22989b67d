package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
)

type checkpointJSON struct {
	Place        string    `json:"place"`
	Number       uint64    `json:"number"`
	Created      time.Time `json:"created,omitzero"`
	Epoch        uint64    `json:"epoch"`
	StandingBy   bool      `json:"standing_by"`
	Tables       uint64    `json:"tables"`
	Bytes        uint64    `json:"bytes"`
	BeganFrom    uint64    `json:"began_from"`
	BeganIn      string    `json:"began_in,omitempty"`
	Borrowed     string    `json:"borrowed,omitempty"`
	MissingBytes uint64    `json:"missing_bytes"`
	Error        string    `json:"error,omitempty"`
}

func (a *app) pageCheckpointCommand() *cobra.Command {
	return a.checkpointCommand("checkpoint", "Copy what is new of the page server's store to its home target now",
		`Copy what is new of the page server's store to its home target, and return when that is
committed. A page server on an empty machine begins from it. The page server does the
same by itself every checkpoint_interval.`, (*client.Client).Checkpoint)
}

func (a *app) pageStatusCommand() *cobra.Command {
	return a.checkpointCommand("status", "Show the page server's checkpoints, and how much of its store is local", "", (*client.Client).CheckpointStatus)
}

func (a *app) checkpointCommand(use, short, long string, ask func(*client.Client, context.Context) ([]client.StoreCheckpoint, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onlineFor(cmd.Context(), a.timeout+answerSlack, func(ctx context.Context, c *client.Client) error {
				stores, err := ask(c, ctx)
				if err != nil {
					return err
				}
				return a.writeCheckpoints(stores)
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd, "table", "json")
	return cmd
}

func (a *app) writeCheckpoints(stores []client.StoreCheckpoint) error {
	if a.format == "json" {
		list := []checkpointJSON{}
		for _, s := range stores {
			list = append(list, checkpointJSON{s.Place, s.Number, s.Created.UTC(), s.Epoch, s.StandingBy, s.Tables, s.Bytes, s.BeganFrom, s.BeganIn, s.Borrowed, s.MissingBytes, s.Error})
		}
		return a.writeJSON(list)
	}
	for _, s := range stores {
		if _, err := fmt.Fprintln(a.out, checkpointLine(s)); err != nil {
			return err
		}
	}
	return nil
}

// checkpointLine says in words how the checkpoints of a store are.
func checkpointLine(s client.StoreCheckpoint) string {
	if s.Place == "" {
		return "no checkpoints: a page server on an empty machine builds the pages from the log; set checkpoint_target"
	}
	line := "no checkpoint yet"
	if s.Number > 0 {
		line = fmt.Sprintf("checkpoint %d of %s: %d tables, %s", s.Number, s.Created.UTC().Format(time.RFC3339), s.Tables, sizeText(s.Bytes))
	}
	line += " in " + s.Place
	if s.BeganFrom > 0 {
		line += fmt.Sprintf("; began from checkpoint %d", s.BeganFrom)
		if s.BeganIn != "" {
			line += " of " + s.BeganIn
		}
	}
	if s.Borrowed != "" {
		line += "; needs the checkpoint of " + s.Borrowed + " until it has one of its own"
	}
	if s.MissingBytes > 0 {
		line += fmt.Sprintf("; %s not local yet", sizeText(s.MissingBytes))
	}
	if s.StandingBy {
		line += "; another page server makes them"
	}
	if s.Error != "" {
		line += "; the last try failed: " + s.Error
	}
	return line
}
