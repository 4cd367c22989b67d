package config

import (
	"io"
	"log/slog"
)

// Logging says what the daemons log and how.
type Logging struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

func defaultLogging() Logging { return Logging{Level: "info", Format: "text"} }

func (l *Logging) fields() []Field {
	return []Field{
		{"log_level", "least severe messages to log: debug, info, warn or error", String(&l.Level)},
		{"log_format", "form of the messages: text or json", String(&l.Format)},
	}
}

// Logger returns a logger that writes to w. A level that Validate would refuse logs at info.
func (l Logging) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
