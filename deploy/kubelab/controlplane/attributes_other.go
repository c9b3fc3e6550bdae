//go:build !linux

package controlplane

import "syscall"

// childAttributes give a server a process group of its own, so that a terminal's interrupt reaches only us.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
