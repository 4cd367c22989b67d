package cluster

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/logcore/logcore"
)

// Unpack extracts one archive of a base backup into a data directory: the main one, or,
// named by its number, a tablespace's, which goes inside. What runs while the server runs (WAL,
// sockets) and links are left out.
func Unpack(dir, archive string, r io.Reader) error {
	root := dir
	if name := strings.TrimSuffix(archive, ".tar"); name != "base" && name != "" {
		if strings.Trim(name, "0123456789") != "" {
			return fmt.Errorf("cluster: %w: base backup with an archive %q", logcore.ErrCorrupt, archive)
		}
		root = filepath.Join(dir, "pg_tblspc", name)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cluster: %w: base backup %s: %w", logcore.ErrCorrupt, archive, err)
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("cluster: %w: base backup %s holds the path %q", logcore.ErrCorrupt, archive, h.Name)
		}
		path := filepath.Join(root, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
		case tar.TypeReg:
			err = unpackFile(path, t)
		}
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
}

func unpackFile(path string, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
