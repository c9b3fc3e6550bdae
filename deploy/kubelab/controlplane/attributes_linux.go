package controlplane

import "syscall"

// childAttributes give a server a process group of its own, so that a terminal's interrupt reaches only us, and end it
// with us however we end.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
