package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/receiver"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/internal/exit"
)

type postgresLogJSON struct {
	LastLSN    logcore.LSN  `json:"last_lsn"`
	Position   wal.Position `json:"position"`
	Timeline   wal.Timeline `json:"timeline"`
	SystemID   uint64       `json:"system_id,string"`
	Writer     string       `json:"writer"`
	WriterOpen bool         `json:"writer_open"`
	Ingested   logcore.LSN  `json:"ingested_lsn"`
	State      string       `json:"page_server"` // "" when none was reached
}

type postgresStatusJSON struct {
	Log        string              `json:"log"`
	Healthy    bool                `json:"healthy"`
	Conditions []receiver.Finding  `json:"conditions"`
	InLog      *postgresLogJSON    `json:"in_log,omitempty"`
	Server     *receiver.Diagnosis `json:"server,omitempty"`
	Agent      *receiver.Status    `json:"agent,omitempty"`
}

type postgresStatusFlags struct{ server, standby, slot, agent string }

func (a *app) postgresStatusCommand() *cobra.Command {
	var f postgresStatusFlags
	cmd := &cobra.Command{
		Use:   "status LOG",
		Short: "Show how a PostgreSQL log, its server and its agent are; exit code 5 when they are not well",
		Long: `Show what keeps the WAL of a PostgreSQL server from getting into LOG, its commits from being protected, or its pages from
being served. With --server it looks at the server too, without changing anything there: is it the log's, does it have the WAL
that comes next, is it set right, does it wait for LogCore. With --agent it asks an attach or run that serves --metrics there.

Each condition has a name that does not change: it is the same in the agent's metric logcore_postgres_condition.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
			defer cancel()
			s, err := a.postgresStatus(ctx, args[0], f)
			if err != nil {
				return err
			}
			if err := a.writePostgresStatus(s); err != nil {
				return err
			}
			if !s.Healthy {
				return exit.With(exit.Unhealthy, fmt.Errorf("log %s is not well: %d conditions, listed above", s.Log, len(s.Conditions)))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.server, "server", "", "look at this server too, as for attach")
	cmd.Flags().StringVar(&f.standby, "standby-name", "", "the name that synchronous_standby_names lists (default logcore)")
	cmd.Flags().StringVar(&f.slot, "slot", "", "the physical replication slot (default logcore)")
	cmd.Flags().StringVar(&f.agent, "agent", "", "ask the agent whose --metrics is this address")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// postgresStatus asks everybody. What can't be reached is a condition.
func (a *app) postgresStatus(ctx context.Context, log string, f postgresStatusFlags) (postgresStatusJSON, error) {
	s := postgresStatusJSON{Log: log, Conditions: []receiver.Finding{}}
	tail, err := a.postgresLogStatus(ctx, log, &s)
	if err != nil {
		return s, err
	}
	if f.server != "" {
		d, err := receiver.Diagnose(ctx, receiver.Options{ConnString: f.server, StandbyName: f.standby, Slot: f.slot}, tail)
		if err != nil {
			return s, err
		}
		s.Server = &d
		s.add(d.Findings...)
	}
	if f.agent != "" {
		st, err := agentStatus(ctx, f.agent)
		if err != nil {
			s.add(receiver.Finding{Condition: receiver.ConditionNotFollowing, Detail: fmt.Sprintf("the agent does not answer: %v", err)})
		} else {
			s.Agent = &st
			s.add(st.Conditions...)
		}
	}
	s.Healthy = len(s.Conditions) == 0
	return s, nil
}

// add takes findings over; a condition that two tell of stands once.
func (s *postgresStatusJSON) add(findings ...receiver.Finding) {
	for _, f := range findings {
		known := false
		for _, g := range s.Conditions {
			known = known || g.Condition == f.Condition
		}
		if !known {
			s.Conditions = append(s.Conditions, f)
		}
	}
}

// postgresLogStatus asks LogCore, and returns the payload that the log ends with.
func (a *app) postgresLogStatus(ctx context.Context, log string, s *postgresStatusJSON) (tail []byte, err error) {
	c, err := a.dial(ctx)
	if err != nil {
		s.add(receiver.Finding{Condition: receiver.ConditionService, Detail: err.Error()})
		return nil, nil
	}
	defer c.Close()
	info, err := c.Info(ctx, log)
	if err != nil {
		return nil, err
	}
	if info.PayloadFormat != "" && info.PayloadFormat != payload.Format {
		return nil, fmt.Errorf("%w: log %s is of the format %s, none of PostgreSQL", logcore.ErrInvalid, log, info.PayloadFormat)
	}
	of := &postgresLogJSON{LastLSN: max(info.LastLSN, info.BranchLSN), Writer: info.Writer, WriterOpen: info.WriterOpen}
	s.InLog = of
	if !info.WriterOpen {
		s.add(receiver.Finding{Condition: receiver.ConditionNotFollowing, Detail: "no attach and no run writes the log"})
	}
	if st, err := c.Status(ctx); err == nil {
		if len(st.Problems) > 0 {
			s.add(receiver.Finding{Condition: receiver.ConditionUnhealthy, Detail: strings.Join(st.Problems, "; ")})
		}
	}
	s.pages(ctx, c, log)
	tail, found, err := receiver.LastPayload(ctx, c, log, 0, of.LastLSN)
	if err != nil || !found {
		return nil, err
	}
	p, err := payload.Decode(tail)
	if err != nil {
		return nil, err
	}
	of.Timeline, of.SystemID, of.Position = p.Timeline, p.SystemID, p.Start
	if p.Kind == payload.KindWAL {
		of.Position = p.End()
	}
	return tail, nil
}

// pages asks the page server how it does with the log.
func (s *postgresStatusJSON) pages(ctx context.Context, c *client.Client, log string) {
	logs, err := c.PageStatus(ctx, log)
	if err != nil || len(logs) != 1 {
		return // there need not be a page server
	}
	l := logs[0]
	s.InLog.Ingested, s.InLog.State = l.Ingested, l.State
	switch l.State {
	case "quarantined":
		s.add(receiver.Finding{Condition: receiver.ConditionQuarantined, Detail: fmt.Sprintf("the page server has the log up to LSN %d and no further; other logs go on: %s", l.Ingested, l.Reason)})
	case "disk full":
		s.add(receiver.Finding{Condition: receiver.ConditionDiskFull, Detail: "the page server's: " + l.Reason})
	}
}

func agentStatus(ctx context.Context, addr string) (st receiver.Status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return st, fmt.Errorf("%s: %s", addr, resp.Status)
	}
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

func (a *app) writePostgresStatus(s postgresStatusJSON) error {
	if a.format == "json" {
		return a.writeJSON(s)
	}
	fields := []field{{"log", s.Log}, {"healthy", fmt.Sprint(s.Healthy)}}
	for _, c := range s.Conditions {
		fields = append(fields, field{string(c.Condition), c.Detail})
	}
	if l := s.InLog; l != nil {
		writer := l.Writer
		if !l.WriterOpen {
			writer = "none; the last was " + writer
		}
		fields = append(fields, field{"log ends at", fmt.Sprintf("LSN %d, position %v on timeline %d of cluster %d", l.LastLSN, l.Position, l.Timeline, l.SystemID)}, field{"writer", writer})
		if l.State != "" {
			fields = append(fields, field{"page server", fmt.Sprintf("%s, up to LSN %d", l.State, l.Ingested)})
		}
	}
	if d := s.Server; d != nil && d.SystemID != 0 {
		checksums := "without data checksums"
		if d.Checksums {
			checksums = "with data checksums"
		}
		fields = append(fields, field{"server", fmt.Sprintf("%s, position %v on timeline %d of cluster %d, %s", d.Version, d.Flushed, d.Timeline, d.SystemID, checksums)})
	}
	if g := s.Agent; g != nil {
		fields = append(fields, field{"agent", fmt.Sprintf("connected %t, %d connections so far, acknowledged to %v, %s behind, the oldest append waits for %v",
			g.Connected, g.Connections, g.Durable, sizeText(g.LagBytes), g.Waiting.Round(time.Millisecond))})
	}
	return a.writeFields(fields)
}
