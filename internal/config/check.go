package config

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"
)

// checks collects the problems of a Validate.
type checks struct{ problems []Problem }

func (c *checks) add(field, format string, args ...any) {
	c.problems = append(c.problems, Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (c *checks) required(field, value, what string) {
	if value == "" {
		c.add(field, "is required: %s", what)
	}
}

// hostPort checks an address; empty is for required to refuse.
func (c *checks) hostPort(field, addr string) {
	if addr == "" {
		return
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		c.add(field, "%q is not HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:7420", addr)
	}
}

func (c *checks) sizeBetween(field string, v, low, high Bytes) {
	if v < low || v > high {
		c.add(field, "%v is out of range: want %v to %v", v, low, high)
	}
}

func (c *checks) durationBetween(field string, v, low, high time.Duration) {
	if v < low || v > high {
		c.add(field, "%v is out of range: want %v to %v", v, low, high)
	}
}

func (c *checks) logging(l Logging) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		c.add("log_level", "%q is none: want debug, info, warn or error", l.Level)
	}
	if l.Format != "text" && l.Format != "json" {
		c.add("log_format", "%q is none: want text or json", l.Format)
	}
}
