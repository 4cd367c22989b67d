package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/ncruces/go-sqlite3"
	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/sqlite"
	"github.com/logcore/logcore/internal/sampledb"
)

// demoLog is the log that the demo's database lives in.
const demoLog = "characters"

// demoWriterCommand is the process that the demo kills: it loads the sample when asked
// to and then commits transactions, reporting each one as a line of JSON the moment
// its COMMIT has returned. The reader of these lines outlives it, so that what was
// acknowledged is known whatever happens here.
func (a *app) demoWriterCommand() *cobra.Command {
	var seed uint64
	var count, charactersMax int
	var load bool
	cmd := &cobra.Command{
		Use:    "demo-writer",
		Short:  "The writing process of the demo",
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count == 0 {
				count = math.MaxInt
			}
			c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			return a.demoWrite(cmd.Context(), c, func(ctx context.Context, s *sampledb.Session) error {
				if load {
					if _, err := s.Load(ctx); err != nil {
						return err
					}
				}
				return s.Run(ctx, seed, count)
			}, charactersMax)
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", 1, "seed of the transactions")
	cmd.Flags().IntVar(&count, "transactions", 0, "how many to commit after the load; 0 for as many as it can")
	cmd.Flags().IntVar(&charactersMax, "characters", 0, "how many characters the sample has; 0 for all")
	cmd.Flags().BoolVar(&load, "load", false, "load the sample first")
	a.connectFlags(cmd)
	return cmd
}

func (a *app) demoWrite(ctx context.Context, c *client.Client, run func(context.Context, *sampledb.Session) error, charactersMax int) error {
	opts := sqlite.Options{Log: demoLog, Source: sqlite.NewSource(c, demoLog, "logcore demo"), Takeover: true, WriteNow: true, Logger: quiet(a)}
	out := json.NewEncoder(a.out)
	return a.withDatabase(ctx, opts, func(db *sqlite.Database, conn *sqlite3.Conn) error {
		s, err := sampledb.NewSession(ctx, conn, sampledb.Options{LSN: db.LSN, CharactersMax: charactersMax,
			Acknowledged: func(ack sampledb.Ack) error { return out.Encode(ack) }})
		if err != nil {
			return db.Explain(err)
		}
		defer s.Close()
		if err := run(ctx, s); err != nil {
			return fmt.Errorf("demo: %w", db.Explain(err))
		}
		return nil
	})
}
