package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/sampledb"
	"github.com/logcore/logcore/recovery"
)

// archiveMaxAge is what the service promises: an acknowledged commit is archived
// within this time.
const archiveMaxAge = 2 * time.Second

// demo is one telling of the story.
type demo struct {
	app   *app
	flags demoFlags
	dir   string
	exe   string // the logcore binary
	cloud demoCloud

	service *child
	addr    string
	acks    []sampledb.Ack // by number: acks[n-1]; what the database must hold
	crashed time.Time      // when everything was killed last
	began   time.Time      // of the current step
	result  demoResult
}

// tell tells the story in order; each step prints what it found.
func (d *demo) tell(ctx context.Context) error {
	var err error
	if d.cloud, err = d.openCloud(ctx); err != nil {
		return err
	}
	d.result.Targets = d.cloud.describe()
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"start", d.start},
		{"load", d.load},
		{"transactions", d.work},
		{"restart", d.crashAndRestart},
		{"more transactions", d.workOn},
		{"restore", d.disaster},
		{"start again", d.startRestored},
		{"earlier LSN", d.readEarlier},
		{"verify", d.verify},
	} {
		d.began = time.Now()
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("demo: %s: %w", s.name, err)
		}
		d.result.Steps = append(d.result.Steps, recovery.Step{Name: s.name, Seconds: time.Since(d.began).Seconds()})
	}
	if d.app.jsonOutput {
		return d.app.writeJSON(d.result)
	}
	_, err = fmt.Fprintln(d.app.out, d.result.oneLine())
	return err
}

// end stops what still runs.
func (d *demo) end() error {
	if d.service != nil {
		d.service.end()
	}
	if d.cloud != nil {
		return d.cloud.close()
	}
	return nil
}

// say prints a line of the story, unless only the result is wanted as JSON.
func (d *demo) say(format string, args ...any) {
	if !d.app.jsonOutput {
		fmt.Fprintf(d.app.out, format+"\n", args...)
	}
}

func (d *demo) serviceDir() string { return filepath.Join(d.dir, "lc") }
func (d *demo) logs() string       { return filepath.Join(d.dir, "logs") }

// start starts the service and waits until it serves.
func (d *demo) start(ctx context.Context) error {
	args := []string{"dev", "--dir", d.serviceDir(), "--listen", "127.0.0.1:0", "--metrics", ""}
	if urls := d.cloud.urls(); len(urls) > 0 && d.service == nil {
		args = append(args, "--targets", strings.Join(urls, ","))
	}
	service, err := startChild(d.exe, "service", d.logs(), d.cloud.environ(), args...)
	if err != nil {
		return err
	}
	d.service = service
	if d.addr, err = service.waitLine(ctx, "ready "); err != nil {
		return err
	}
	go service.drain()
	d.say("service       pid %d at %s, archive on %s", service.cmd.Process.Pid, d.addr, d.cloud.describe())
	return nil
}

// writer starts the writing process.
func (d *demo) writer(args ...string) (*child, error) {
	args = append([]string{"demo-writer", "--addr", d.addr, "--characters", strconv.Itoa(d.flags.characters)}, args...)
	return startChild(d.exe, "writer", d.logs(), nil, args...)
}

// acknowledged takes the writer's next acknowledgement; ok is false at its end.
func (d *demo) acknowledged(ctx context.Context, w *child) (ack sampledb.Ack, ok bool, err error) {
	select {
	case line, open := <-w.lines:
		if !open {
			return ack, false, nil
		}
		if err := json.Unmarshal([]byte(line), &ack); err != nil {
			return ack, false, fmt.Errorf("the writer said %q: %w", line, err)
		}
	case <-ctx.Done():
		return ack, false, ctx.Err()
	}
	if ack.N != int64(len(d.acks))+1 {
		return ack, false, fmt.Errorf("transaction %d was acknowledged after %d", ack.N, len(d.acks))
	}
	d.acks = append(d.acks, ack)
	return ack, true, nil
}

// load loads the sample and lets that writer end by itself.
func (d *demo) load(ctx context.Context) error {
	w, err := d.writer("--load", "--transactions", "1")
	if err != nil {
		return err
	}
	defer w.end()
	m := d.app.newMeter()
	defer m.done()
	for {
		ack, ok, err := d.acknowledged(ctx, w)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		d.result.Rows += int64(ack.Changes)
		m.update("load: %d rows", d.result.Rows)
	}
	if <-w.exited; w.err != nil {
		return fmt.Errorf("the writer failed: %w\n%s", w.err, w.tail())
	}
	d.result.LoadTx = len(d.acks)
	d.say("loaded        %d rows in %d transactions, %.1f s", d.result.Rows, len(d.acks), time.Since(d.began).Seconds())
	return nil
}

// work commits the transactions and kills every process while more are under way.
func (d *demo) work(ctx context.Context) error {
	first := len(d.acks)
	if err := d.workUntilKilled(ctx, "1", d.flags.transactions, 0); err != nil {
		return err
	}
	d.result.latencies(d.acks[first : first+d.flags.transactions])
	d.say("transactions  %d at %.0f/s, commit p50 %.2f ms, p99 %.2f ms", d.flags.transactions, d.result.PerSecond, d.result.CommitP50Ms, d.result.CommitP99Ms)
	d.say("killed        every process in mid-commit, %d transactions acknowledged", len(d.acks))
	return nil
}

