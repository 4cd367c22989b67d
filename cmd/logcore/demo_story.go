package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		{"checkpoint", d.checkpoint},
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
	began := time.Now()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.coldStart(ctx, began); err != nil {
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
