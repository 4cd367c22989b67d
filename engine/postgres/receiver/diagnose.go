package receiver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Diagnosis is what a look at a server shows.
type Diagnosis struct {
	SystemID  uint64       `json:"system_id,string"`
	Version   string       `json:"version"` // server_version_num
	Timeline  wal.Timeline `json:"timeline"`
	Flushed   wal.Position `json:"flushed_position"`
	Checksums bool         `json:"data_checksums"`
	Findings  []Finding    `json:"conditions"`
}

// Diagnose looks at a server, without changing anything there, and says what keeps it from being followed into a log whose last payload is tail (nil: it
// has none), or its commits from being protected. A server that can't be reached is a finding too.
func Diagnose(ctx context.Context, o Options, tail []byte) (Diagnosis, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Diagnosis{}, err
	}
	standby := o.StandbyName
	o.StandbyName = statusName
	var d Diagnosis
	found := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.Findings = append(d.Findings, Finding{ConditionOf(err), err.Error()})
		return nil
	}
	c, err := connect(ctx, o)
	if err != nil {
		return d, found(err)
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	if err := c.describe(&d, standby); err != nil {
		return d, found(err)
	}
	missing, err := c.slot(o.Slot)
	if err != nil {
		return d, found(err)
	}
	if missing != "" {
		d.Findings = append(d.Findings, Finding{ConditionSlot, missing})
	}
	if tail == nil {
		return d, nil
	}
	if err := c.reaches(d, tail); err != nil {
		return d, found(err)
	}
	return d, nil
}

// describe asks the server what it is, and how it is set.
func (c *conn) describe(d *Diagnosis, standby string) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	d.Version, d.Checksums = s["server_version_num"], s["data_checksums"] == "on"
	if c.segmentBytes, err = parseSize(s["wal_segment_size"]); err != nil {
		return err
	}
	if err := s.refused(); err != nil {
		d.Findings = append(d.Findings, Finding{ConditionOf(err), err.Error()})
	}
	if why := s.unprotected(standby); why != "" {
		d.Findings = append(d.Findings, Finding{ConditionUnprotected, why})
	}
	id, err := c.identify()
	d.SystemID, d.Timeline, d.Flushed = id.systemID, id.timeline, id.flushed
	return err
}

// reaches verifies that the server has what comes behind a log's last payload.
func (c *conn) reaches(d Diagnosis, tail []byte) error {
	p, err := payload.Decode(tail)
	if err != nil {
		return fmt.Errorf("the last entry of the log: %w", err)
	}
	if p.Kind == payload.KindBase {
		return nil // its base backup is not complete
	}
	at := resumeAt(p)
	if err := c.continues(p, identity{d.SystemID, d.Timeline, d.Flushed}, at); err != nil {
		return err
	}
	if d.Flushed <= at {
		return nil
	}
	return c.probe(at, p.Timeline)
}

// probe asks for WAL from a position on, and drops it. The connection is of no use afterwards.
func (c *conn) probe(at wal.Position, t wal.Timeline) error {
	if err := c.send("START_REPLICATION PHYSICAL " + at.String() + " TIMELINE " + strconv.FormatUint(uint64(t), 10)); err != nil {
		return err
	}
	if err := c.net.SetReadDeadline(time.Now().Add(probeTimeout)); err != nil {
		return fmt.Errorf("%w: %w", ErrConnection, err)
	}
	for {
		m, err := c.receive()
		if err != nil {
			if errors.Is(err, ErrGap) {
				return err
			}
			return refuse(ConditionServer, "the server sends no WAL from %v on: %w", at, err)
		}
		switch m := m.(type) {
		case *pgproto3.CopyData:
			if len(m.Data) > 0 && m.Data[0] == messageWAL {
				return nil
			}
		case *pgproto3.CopyDone, *pgproto3.DataRow:
			return nil // the timeline ends there
		}
	}
}

// probeTimeout is how long the server may take to send the first WAL.
const probeTimeout = 10 * time.Second
