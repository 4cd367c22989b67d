package s3test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestKillAndRestartKeepsAddress(t *testing.T) {
	s := StartTest(t, Options{Clouds: []string{"a", "b"}, Buckets: []string{"one"}, LockedBuckets: []string{"locked"}})
	a := s.Cloud("a")
	endpoint := a.Endpoint()
	if s.Cloud("b").Endpoint() == endpoint {
		t.Fatal("two clouds share an address")
	}
	if err := health(t, s, endpoint); err != nil {
		t.Fatal(err)
	}
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := health(t, s, endpoint); err == nil {
		t.Fatal("a killed gateway still answers")
	}
	if err := a.Kill(); err != nil {
		t.Fatalf("second Kill: %v", err)
	}
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.Endpoint() != endpoint {
		t.Fatalf("came back at %s, was at %s", a.Endpoint(), endpoint)
	}
	if err := health(t, s, endpoint); err != nil {
		t.Fatal(err)
	}
	if err := a.MakeBucket(t.Context(), "one", false); err != nil { // it exists
		t.Fatal(err)
	}
}

func health(t *testing.T, s *Servers, endpoint string) error {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	r, err := client.Get(endpoint + "/healthz")
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("health: %s", r.Status)
	}
	return nil
}

func TestBadOptionsAreReportedTogether(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: "relative", ReadyTimeout: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Dir", "Clouds", "ReadyTimeout"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is missing: %v", field, err)
		}
	}
}

// A gateway that can't start says why, at once and not after the deadline.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cloud-a"), nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	began := time.Now()
	_, err := Start(t.Context(), Options{Dir: dir, Clouds: []string{"a"}, ReadyTimeout: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "cloud a") || !strings.Contains(err.Error(), "cloud-a") {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

const orphanDir = "LOGCORE_S3TEST_ORPHAN_DIR"

// TestMain is the child of TestGatewaysDieWithTheirProgram when the variable is set: it
// starts gateways and then waits to be killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(orphanDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := Start(context.Background(), Options{Dir: dir, Clouds: []string{"a", "b"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, c := range s.clouds {
		fmt.Println(c.process.cmd.Process.Pid)
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	os.Exit(1)
}

func TestGatewaysDieWithTheirProgram(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), orphanDir+"="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for scan := bufio.NewScanner(out); scan.Scan() && scan.Text() != "ready"; {
		pid, err := strconv.Atoi(scan.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	time.Sleep(300 * time.Millisecond) // they outlive the thread that started them
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("gateway %d died before its program: %v", pid, err)
		}
	}
	if len(pids) != 2 {
		t.Errorf("%d gateways, want 2", len(pids))
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // killed
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, pid := range pids {
		err := poll(ctx, func() error {
			if running(pid) {
				return fmt.Errorf("gateway %d still runs", pid)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// running reports whether a process runs; one that is dead and not waited for doesn't.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(bytes.TrimSpace(after), []byte("Z"))
}

// Objects of an earlier run are served again by the next one in the same directory.
func TestObjectsSurviveRuns(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		s, err := Start(ctx, Options{Dir: dir, Clouds: []string{"a"}, Buckets: []string{"one"}})
		cancel() // the gateways outlive the context that started them
		if err != nil {
			t.Fatal(err)
		}
		if err := health(t, s, s.Cloud("a").Endpoint()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
