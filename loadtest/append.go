package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/loadtest/appendload"
)

func appendCommand() *cobra.Command {
	o := appendload.Options{}
	var asJSON, quiet bool
	c := &cobra.Command{
		Use:   "append --addr HOST:PORT[,HOST:PORT…]",
		Short: "Append to logs, in a closed loop or at a fixed rate (--rate)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Client.Addr == "" {
				return errors.New("--addr is missing: want host:port of one or more members")
			}
			if !quiet {
				o.Progress = os.Stderr
			}
			rep, err := appendload.Run(cmd.Context(), o)
			if rep.Kind != "" {
				tell(cmd.OutOrStdout(), rep, asJSON)
			}
			switch {
			case !rep.OK():
				return codedError{exitWrong, errors.Join(errors.New("what was acknowledged is not what the logs hold"), err)}
			case err != nil:
				return codedError{exitNotDone, err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Client.Addr, "addr", "", "the service's address; of several members any, separated by commas")
	f.StringVar(&o.Client.TLSFiles.CA, "tls-ca", "", "CA that the service's certificate comes from, a PEM file")
	f.StringVar(&o.Client.TLSFiles.Cert, "tls-cert", "", "certificate to show, a PEM file")
	f.StringVar(&o.Client.TLSFiles.Key, "tls-key", "", "its key, a PEM file")
	f.IntVar(&o.Logs, "logs", 1, "number of logs")
	f.StringVar(&o.Prefix, "prefix", "load", "the logs are named PREFIX-0, PREFIX-1, …; they are created when missing and taken over")
	f.IntVar(&o.PayloadBytes, "payload", 128, "bytes of each entry")
	f.IntVar(&o.Inflight, "inflight", 64, fmt.Sprintf("appends under way, over all logs; at most %d for each", client.InflightEntriesLimit))
	f.Float64Var(&o.Rate, "rate", 0, "open loop: appends due each second, over all logs; 0: closed loop")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "measured time")
	f.DurationVar(&o.WarmUp, "warm-up", time.Second, "time before it that is not measured")
	f.BoolVar(&o.Verify, "verify", false, "read everything back: all that was acknowledged, once, in order, with its bytes; exit code 1 if not")
	f.DurationVar(&o.Patience, "patience", 30*time.Second, "how long to go on while the service does not answer")
	f.DurationVar(&o.Client.RetryFor, "retry-for", 0, "how long the client repeats an append without progress (default the client's: 10s)")
	f.BoolVar(&asJSON, "json", false, "print the report as one line of JSON")
	f.BoolVar(&quiet, "quiet", false, "say nothing on standard error but errors")
	return c
}

func tell(w io.Writer, r appendload.Report, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(w).Encode(r)
		return
	}
	fmt.Fprintf(w, "%s loop, %d logs, %d in flight, %d B, %.0f s\n", r.Loop, r.Logs, r.Inflight, r.Payload, r.Seconds)
	fmt.Fprintf(w, "  %.0f appends/s, %.1f MiB/s\n", r.PerSecond, r.MiBPerS)
	fmt.Fprintf(w, "  latency µs: p50 %.0f, p90 %.0f, p99 %.0f, p99.9 %.0f, max %.0f; longest silence %.0f ms\n", r.P50, r.P90, r.P99, r.P999, r.Max, r.GapMax)
	fmt.Fprintf(w, "  acknowledged %d, unknown %d, refused %d, writers opened again %d\n", r.Acked, r.Unknown, r.Refused, r.Reopened)
	for _, fault := range r.Faults {
		fmt.Fprintln(w, "  fault:", fault)
	}
	if v := r.Verify; v != nil {
		fmt.Fprintf(w, "  read back %d entries: lost %d, misplaced %d, damaged %d, revived %d; of unknown outcome and written %d\n", v.Entries, v.Lost, v.Misplaced, v.Damaged, v.Revived, v.Unresolved)
	}
}
