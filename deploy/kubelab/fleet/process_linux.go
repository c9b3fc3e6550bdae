package fleet

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// eachProcess shows the environment of every other process that may be seen.
func eachProcess(show func(pid int, environment []byte)) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if environment, err := os.ReadFile("/proc/" + entry.Name() + "/environ"); err == nil {
			show(pid, append([]byte{0}, environment...))
		}
	}
}

// endMarked kills every process that has this line in its environment: those that left their group, too.
func endMarked(mark string) {
	eachProcess(func(pid int, environment []byte) {
		if bytes.Contains(environment, []byte("\x00"+mark+"\x00")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// The kernel counts processor time in these, whatever its own clock is.
const tick = 10 * time.Millisecond

// processorTimes tells how long each process of a container has computed.
func processorTimes() map[process]time.Duration {
	spent := map[process]time.Duration{}
	eachProcess(func(pid int, environment []byte) {
		of := container{marked(environment, podMark), marked(environment, containerMark)}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// The name, in parentheses, may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if of.pod == "" || err != nil || len(fields) < 20 {
			return
		}
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		spent[process{of, pid, fields[19]}] = time.Duration(user+system) * tick
	})
	return spent
}

// marked is what follows a mark in an environment.
func marked(environment []byte, mark string) string {
	_, rest, _ := bytes.Cut(environment, []byte("\x00"+mark))
	value, _, _ := bytes.Cut(rest, []byte{0})
	return string(value)
}