// workUntilKilled runs a writer without an end, waits for count acknowledgements, until
// atLeast has passed, and a random moment more, and kills the service and the writer. What was acknowledged up to
// then is in d.acks: the pipe outlives them.
func (d *demo) workUntilKilled(ctx context.Context, seed string, count int, atLeast time.Duration) error {
	w, err := d.writer("--seed", seed)
	if err != nil {
		return err
	}
	defer w.end()
	m := d.app.newMeter()
	defer m.done()
	for i := 0; i < count || time.Since(d.began) < atLeast; i++ {
		_, ok, err := d.acknowledged(ctx, w)
		if err != nil {
			return err
		}
		if !ok {
			<-w.exited
			return fmt.Errorf("the writer ended after %d of %d transactions: %v\n%s", i, count, w.err, w.tail())
		}
		m.update("transactions: %d of %d", i+1, count)
	}
	moment := time.NewTimer(time.Duration(20+rand.IntN(130)) * time.Millisecond)
	defer moment.Stop()
	for killed := false; ; {
		select {
		case <-moment.C:
			d.crashed = time.Now()
			if err := errors.Join(d.service.kill(), w.kill()); err != nil {
				return err
			}
			killed = true
		default:
		}
		if killed {
			break
		}
		// Few acknowledgements fit into the pipe: take them as they come.
		select {
		case line, open := <-w.lines:
			if !open {
				<-w.exited
				return fmt.Errorf("the writer ended by itself: %v\n%s", w.err, w.tail())
			}
			var ack sampledb.Ack
			if err := json.Unmarshal([]byte(line), &ack); err != nil {
				return fmt.Errorf("the writer said %q: %w", line, err)
			}
			d.acks = append(d.acks, ack)
		case <-time.After(time.Millisecond):
		}
	}
	for {
		_, ok, err := d.acknowledged(ctx, w)
		if err != nil || !ok {
			return err
		}
	}
}

// crashAndRestart: case A. The hot tier is kept, so nothing acknowledged may be missing.
func (d *demo) crashAndRestart(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	found, err := d.compare(ctx, 0)
	if err != nil {
		return err
	}
	d.result.Crash = found
	if len(found.Missing) > 0 {
		return exit.With(exit.Integrity, fmt.Errorf("LOST: %s, although the hot tier was kept", found.missingText()))
	}
	d.say("restarted     hot tier kept: %d transactions acknowledged, %d there, each as acknowledged; lost: nothing", found.Acknowledged, found.Recovered)
	return nil
}

// workOn makes commits that the archive can't all have when everything is killed again.
func (d *demo) workOn(ctx context.Context) error {
	// Long enough that some of it is archived by then, and some is not.
	if err := d.workUntilKilled(ctx, "2", d.flags.transactions/4, archiveMaxAge+archiveMaxAge/2); err != nil {
		return err
	}
	d.say("killed again  every process in mid-commit, %d transactions acknowledged", len(d.acks))
	return nil
}

// disaster: case B. The hot tier, the page server and a cloud go; the rest must do.
func (d *demo) disaster(ctx context.Context) error {
	for _, gone := range []string{"logsvc", "pageserver"} {
		if err := os.RemoveAll(filepath.Join(d.serviceDir(), gone)); err != nil {
			return err
		}
	}
	var err error
	if d.result.LostCloud, err = d.cloud.lose(); err != nil {
		return err
	}
	d.say("deleted       the hot tier and the page server; cloud %s is gone", d.result.LostCloud)
	d.began = time.Now()
	out, err := d.run(ctx, exit.OK, "restore", "--dir", d.serviceDir(), "-o", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &d.result.Restore); err != nil {
		return fmt.Errorf("the report of restore: %w", err)
	}
	r := d.result.Restore
	d.say("restored      %d entries to LSN %d from %d objects, %d fragments rebuilt, unreachable: %s; %.1f s",
		r.Entries, r.LastLSN, r.ObjectsRead, r.FragmentsRebuilt, strings.Join(r.Unreachable, " "), time.Since(d.began).Seconds())
	return nil
}

// startRestored starts on what was restored and compares it with what was acknowledged.
func (d *demo) startRestored(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	found, err := d.compare(ctx, d.result.Restore.LastLSN)
	if err != nil {
		return err
	}
	d.result.Disaster = found
	if window := time.Duration(found.MissingMs * float64(time.Millisecond)); window > archiveMaxAge {
		return exit.With(exit.Integrity, fmt.Errorf("LOST: %s: more than archive_max_age, %v", found.missingText(), archiveMaxAge))
	}
	d.say("compared      %d transactions, each as acknowledged, digest %s…; lost: %s", found.Compared, found.Digest[:16], found.missingText())
	return nil
}

// run runs a logcore command to its end and returns its stdout; its exit code must be want.
func (d *demo) run(ctx context.Context, want exit.Code, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.exe, args...)
	cmd.Env = append(os.Environ(), d.cloud.environ()...)
	cmd.SysProcAttr = childAttributes()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	if code := exit.Code(cmd.ProcessState.ExitCode()); code != want {
		return nil, fmt.Errorf("logcore %s ended with exit code %d, want %d:\n%s%s", strings.Join(args, " "), code, want, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), nil
}
