package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// shardedDev is a development service of three shards, with two logs in each, archived.
type shardedDev struct {
	t   *testing.T
	dir string
	p   *program
}

func startSharded(t *testing.T) *shardedDev {
	t.Helper()
	s := &shardedDev{t: t, dir: filepath.Join(t.TempDir(), "lc")}
	s.p = startDev(t, s.dir, "--shards", "3")
	for i := range 6 {
		log := fmt.Sprint("log", i)
		s.cli("log", "create", log).want(t, exit.OK)
		s.write(log, "one of "+log)
	}
	for i := range 6 {
		s.cli("log", "flush", fmt.Sprint("log", i)).want(t, exit.OK)
	}
	return s
}

func (s *shardedDev) cli(args ...string) result {
	s.t.Helper()
	return cli(s.t, append(args, "--addr", s.p.addr)...)
}

func (s *shardedDev) write(log, text string) {
	s.t.Helper()
	cliIn(s.t, strings.NewReader(text+"\n"), "log", "append", log, "--addr", s.p.addr).want(s.t, exit.OK)
}

func (s *shardedDev) restart() {
	s.t.Helper()
	s.p.kill()
	s.p = startDev(s.t, s.dir)
}

// healthy waits until the service is well: archivers take a moment to start.
func (s *shardedDev) healthy() {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		r := s.cli("status")
		if r.code == exit.OK {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not well within a minute: %s%s", r.out, r.err)
		}
	}
}

// unhealthy waits until the status says a text.
func (s *shardedDev) unhealthy(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r := s.cli("status")
		if r.code == exit.Unhealthy && strings.Contains(r.out, text) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no %q within a minute: %s%s", text, r.out, r.err)
		}
	}
}

// archives returns what the archive of each shard says.
func (s *shardedDev) archives() []client.ArchiveStatus {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Addr: s.p.addr})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	st, err := c.ArchiveStatus(ctx)
	if err != nil || len(st.Shards) != 3 {
		s.t.Fatalf("%d shards, %v", len(st.Shards), err)
	}
	return st.Shards
}

// only calls the archive service about one shard, as a command does that goes no further.
func (s *shardedDev) only(f func(context.Context, logcorev1.ArchiveServiceClient) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := client.NewConn(s.p.addr, client.Options{Addr: s.p.addr})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := f(ctx, logcorev1.NewArchiveServiceClient(conn)); err != nil {
		s.t.Fatal(err)
	}
}

