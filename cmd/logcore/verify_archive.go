package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// verifyArchive checks every object of the archive, repairing first when asked to.
func (a *app) verifyArchive(ctx context.Context, f verifyFlags, targets *roles.Targets, keys tiering.KeyProvider, out *verifyResult, m *meter) error {
	progress := func(p tiering.Progress) {
		m.update("verify: archive, %s %d of %d, %d MiB, %d problems", p.Phase, p.Objects, p.ObjectsTotal, p.Bytes>>20, p.Problems)
	}
	if err := targets.CheckNames(ctx); err != nil {
		return err
	}
	if f.repair {
		markers, err := roles.RepairMarkers(ctx, targets)
		if err != nil {
			return err
		}
		for _, name := range markers {
			out.Repaired = append(out.Repaired, name+": "+target.MarkerKey)
		}
		done, err := tiering.Repair(ctx, targets.All, keys, progress)
		if err != nil {
			return err
		}
		for _, p := range done.Fixed {
			out.Repaired = append(out.Repaired, p.String())
		}
	}
	if err := verifyMarkers(ctx, targets, out); err != nil {
		return err
	}
	report, err := tiering.Verify(ctx, targets.All, keys, progress)
	if err != nil {
		return err
	}
	out.ArchiveBytes, out.Objects, out.Fragments = report.Bytes, report.Objects, report.Fragments
	out.complete = report.Complete()
	for _, p := range report.Problems {
		if p.Notice() {
			out.Notices = append(out.Notices, p.String())
			continue
		}
		out.found(&logcore.CorruptionError{Place: p.Target, Object: p.Key, Offset: p.Offset, Reason: string(p.Kind) + ": " + p.Detail})
	}
	return nil
}

// verifyMarkers checks what says whose target each one is.
func verifyMarkers(ctx context.Context, targets *roles.Targets, out *verifyResult) error {
	for _, t := range targets.All {
		if t.Bucket == nil {
			continue
		}
		_, err := target.ReadMarker(ctx, t.Bucket)
		switch {
		case err == nil:
		case errors.Is(err, logcore.ErrCorrupt) || errors.Is(err, logcore.ErrUnsupportedVersion):
			out.found(fmt.Errorf("target %s: %s: %w", t.Name, target.MarkerKey, err))
		case errors.Is(err, bucket.ErrNotFound):
			out.Notices = append(out.Notices, "target "+t.Name+" has no marker")
		case ctx.Err() != nil:
			return err
		default:
			out.Notices = append(out.Notices, "target "+t.Name+": "+err.Error())
		}
	}
	return nil
}
