package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/exit"
)

// dialPages returns a client of the page server and where the log of the demo ends.
func (d *demo) dialPages(ctx context.Context) (*client.Client, logcore.LSN, error) {
	c, err := client.Dial(ctx, client.Options{Addr: d.addr, Logger: quiet(d.app)})
	if err != nil {
		return nil, 0, err
	}
	lsn, err := logEnd(ctx, c, demoLog)
	if err != nil {
		return nil, 0, errors.Join(err, c.Close())
	}
	return c, lsn, nil
}

// checkpoint lets the page server copy what it has to its home target.
func (d *demo) checkpoint(ctx context.Context) error {
	c, lsn, err := d.dialPages(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WaitLSN(ctx, demoLog, lsn, 30*time.Second); err != nil {
		return err
	}
	stores, err := c.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if len(stores) == 0 || stores[0].Number == 0 {
		return fmt.Errorf("the page server made no checkpoint: %+v", stores)
	}
	d.result.ColdStart.Made = stores[0].Number
	d.say("checkpoint    %d of the page server, up to LSN %d: %d tables, %s", stores[0].Number, lsn, stores[0].Tables, sizeText(stores[0].Bytes))
	return nil
}

// coldStart reads the first page of a page server that has lost its directory, and checks
// that it began from a checkpoint. began is when its process was started.
func (d *demo) coldStart(ctx context.Context, began time.Time) error {
	c, lsn, err := d.dialPages(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	set, err := c.GetPages(ctx, demoLog, engine.SpaceOf(0), []uint32{0}, client.ReadAt{LSN: lsn, Timeout: 30 * time.Second})
	if err != nil {
		return fmt.Errorf("the first page: %w", err)
	}
	took := time.Since(began)
	if len(set.Pages) != 1 || len(set.Pages[0].Data) == 0 {
		return exit.With(exit.Integrity, fmt.Errorf("the first page of the database is empty"))
	}
	stores, err := c.CheckpointStatus(ctx)
	if err != nil {
		return err
	}
	if len(stores) == 0 || stores[0].BeganFrom < d.result.ColdStart.Made {
		return fmt.Errorf("the page server, whose directory was deleted, did not begin from checkpoint %d or a later one: %+v", d.result.ColdStart.Made, stores)
	}
	r := &d.result.ColdStart
	r.Checkpoint, r.Tables, r.Bytes, r.FirstPageMs = stores[0].BeganFrom, stores[0].Tables, stores[0].Bytes, milliseconds(took)
	d.say("page server   began from checkpoint %d (%d tables, %s), not from the log; first page %.0f ms after the process was started", r.Checkpoint, r.Tables, sizeText(r.Bytes), r.FirstPageMs)
	return nil
}
