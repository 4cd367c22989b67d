//go:build !linux

package main

import "syscall"

// childAttributes: only Linux kills a child with its parent; elsewhere the demo does
// it as long as it ends by itself.
func childAttributes() *syscall.SysProcAttr { return nil }
