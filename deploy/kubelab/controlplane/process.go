package controlplane

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// A server that ended is started again after this.
const restartDelay = time.Second

// process is one server, kept running until its context ends.
type process struct {
	name string
	done chan struct{}
}

// keepRunning starts this binary as `name` and starts it again whenever it ends. Its output goes to logs/<name>.log.
func (p *Plane) keepRunning(ctx context.Context, name string, arguments []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(p.dir, "logs", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	started := &process{name: name, done: make(chan struct{})}
	p.processes = append(p.processes, started)
	go func() {
		// A child gets its death signal when the thread that started it ends, not only when the process does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(started.done)
		defer output.Close()
		for ctx.Err() == nil {
			// Killed at the end: nothing of a lab is kept, so nothing has to be closed in order.
			command := exec.CommandContext(ctx, self, append([]string{name}, arguments...)...)
			command.Stdout, command.Stderr = output, output
			command.SysProcAttr = childAttributes()
			err := command.Run()
			if ctx.Err() == nil {
				log.Printf("%s ended: %v; it is started again", name, err)
				sleep(ctx, restartDelay)
			}
		}
	}()
	return nil
}

// waitFor asks until the answer is nil.
func waitFor(ctx context.Context, what string, timeout time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("%s was not ready within %s: %w", what, timeout, err)
		}
	}
}

func sleep(ctx context.Context, duration time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(duration):
	}
}
