package pageserver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

func (v *service) LogStatus(_ context.Context, req *logcorev1.LogStatusRequest) (*logcorev1.LogStatusResponse, error) {
	all, err := v.s.Status(req.Log)
	if err == nil && len(all) == 0 && req.Log != "" {
		err = fmt.Errorf("pageserver: %w: %q", logcore.ErrLogNotFound, req.Log)
	}
	if err != nil {
		return nil, wire.ToStatus(err, req.Log)
	}
	slices.SortFunc(all, func(a, b LogStatus) int { return strings.Compare(a.Log, b.Log) })
	resp := &logcorev1.LogStatusResponse{Sources: v.s.sources()}
	for _, l := range all {
		one := &logcorev1.PageLogStatus{LogId: uint64(l.ID), Log: l.Log, ParentId: uint64(l.Parent), BranchLsn: uint64(l.BranchLSN), IngestedLsn: uint64(l.Ingested),
			State: l.State, Reason: l.Reason, HorizonLsn: uint64(l.Horizon), Pins: uint64(l.Pins), LogicalBytes: l.Use.LogicalBytes, Versions: l.Use.Versions,
			VersionBytes: l.Use.VersionBytes, Collected: l.Use.Collected, CollectedBytes: l.Use.CollectedBytes, DiskBytes: l.DiskBytes,
			From: l.From, LastLsn: uint64(l.Lag.Last), BehindBytes: l.Lag.Bytes, BehindMs: uint64(l.Lag.Time.Milliseconds())}
		if !l.Use.Counted.IsZero() {
			one.CountedMs = uint64(l.Use.Counted.UnixMilli())
		}
		resp.Logs = append(resp.Logs, one)
	}
	return resp, nil
}

// sources says how the places are that entries come from.
func (s *Server) sources() *logcorev1.PageSources {
	st := s.ArchiveStatus()
	out := &logcorev1.PageSources{LogService: s.sourceUp.Load(), Archive: st.Configured, ArchiveUnreachable: st.Unreachable}
	if st.Err != nil {
		out.ArchiveError = st.Err.Error()
	}
	if !st.Checked.IsZero() {
		out.ArchiveCheckedMs = uint64(st.Checked.UnixMilli())
	}
	return out
}
