package fleet

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

func lockThread()   { runtime.LockOSThread() }
func unlockThread() { runtime.UnlockOSThread() }

// childAttributes end a container's process with the lab, however the lab ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// dirMark is in the environment of every process of this lab.
func dirMark(dir string) string {
	return "KUBELAB_DIR=" + dir
}

// endMarked kills every process that has this line in its environment: those that left their group, too.
func endMarked(mark string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	line := append([]byte(mark), 0)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if err == nil && (bytes.HasPrefix(environment, line) || bytes.Contains(environment, append([]byte{0}, line...))) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
