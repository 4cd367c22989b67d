package replbench

import (
	"context"
	"fmt"

	"github.com/logcore/logcore/loadtest/proc"
)

// oneMember measures a service of one member, a process of its own.
func (b *bench) oneMember(ctx context.Context) error {
	if !b.runs("one-member") && !b.runs("one-inflight") && !b.runs("many-logs") {
		return nil
	}
	metrics, err := freeAddr()
	if err != nil {
		return err
	}
	svc, err := proc.Start(ctx, b.path("logsvc.log"), b.Bin+"/logsvc", "--dir", b.path("logsvc"), "--listen", "127.0.0.1:0", "--metrics", metrics, "--log-level", "warn")
	if err != nil {
		return err
	}
	defer svc.Kill()
	echo, err := proc.Start(ctx, b.path("echo.log"), b.Echo[0], b.Echo[1:]...)
	if err != nil {
		return err
	}
	defer echo.Kill()
	for _, cell := range []struct {
		name string
		run  func(ctx context.Context, svc, echo served) error
	}{{"one-member", b.throughput}, {"one-inflight", b.oneInflight}, {"many-logs", b.manyLogs}} {
		if !b.runs(cell.name) {
			continue
		}
		if err := cell.run(ctx, served{svc, metrics}, served{proc: echo}); err != nil {
			return err
		}
	}
	return nil
}

// throughput: 128-byte appends of one client process on one log, beside a bare stream that
// carries as many entries in a message.
func (b *bench) throughput(ctx context.Context, svc, echo served) error {
	const cell = "one-member"
	const batch = inflightMax / 4 // about what the client puts into one
	turns, err := b.rounds(ctx, cell,
		contender{"logcore", func(ctx context.Context) (turn, error) { return b.load(ctx, svc.proc.Addr, "one", 1, inflightMax) }, []served{svc}},
		contender{"grpc-stream", func(ctx context.Context) (turn, error) {
			return echoStream(ctx, echo.proc.Addr, inflightMax, batch, b.Turn)
		}, []served{echo}})
	if err != nil {
		return err
	}
	f, limit := newFigure(cell, "logcore", turns["logcore"]), newFigure(cell, "grpc-stream", turns["grpc-stream"])
	limit.Note = fmt.Sprintf("%d entries in a message, %d in flight", batch, inflightMax)
	f.Ratio = round(median(ratios(turns["logcore"], perSecond, of(turns["grpc-stream"], perSecond))))
	f.want("≥ 100000/s and ≥ 0.5 of grpc-stream", f.PerSecond >= 100_000 && f.Ratio >= 0.5)
	b.figures = append(b.figures, f, limit)
	return nil
}

// oneInflight: one append after the other, each durable before the next, beside the hot
// log's own commit and a bare unary call.
func (b *bench) oneInflight(ctx context.Context, svc, echo served) error {
	const cell = "one-inflight"
	turns, err := b.rounds(ctx, cell,
		contender{"logcore", func(ctx context.Context) (turn, error) { return b.load(ctx, svc.proc.Addr, "one", 1, 1) }, []served{svc}},
		contender{"hotlog", func(ctx context.Context) (turn, error) { return hotOne(ctx, b.path("hot"), b.Turn) }, nil},
		contender{"grpc-unary", func(ctx context.Context) (turn, error) { return echoUnary(ctx, echo.proc.Addr, b.Turn) }, []served{echo}})
	if err != nil {
		return err
	}
	var limits []float64
	for i, hot := range turns["hotlog"] {
		limits = append(limits, hot.p50+1.5*turns["grpc-unary"][i].p50)
	}
	f := newFigure(cell, "logcore", turns["logcore"])
	f.Ratio = round(median(ratios(turns["logcore"], p50, limits)))
	f.Note = "ratio: p50 over hotlog's p50 + 1.5 × grpc-unary's"
	f.want("≤ 1 of hotlog + 1.5 × grpc-unary", f.Ratio <= 1)
	b.figures = append(b.figures, f, newFigure(cell, "hotlog", turns["hotlog"]), newFigure(cell, "grpc-unary", turns["grpc-unary"]))
	return nil
}

// manyLogs: a thousand logs of one client beside one log, with as many appends under way.
func (b *bench) manyLogs(ctx context.Context, svc, _ served) error {
	const cell = "many-logs"
	turns, err := b.rounds(ctx, cell,
		contender{"logs-1000", func(ctx context.Context) (turn, error) {
			return b.load(ctx, svc.proc.Addr, "many", manyLogs, inflightMax)
		}, []served{svc}},
		contender{"logs-1", func(ctx context.Context) (turn, error) { return b.load(ctx, svc.proc.Addr, "one", 1, inflightMax) }, []served{svc}})
	if err != nil {
		return err
	}
	f := newFigure(cell, "logs-1000", turns["logs-1000"])
	f.Ratio = round(median(ratios(turns["logs-1000"], perSecond, of(turns["logs-1"], perSecond))))
	f.want("≥ 0.9 of logs-1", f.Ratio >= 0.9)
	b.figures = append(b.figures, f, newFigure(cell, "logs-1", turns["logs-1"]))
	return nil
}
