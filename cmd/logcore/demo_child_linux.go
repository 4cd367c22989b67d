package main

import "syscall"

// childAttributes make the kernel kill a child when the demo ends, however it ends.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
