// Command s3gateway is a real S3 server in one small process: the S3 front of
// versitygw over a local directory. Tests and the demo run one per "cloud". It never
// syncs what it stores: it is for tests, not a durable store.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

const (
	accessEnv = "S3GATEWAY_ACCESS_KEY"
	secretEnv = "S3GATEWAY_SECRET_KEY"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "s3gateway:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Objects lie under DIR/objects, old versions under
// DIR/versions; both are made when missing.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("s3gateway", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory for buckets (required; its file system must support extended attributes)")
	listen := flags.String("listen", "127.0.0.1:0", "host:port to serve on; port 0 takes a free one")
	cert := flags.String("cert", "", "TLS certificate file (PEM); empty serves plain http")
	key := flags.String("key", "", "TLS private key file (PEM)")
	region := flags.String("region", "us-east-1", "region to report")
	if err := flags.Parse(args); err != nil {
		return err
	}
	access, secret := os.Getenv(accessEnv), os.Getenv(secretEnv)
	switch {
	case *dir == "":
		return fmt.Errorf("--dir is required")
	case access == "" || secret == "":
		return fmt.Errorf("set %s and %s to the root credentials", accessEnv, secretEnv)
	case (*cert == "") != (*key == ""):
		return fmt.Errorf("--cert and --key go together")
	}
	address, err := freeAddress(*listen)
	if err != nil {
		return err
	}
	objects, versions := filepath.Join(*dir, "objects"), filepath.Join(*dir, "versions")
	for _, d := range []string{objects, versions} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := (meta.XattrMeta{}).Test(objects); err != nil {
		return fmt.Errorf("%s: no extended attributes there: %w", objects, err)
	}
	store, err := posix.New(objects, meta.XattrMeta{}, posix.PosixOpts{VersioningDir: versions, Concurrency: 64})
	if err != nil {
		return err
	}
	go announce(ctx, address)
	return embedgw.RunVersityGW(ctx, store, &embedgw.Config{
		RootUserAccess: access, RootUserSecret: secret, Region: *region,
		Ports: []string{address}, CertFile: *cert, KeyFile: *key,
		MaxConnections: 1024, MaxRequests: 1024, MultipartMaxParts: 10000,
		KeepAlive: true, Quiet: true, HealthPath: "/healthz",
	})
}

// freeAddress replaces port 0 by a port that was free a moment ago: versitygw opens
// its own listener and doesn't tell the port. Should another process take it in
// between, the server fails to listen and the caller starts it again.
func freeAddress(listen string) (string, error) {
	_, port, err := net.SplitHostPort(listen)
	if err != nil || port != "0" {
		return listen, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// announce prints the address on standard output once it accepts connections.
func announce(ctx context.Context, address string) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			fmt.Println("listening", address)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