func targetNames(st client.ArchiveStatus) (names []string) {
	for _, t := range st.Targets {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return names
}

func policyOf(st client.ArchiveStatus, log logcore.LogID) client.ArchivePolicy {
	for _, p := range st.Policies {
		if p.LogID == log {
			return p
		}
	}
	return client.ArchivePolicy{}
}

// Every command about the archive is about every shard's: targets, code, retention, holds, locks, scrub, compaction.
func TestArchiveCommandsAreAboutAllShards(t *testing.T) {
	s := startSharded(t)
	s.cli("log", "move", "log1", "--to", "2").want(t, exit.OK)
	s.write("log1", "two of log1")
	s.cli("log", "flush", "log1").want(t, exit.OK)
	s.cli("recode", "--k", "6", "--m", "3").want(t, exit.Server, "shard 0", "add 3 more")
	s.cli("target", "add", "dir://"+filepath.Join(t.TempDir(), "d1")+"?name=d1&provider=d").want(t, exit.OK, "d1 is added")
	s.cli("target", "remove", "b1").want(t, exit.OK, "b1")
	s.cli("target", "remove", "nothing").want(t, exit.Server, `"nothing"`)
	s.cli("recode", "--k", "3", "--m", "2", "--wait").want(t, exit.OK, "3+2")
	s.cli("retention", "set", "log1", "90d").want(t, exit.OK, "log1", "2160h")
	s.cli("retention", "lock", "30d").want(t, exit.OK, "locked for 720h")
	s.cli("hold", "add", "log2", "case 17").want(t, exit.OK, "log2", "case 17")
	s.cli("hold", "add", "--all", "case 18").want(t, exit.OK, "(every log)", "case 18")
	log1, log2 := logcore.LogID(0), logcore.LogID(0)
	for i, st := range s.archives() {
		for _, p := range st.Policies {
			switch p.Log {
			case "log1":
				log1 = p.LogID
			case "log2":
				log2 = p.LogID
			}
		}
		if want := []string{"a1", "a2", "b2", "c1", "c2", "d1"}; !slices.Equal(targetNames(st), want) {
			t.Errorf("shard %d is on %v, want %v", i, targetNames(st), want)
		}
		if st.K != 3 || st.M != 2 || st.Recoding != 0 || st.Objects == 0 || st.Lock != 30*24*time.Hour {
			t.Errorf("shard %d: %d+%d, %d of %d objects to recode, locked for %v", i, st.K, st.M, st.Recoding, st.Objects, st.Lock)
		}
		if policyOf(st, log1).Keep != 90*24*time.Hour || policyOf(st, log2).Hold != "case 17" || policyOf(st, 0).Hold != "case 18" {
			t.Errorf("shard %d: policies %+v", i, st.Policies)
		}
	}
	s.cli("hold", "release", "--all").want(t, exit.OK)
	s.cli("scrub").want(t, exit.OK, "shard 0", "shard 1", "shard 2", "end of the archive", "0, 0 repaired")
	s.cli("scrub", "--shard", "1", "--from", "1").want(t, exit.OK, "end of the archive")
	s.cli("scrub", "--from", "1").want(t, exit.Usage, "--shard")
	s.cli("scrub", "--shard", "3").want(t, exit.Usage, "3 shards")
	s.cli("compact").want(t, exit.OK, "saved")
	s.cli("target", "ls").want(t, exit.OK, "d1")
	s.healthy()
	s.restart()
	s.healthy()
	for i, st := range s.archives() {
		if st.K != 3 || policyOf(st, log2).Hold != "case 17" || policyOf(st, 0).Hold != "" || slices.Contains(targetNames(st), "b1") {
			t.Errorf("shard %d after the restart: %+v", i, st)
		}
	}
	s.p.stop()
	cli(t, "verify", "--dir", s.dir).want(t, exit.OK, "every byte is what was written")
}

// The same with the service stopped.
func TestArchiveCommandsOfAllShardsOffline(t *testing.T) {
	s := startSharded(t)
	s.p.stop()
	off := func(args ...string) result {
		t.Helper()
		return cli(t, append(args, "--offline", "--dir", s.dir)...)
	}
	off("target", "add", "dir://"+filepath.Join(t.TempDir(), "d1")+"?name=d1&provider=d").want(t, exit.OK, "d1 is added")
	off("target", "remove", "b1").want(t, exit.OK, "b1")
	off("target", "evacuate", "nothing").want(t, exit.Usage, `"nothing"`)
	off("recode", "--k", "2", "--m", "2").want(t, exit.OK, "2+2")
	off("scrub").want(t, exit.OK, "shard 2", "end of the archive")
	s.p = startDev(t, s.dir)
	s.healthy()
	for i, st := range s.archives() {
		if st.K != 2 || st.Recoding != 0 || slices.Contains(targetNames(st), "b1") || !slices.Contains(targetNames(st), "d1") {
			t.Errorf("shard %d: %d+%d on %v", i, st.K, st.M, targetNames(st))
		}
	}
	s.p.stop()
	cli(t, "verify", "--dir", s.dir).want(t, exit.OK, "every byte is what was written")
}

// A command that ended between two shards (F1): the status says in what they differ, also after a crash, and the same command
// again makes them alike. A target that was added goes on to the other shards by itself.
func TestArchiveCommandCutShort(t *testing.T) {
	s := startSharded(t)
	s.only(func(ctx context.Context, c logcorev1.ArchiveServiceClient) error {
		_, err := c.SetHold(ctx, &logcorev1.SetHoldRequest{Log: "log3", Reason: "case 17", Shard: 1})
		return err
	})
	s.only(func(ctx context.Context, c logcorev1.ArchiveServiceClient) error {
		_, err := c.Recode(ctx, &logcorev1.RecodeRequest{DataFragments: 2, ParityFragments: 2, Shard: 2})
		return err
	})
	s.restart()
	s.unhealthy(`differ in the hold on log "log3": case 17 in shard 1; none in shards 0, 2`)
	s.unhealthy(`differ in the code: 2+2 in shard 2; 4+2 in shards 0, 1`)
	s.cli("hold", "add", "log3", "case 17").want(t, exit.OK)
	s.cli("recode", "--k", "2", "--m", "2", "--wait").want(t, exit.OK)
	s.healthy()

	added := "dir://" + filepath.Join(t.TempDir(), "d1") + "?name=d1&provider=d"
	s.only(func(ctx context.Context, c logcorev1.ArchiveServiceClient) error {
		_, err := c.AddTarget(ctx, &logcorev1.AddTargetRequest{Url: added, Shard: 0})
		return err
	})
	s.unhealthy("differ in target d1: in use in shard 0; none in shards 1, 2")
	s.restart()
	s.healthy()
	for i, st := range s.archives() {
		if !slices.Contains(targetNames(st), "d1") {
			t.Errorf("shard %d does not have d1 after the restart: %v", i, targetNames(st))
		}
	}
	s.only(func(ctx context.Context, c logcorev1.ArchiveServiceClient) error {
		_, err := c.RemoveTarget(ctx, &logcorev1.RemoveTargetRequest{Name: "b1", Shard: 0})
		return err
	})
	s.restart()
	s.unhealthy("differ in target b1: in use in shards 1, 2; none in shard 0")
	s.cli("target", "remove", "b1").want(t, exit.OK)
	s.healthy()
	s.restart()
	s.healthy()
	s.p.stop()
	cli(t, "verify", "--dir", s.dir).want(t, exit.OK, "every byte is what was written")
}

// SIGKILL of the service at random moments of commands that go from shard to shard (F1, F16): each command, given again, does
// what is left, and nothing that was archived is lost.
func TestArchiveCommandsKilled(t *testing.T) {
	s := startSharded(t)
	base, have := t.TempDir(), "c2"
	for round := range 4 {
		next := fmt.Sprint("d", round)
		for _, args := range [][]string{
			{"target", "add", "dir://" + filepath.Join(base, next) + "?name=" + next + "&provider=c"},
			{"target", "remove", have},
			{"hold", "add", "log0", "case " + next},
		} {
			ended := make(chan result, 1)
			go func(addr string) { ended <- cli(t, append(args, "--addr", addr, "--timeout", "5s")...) }(s.p.addr)
			time.Sleep(rand.N(250 * time.Millisecond))
			s.p.kill()
			<-ended
			s.p = startDev(t, s.dir)
			var r result
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				if r = s.cli(args...); r.code == exit.OK {
					break
				}
			}
			r.want(t, exit.OK)
		}
		have = next
		s.healthy()
		for i, st := range s.archives() {
			if want := []string{"a1", "a2", "b1", "b2", "c1", have}; !slices.Equal(targetNames(st), want) {
				t.Fatalf("round %d: shard %d is on %v, want %v", round, i, targetNames(st), want)
			}
		}
	}
	s.p.stop()
	cli(t, "verify", "--dir", s.dir).want(t, exit.OK, "every byte is what was written")
	if err := os.RemoveAll(filepath.Join(s.dir, "logsvc")); err != nil {
		t.Fatal(err)
	}
	cli(t, "restore", "--dir", s.dir).want(t, exit.OK, "shard 2", "log5")
}
