//go:build !linux

package fleet

import (
	"syscall"
	"time"
)

func lockThread()   {}
func unlockThread() {}

func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func dirMark(dir string) string {
	return "KUBELAB_DIR=" + dir
}

// endMarked needs /proc. Elsewhere only what stays in its process group ends with its pod.
func endMarked(string) {}

// processorTimes needs /proc, too: elsewhere nothing is measured.
func processorTimes() map[process]time.Duration { return nil }
