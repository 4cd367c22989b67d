package certs_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/certs/certstest"
)

func load(t *testing.T, use certs.Use, f certs.Files) *certs.Certificates {
	t.Helper()
	c, err := certs.Load(certs.Options{Files: f, Use: use, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake connects a client with a server and returns what either makes of it.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			if err == nil {
				_, err = conn.Write([]byte("x"))
			}
			conn.Close()
		}
		done <- err
	}()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, client)
	if atClient = c.Handshake(); atClient == nil {
		_, atClient = c.Read(make([]byte, 1)) // in TLS 1.3 a server refuses a certificate only now
	} else {
		conn.Close()
	}
	return <-done, atClient
}

// TestLoadRefuses: what the files must be.
func TestLoadRefuses(t *testing.T) {
	ca, foreign := certstest.New(t), certstest.New(t)
	good, other, expired := ca.Files(t, time.Hour, "127.0.0.1"), foreign.Files(t, time.Hour, "127.0.0.1"), ca.Files(t, -time.Minute, "127.0.0.1")
	for _, c := range []struct {
		what string
		use  certs.Use
		f    certs.Files
		want string
	}{
		{"expired", certs.Node, expired, "expired on "},
		{"expired", certs.Server, expired, "expired on "},
		{"expired", certs.Client, expired, "expired on "},
		{"of another CA", certs.Node, certs.Files{Cert: good.Cert, Key: good.Key, CA: other.CA}, "unknown authority"},
		{"another's key", certs.Server, certs.Files{Cert: good.Cert, Key: other.Key}, "private key does not match"},
		{"a key missing", certs.Client, certs.Files{Cert: good.Cert, CA: good.CA}, "belong together"},
		{"no CA", certs.Client, certs.Files{}, "CA"},
		{"no certificate", certs.Server, certs.Files{CA: good.CA}, "required"},
		{"no CA file", certs.Node, certs.Files{Cert: good.Cert, Key: good.Key, CA: good.Key}, "holds no certificate"},
	} {
		if _, err := certs.Load(certs.Options{Files: c.f, Use: c.use}); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	good.CA = filepath.Join(t.TempDir(), "none")
	if _, err := certs.Load(certs.Options{Files: good}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestServerAndClient: who talks to whom, and what those who don't are told.
func TestServerAndClient(t *testing.T) {
	ca, foreign := certstest.New(t), certstest.New(t)
	server := ca.Files(t, time.Hour, "127.0.0.1")
	open := load(t, certs.Server, certs.Files{Cert: server.Cert, Key: server.Key})
	strict := load(t, certs.Server, server)
	anybody := load(t, certs.Client, certs.Files{CA: server.CA})
	known := load(t, certs.Client, ca.Files(t, time.Hour, "client"))
	mixed := foreign.Files(t, time.Hour, "client")
	if err := os.WriteFile(mixed.CA, ca.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	unknown := load(t, certs.Client, mixed)
	foreigner := load(t, certs.Client, certs.Files{CA: foreign.Files(t, time.Hour, "x").CA})
	past := func() time.Time { return time.Now().Add(-30 * time.Minute) }
	old, err := certs.Load(certs.Options{Files: ca.Files(t, -time.Minute, "127.0.0.1"), Use: certs.Server, Now: past})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what           string
		server, client *tls.Config
		want           string // of either end's error; empty: they talk
	}{
		{"any client, an open service", open.Server(), anybody.Client("127.0.0.1"), ""},
		{"a known client, a strict service", strict.Server(), known.Client("127.0.0.1"), ""},
		{"no certificate, a strict service", strict.Server(), anybody.Client("127.0.0.1"), "certificate required"},
		{"a certificate of another CA, a strict service", strict.Server(), unknown.Client("127.0.0.1"), "unknown"},
		{"a service of another CA", open.Server(), foreigner.Client("127.0.0.1"), "does not come from a CA in "},
		{"another name", open.Server(), anybody.Client("db-1.example"), "certificate of db-1.example: "},
		{"a service that expired", old.Server(), anybody.Client("127.0.0.1"), "certificate of 127.0.0.1: the certificate expired on "},
	} {
		atServer, atClient := handshake(t, c.server, c.client)
		switch {
		case c.want == "" && (atServer != nil || atClient != nil):
			t.Errorf("%s: %v, %v", c.what, atServer, atClient)
		case c.want != "" && (atClient == nil || !strings.Contains(atClient.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, atClient, c.want)
		}
	}
}

// TestReadAgain: files that change are in use a second later, at both ends; a broken one changes nothing, and is told.
func TestReadAgain(t *testing.T) {
	before, after := certstest.New(t), certstest.New(t)
	files, clientFiles := before.Files(t, time.Hour, "127.0.0.1"), before.Files(t, time.Hour, "client")
	var told bytes.Buffer
	server, err := certs.Load(certs.Options{Files: files, Use: certs.Server, Logger: slog.New(slog.NewTextHandler(&told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	client := load(t, certs.Client, clientFiles)
	talk := func(what string) {
		t.Helper()
		if atServer, atClient := handshake(t, server.Server(), client.Client("127.0.0.1")); atServer != nil || atClient != nil {
			t.Fatalf("%s: %v, %v", what, atServer, atClient)
		}
	}
	const again = 1100 * time.Millisecond
	talk("at first")
	if err := os.WriteFile(files.Cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(again)
	talk("with a broken file")
	if !strings.Contains(told.String(), "stay in use") {
		t.Errorf("nobody was told of the broken file: %q", told.String())
	}
	if err := errors.Join(after.IssueAs(files, time.Hour, "127.0.0.1"), after.IssueAs(clientFiles, time.Hour, "client")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(again)
	talk("with another CA")
	if _, atClient := handshake(t, server.Server(), load(t, certs.Client, before.Files(t, time.Hour, "client")).Client("127.0.0.1")); atClient == nil {
		t.Error("the old CA is still trusted")
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "localhost": true, "127.8.8.8": true, "10.0.0.1:1": false, "db-1:1": false, ":1": false, "0.0.0.0:1": false, "": false} {
		if got := certs.Loopback(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}
