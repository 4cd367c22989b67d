package sim

import (
	"context"
	"log/slog"
	"strings"
)

// traceLogs puts what the code under test logs between the events, when they are kept.
type traceLogs struct {
	t    *trace
	from string
}

func (h traceLogs) Enabled(context.Context, slog.Level) bool { return h.t.keep }

func (h traceLogs) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return true
	})
	h.t.line("  %s%s", h.from, b.String())
	return nil
}

// WithAttrs keeps who speaks.
func (h traceLogs) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "member" {
			h.from = "member " + a.Value.String() + ": "
		}
	}
	return h
}

// WithGroup changes nothing: the lines are for people.
func (h traceLogs) WithGroup(string) slog.Handler { return h }
