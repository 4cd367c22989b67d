package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/certs/certstest"
	"github.com/logcore/logcore/internal/exit"
)

func tlsArgs(f certs.Files) []string {
	return []string{"--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key}
}

// TestTLS: a log service and a page server that follows it, with certificates on both sides; and what a client is told
// when it does not get in. A certificate that expired is replaced while the service runs.
func TestTLS(t *testing.T) {
	ca, foreign := certstest.New(t), certstest.New(t)
	server, user := ca.Files(t, time.Hour, "127.0.0.1"), ca.Files(t, time.Hour, "user")
	dir := t.TempDir()
	logs := startProgram(t, "logsvc", append(tlsArgs(server), "--dir", filepath.Join(dir, "log"), "--listen", "127.0.0.1:0", "--metrics", "", "--disk-reserve-bytes", "1MiB", "--segment-bytes", "1MiB")...)
	pages := startProgram(t, "pageserver", append(tlsArgs(server), "--log-service", logs.addr, "--log-service-ca", server.CA, "--dir", filepath.Join(dir, "pages"), "--listen", "127.0.0.1:0", "--metrics", "")...)
	at := func(f []string, args ...string) result {
		return cli(t, append(append(args, "--addr", logs.addr, "--page-addr", pages.addr, "--timeout", "10s"), f...)...)
	}
	in := tlsArgs(user)
	at(in, "log", "create", "l").want(t, exit.OK)
	at(in, "log", "append", "l", "-d", "hello").want(t, exit.OK)
	at(in, "log", "read", "l").want(t, exit.OK, "hello")
	at(in, "status").want(t, exit.OK)
	at(in, "page", "get", "none", "1").want(t, exit.Server) // the page server answers

	mixed := user
	mixed.CA = foreign.Files(t, time.Hour, "x").CA
	for _, c := range []struct {
		what  string
		flags []string
		text  string
	}{
		{"plain text", nil, "the service speaks TLS: name the CA"},
		{"no certificate", []string{"--tls-ca", user.CA}, "the service demands a certificate of its clients"},
		{"a certificate of another CA", []string{"--tls-ca", user.CA, "--tls-cert", foreign.Files(t, time.Hour, "user").Cert, "--tls-key", user.Key}, "private key does not match"},
		{"a service of another CA", tlsArgs(mixed), "certificate of 127.0.0.1: it does not come from a CA in " + mixed.CA},
		{"no such file", []string{"--tls-ca", filepath.Join(dir, "none")}, "no such file"},
	} {
		r := at(c.flags, "log", "ls")
		if r.code == exit.OK {
			t.Errorf("%s: got in", c.what)
		}
		r.want(t, r.code, c.text)
	}
	stranger := foreign.Files(t, time.Hour, "user")
	at([]string{"--tls-ca", user.CA, "--tls-cert", stranger.Cert, "--tls-key", stranger.Key}, "log", "ls").want(t, exit.Connect, "the service refuses the certificate that this client shows")
	at([]string{"--tls-ca", user.CA, "--tls-cert", stranger.Cert, "--tls-key", stranger.Key}, "cluster", "status").want(t, exit.Connect, "the service refuses the certificate that this client shows")

	if err := ca.IssueAs(server, 4*time.Second, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	at(in, "log", "ls").want(t, exit.OK) // reads the file
	time.Sleep(3 * time.Second)
	at(in, "log", "ls").want(t, exit.Connect, "certificate of 127.0.0.1: the certificate expired on ")
	if err := ca.IssueAs(server, time.Hour, "db-1.example"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	at(in, "log", "ls").want(t, exit.Connect, "certificate of 127.0.0.1: ", "doesn't contain any IP SANs")
	if err := ca.IssueAs(server, time.Hour, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	at(in, "log", "read", "l").want(t, exit.OK, "hello")
	pages.stop()
	logs.stop()
}

// TestPlainTextIsForLoopback: other addresses are neither served nor dialled without certificates; a service that speaks
// plain text is told from one that does not.
func TestPlainTextIsForLoopback(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{"logsvc": nil, "pageserver": {"--log-service", "127.0.0.1:1"}} {
		p, ready := tryProgram(t, name, append(args, "--dir", filepath.Join(dir, name), "--listen", "0.0.0.0:0", "--metrics", "")...)
		if ready {
			t.Errorf("%s serves everybody in plain text", name)
		}
		result{exit.Usage, p.stdout.String(), p.stderr.String()}.want(t, exit.Usage, "plain text is for those only: set tls_cert and tls_key")
	}
	cli(t, "log", "ls", "--addr", "192.0.2.1:7420", "--timeout", "300ms").want(t, exit.Usage, "plain text is for loopback addresses only")
	plain := startProgram(t, "logsvc", "--dir", filepath.Join(dir, "plain"), "--listen", "127.0.0.1:0", "--metrics", "", "--disk-reserve-bytes", "1MiB", "--segment-bytes", "1MiB")
	user := certstest.New(t).Files(t, time.Hour, "user")
	cli(t, "log", "ls", "--addr", plain.addr, "--tls-ca", user.CA).want(t, exit.Connect, "the service speaks plain text")
	plain.stop()
}
