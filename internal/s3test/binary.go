package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// gatewayModule is the gateway's own module, from the project's root.
const gatewayModule = "tools/s3gateway"

// Binary returns the path of the gateway's binary, bin/s3gateway in the project's root,
// which it finds from the working directory. It builds the binary when it is missing or
// older than its sources; the first build takes a minute or two. Processes that ask at
// once build it once.
func Binary(ctx context.Context) (string, error) {
	root, err := projectRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(ctx, filepath.Join(bin, ".s3gateway.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	binary := filepath.Join(bin, "s3gateway")
	if fresh, err := upToDate(binary, filepath.Join(root, gatewayModule)); fresh || err != nil {
		return binary, err
	}
	return binary, build(ctx, root, binary)
}

func build(ctx context.Context, root, binary string) error {
	fresh := binary + ".new"
	cmd := exec.CommandContext(ctx, "go", "build", "-o", fresh, ".")
	cmd.Dir = filepath.Join(root, gatewayModule)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("s3test: build %s: %w\n%s", gatewayModule, errors.Join(err, ctx.Err()), out.String())
	}
	return os.Rename(fresh, binary) // in place, it might be running
}

// projectRoot is the nearest directory above that holds the gateway's module.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, gatewayModule, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("s3test: no %s above %s: run inside the project's source tree", gatewayModule, dir)
		}
	}
}

func upToDate(binary, module string) (bool, error) {
	built, err := os.Stat(binary)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	entries, err := os.ReadDir(module)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		source := strings.HasSuffix(e.Name(), ".go") || e.Name() == "go.mod" || e.Name() == "go.sum"
		if info, err := e.Info(); source && (err != nil || info.ModTime().After(built.ModTime())) {
			return false, err
		}
	}
	return true, nil
}

// lockFile takes a lock that the kernel drops with this process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("s3test: wait for another build of the gateway: %w", err)
	}
	return func() { f.Close() }, nil
}
