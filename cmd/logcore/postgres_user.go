package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// postgresUser returns whom the server runs as: it refuses to run as root, so then it is the
// distribution's user.
func postgresUser(uid int) (owner, group int, err error) {
	if uid != 0 {
		return uid, os.Getgid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, fmt.Errorf("the server refuses to run as root, and there is no user postgres: %w", err)
	}
	owner, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	group, err = strconv.Atoi(u.Gid)
	return owner, group, err
}

// ownAsPostgres gives a data directory to the server's user.
func ownAsPostgres(dir string, uid int) error {
	if uid != 0 {
		return nil
	}
	owner, group, err := postgresUser(uid)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, owner, group)
	})
}
