package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// ErrConnection says that the connection to the server broke or could not be made.
var ErrConnection = errors.New("no connection to the PostgreSQL server")

// conn is a replication connection. Only one goroutine may receive; another may send.
type conn struct {
	net          net.Conn
	front        *pgproto3.Frontend
	segmentBytes uint32
}

// connect opens a physical replication connection.
func connect(ctx context.Context, o Options) (*conn, error) {
	cfg, err := pgconn.ParseConfig(o.ConnString)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", logcore.ErrInvalid, err)
	}
	cfg.RuntimeParams["replication"] = "true"
	cfg.RuntimeParams["application_name"] = o.StandbyName
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	pg, err := pgconn.ConnectConfig(ctx, cfg)
	if refused := new(pgconn.PgError); errors.As(err, &refused) && strings.Contains(refused.Message, "max_wal_senders (currently 0)") {
		return nil, refuse(ConditionLevel, "%w: max_wal_senders is 0, as wal_level=minimal demands: set wal_level to replica and max_wal_senders to 10, and restart the server", logcore.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	h, err := pg.Hijack()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	if err := h.Conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	return &conn{net: h.Conn, front: h.Frontend}, nil
}

func (c *conn) close() { c.net.Close() }

// ErrGap says that the server no longer has the WAL that comes next in the log.
var ErrGap = errors.New("the server no longer has the WAL that the log needs next")

// serverError is what the server answered. After a FATAL one the connection is gone.
func serverError(m *pgproto3.ErrorResponse) error {
	const undefinedFile = "58P01"
	switch {
	case m.Code == undefinedFile && strings.Contains(m.Message, "WAL segment"):
		return fmt.Errorf("%w, since its replication slot was dropped or given up: earlier moments stay in this log; begin another one, which takes a base backup (%s)", ErrGap, m.Message)
	case m.SeverityUnlocalized == "FATAL":
		return fmt.Errorf("%w: it says: %s (%s)", ErrConnection, m.Message, m.Code)
	}
	return fmt.Errorf("the server says: %s: %s (%s)", m.Severity, m.Message, m.Code)
}

func (c *conn) receive() (pgproto3.BackendMessage, error) {
	m, err := c.front.Receive()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	if e, ok := m.(*pgproto3.ErrorResponse); ok {
		return nil, serverError(e)
	}
	return m, nil
}

func (c *conn) send(sql string) error {
	c.front.Send(&pgproto3.Query{String: sql})
	if err := c.front.Flush(); err != nil {
		return fmt.Errorf("%w: %w", ErrConnection, err)
	}
	return nil
}

// query runs a replication command and returns its rows. After an error of the server
// the connection can be used again.
func (c *conn) query(sql string) (rows [][]string, err error) {
	if err := c.send(sql); err != nil {
		return nil, err
	}
	for {
		m, rerr := c.receive()
		if errors.Is(rerr, ErrConnection) {
			return nil, rerr
		}
		if rerr != nil {
			err = fmt.Errorf("%s: %w", sql, rerr)
			continue
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			row := make([]string, len(m.Values))
			for i, v := range m.Values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		case *pgproto3.ReadyForQuery:
			return rows, err
		}
	}
}

// one returns the only row of a command that has so many columns.
func (c *conn) one(sql string, columns int) ([]string, error) {
	rows, err := c.query(sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) < columns {
		return nil, fmt.Errorf("%s: the server answered with %d rows", sql, len(rows))
	}
	return rows[0], nil
}

// show returns a setting of the server.
func (c *conn) show(name string) (string, error) {
	row, err := c.one("SHOW "+name, 1)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// identity is what IDENTIFY_SYSTEM tells.
type identity struct {
	systemID uint64
	timeline wal.Timeline
	flushed  wal.Position
}

func (c *conn) identify() (identity, error) {
	row, err := c.one("IDENTIFY_SYSTEM", 3)
	if err != nil {
		return identity{}, err
	}
	id, err1 := strconv.ParseUint(row[0], 10, 64)
	timeline, err2 := strconv.ParseUint(row[1], 10, 32)
	at, err3 := wal.ParsePosition(row[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return identity{}, fmt.Errorf("IDENTIFY_SYSTEM: %v: %w", row, err)
	}
	return identity{id, wal.Timeline(timeline), at}, nil
}

// ensureSlot makes the slot when there is none. The slot keeps the WAL that the log
// does not have yet.
func (c *conn) ensureSlot(name string) error {
	row, err := c.one("READ_REPLICATION_SLOT "+name, 3)
	if err != nil {
		return err
	}
	switch row[0] {
	case "physical":
		return nil
	case "":
		_, err := c.query("CREATE_REPLICATION_SLOT " + name + " PHYSICAL RESERVE_WAL")
		return err
	}
	return fmt.Errorf("%w: replication slot %s is a %s one: name another", logcore.ErrInvalid, name, row[0])
}

// slot returns what there is to say against a slot; "" for nothing.
func (c *conn) slot(name string) (string, error) {
	row, err := c.one("READ_REPLICATION_SLOT "+name, 3)
	switch {
	case err != nil:
		return "", err
	case row[0] == "":
		return fmt.Sprintf("the server has no replication slot %s: it keeps no WAL for the log", name), nil
	case row[0] == "physical" && row[1] == "":
		return fmt.Sprintf("replication slot %s keeps no WAL: it was given up for max_slot_wal_keep_size", name), nil
	}
	return "", nil
}

// history returns the history file of a timeline.
func (c *conn) history(t wal.Timeline) ([]byte, error) {
	row, err := c.one(fmt.Sprintf("TIMELINE_HISTORY %d", t), 2)
	if err != nil {
		return nil, err
	}
	return []byte(row[1]), nil
}

// checkFork verifies that the server's timeline comes from ours, and not from before our end.
func (c *conn) checkFork(ours, theirs wal.Timeline, end wal.Position) error {
	text, err := c.history(theirs)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != strconv.FormatUint(uint64(ours), 10) {
			continue
		}
		at, err := wal.ParsePosition(f[1])
		if err != nil {
			return fmt.Errorf("history of timeline %d: %w", theirs, err)
		}
		if at < end {
			return refuse(ConditionTimeline, "%w: timeline %d left timeline %d at %v, but the log has WAL of timeline %d up to %v, which that server never had: give it a branch, or a log of its own", logcore.ErrInvalid, theirs, ours, at, ours, end)
		}
		return nil
	}
	return refuse(ConditionTimeline, "%w: the server's timeline %d does not come from timeline %d, which the log is on", logcore.ErrInvalid, theirs, ours)
}

// settings are what SHOW tells of a server.
type settings map[string]string

func (c *conn) settings() (settings, error) {
	s := settings{}
	for _, name := range []string{"wal_level", "synchronous_commit", "synchronous_standby_names", "wal_segment_size", "server_version_num", "data_checksums"} {
		v, err := c.show(name)
		if err != nil {
			return nil, err
		}
		s[name] = v
	}
	return s, nil
}

// refused says why a server that is set so can't be followed.
func (s settings) refused() error {
	switch v := s["server_version_num"]; {
	case !strings.HasPrefix(v, "15"):
		return refuse(ConditionVersion, "%w: the server is PostgreSQL %s; 15 is followed", logcore.ErrUnsupportedVersion, v)
	case s["wal_level"] == "minimal":
		return refuse(ConditionLevel, "%w: wal_level is minimal; set it to replica and restart the server", logcore.ErrInvalid)
	case s["synchronous_commit"] == "remote_apply":
		return refuse(ConditionApply, "%w: synchronous_commit is remote_apply: commits would wait for ever, since nothing is replayed here; set it to on", logcore.ErrInvalid)
	}
	return nil
}

// unprotected says why a server that is set so does not wait for the standby of a name; "" when it does.
func (s settings) unprotected(standby string) string {
	switch names, commit := s["synchronous_standby_names"], s["synchronous_commit"]; {
	case !listed(names, standby):
		return fmt.Sprintf("the server does not wait for LogCore: what it commits can be lost until it arrives here; list the name in synchronous_standby_names: %s is not in %q", standby, names)
	case commit == "off" || commit == "local":
		return fmt.Sprintf("the server does not wait for LogCore: synchronous_commit is %s; set it to on", commit)
	}
	return ""
}

// check verifies what the server has to be set to, and warns of what leaves commits unprotected.
func (r *Receiver) check(c *conn) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	if c.segmentBytes, err = parseSize(s["wal_segment_size"]); err != nil {
		return err
	}
	if err := s.refused(); err != nil {
		return err
	}
	r.opts.Monitor.set(ConditionApply, "")
	r.protection(s)
	return nil
}

// protection notes whether the server waits for the log, and says so when it does not.
func (r *Receiver) protection(s settings) {
	why := s.unprotected(r.opts.StandbyName)
	if why != "" && why != r.opts.Monitor.detail(ConditionUnprotected) {
		r.opts.Logger.Warn("receiver: " + why)
	}
	r.opts.Monitor.set(ConditionUnprotected, why)
}

// watch looks at the server's settings again and again, over connections of its own: they can change while WAL is streamed. It ends with ctx.
func (r *Receiver) watch(ctx context.Context) {
	tick := time.NewTicker(r.opts.SettingsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s, err := r.look(ctx)
		if err != nil {
			continue // the connection that streams knows better what is wrong
		}
		r.protection(s)
		detail := ""
		if err := s.refused(); err != nil {
			if detail = err.Error(); r.opts.Monitor.detail(ConditionOf(err)) == "" {
				r.opts.Logger.Warn("receiver: " + detail)
			}
		}
		r.opts.Monitor.set(ConditionApply, detail) // nothing else can change under way
	}
}

// look asks for the settings.
func (r *Receiver) look(ctx context.Context) (settings, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	o := r.opts
	o.StandbyName = statusName
	c, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	return c.settings()
}

const (
	lookTimeout = 10 * time.Second
	// statusName is the name of connections that only look; nobody lists it.
	statusName = "logcore-status"
)

// listed reports whether synchronous_standby_names has a name.
func listed(names, name string) bool {
	f := strings.FieldsFunc(names, func(c rune) bool { return strings.ContainsRune(`(), "`, c) })
	for _, n := range f {
		if strings.EqualFold(n, name) || n == "*" {
			return true
		}
	}
	return false
}

// parseSize reads a size as SHOW prints it: 16MB, 1GB.
func parseSize(s string) (uint32, error) {
	for unit, factor := range map[string]uint64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err == nil && n*factor >= wal.SegmentBytesMin && n*factor <= wal.SegmentBytesMax {
				return uint32(n * factor), nil
			}
		}
	}
	return 0, fmt.Errorf("wal_segment_size is %q", s)
}
