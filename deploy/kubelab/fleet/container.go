package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	backoffFirst = time.Second
	backoffMost  = 10 * time.Second
	// Output of children that a container left behind is awaited no longer than this.
	outputDelay = time.Second
	// Faults are looked for this often while a process runs.
	faultInterval = 250 * time.Millisecond
	killedCode    = 137
)

// runContainer runs a container, again and again if its pod says so, and answers the code of its last end. An init
// container of a pod that always restarts is only restarted after a failure.
func (r *runner) runContainer(container core.Container, isInit bool) int {
	backoff := backoffFirst
	for attempt := 0; ; attempt++ {
		if !r.pullImage(container) {
			return killedCode
		}
		code, reason, message := r.runOnce(container, attempt)
		if r.isStopping() || !restarts(r.pod.Spec.RestartPolicy, isInit, code) {
			r.terminated(container.Name, attempt, code, reason, message)
			r.report()
			return code
		}
		r.terminated(container.Name, attempt, code, reason, message)
		r.waiting(container.Name, "CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container", backoff))
		r.event(core.EventTypeWarning, "BackOff", "Back-off restarting failed container "+container.Name)
		if !r.sleep(backoff) {
			return code
		}
		backoff = min(2*backoff, backoffMost)
		r.change(container.Name, func(status *core.ContainerStatus) { status.RestartCount++ })
	}
}

func restarts(policy core.RestartPolicy, isInit bool, code int) bool {
	if policy == core.RestartPolicyAlways && !isInit {
		return true
	}
	return policy != core.RestartPolicyNever && code != 0
}

// pullImage pretends to; false when the pod is to end before there is an image.
func (r *runner) pullImage(container core.Container) bool {
	for reason := "ErrImagePull"; r.fault() == faultImagePull; reason = "ImagePullBackOff" {
		message := fmt.Sprintf("Failed to pull image %q: not found", container.Image)
		r.waiting(container.Name, reason, message)
		r.event(core.EventTypeWarning, "Failed", message)
		if !r.sleep(tryAgain) {
			return false
		}
	}
	return !r.isStopping()
}

// runOnce starts the process and waits for its end: by itself, because the pod is to end, or by a fault.
func (r *runner) runOnce(container core.Container, attempt int) (code int, reason, message string) {
	command, err := r.command(container)
	if err != nil {
		r.waiting(container.Name, "CreateContainerConfigError", err.Error())
		r.event(core.EventTypeWarning, "Failed", err.Error())
		return 128, "CreateContainerConfigError", err.Error()
	}
	output, err := openLog(r.logFile(container.Name, attempt))
	if err != nil {
		return 128, "StartError", err.Error()
	}
	defer output.close()
	command.Stdout, command.Stderr = output.stream("stdout"), output.stream("stderr")
	ended := make(chan error, 1)
	started := make(chan error, 1)
	go supervise(command, started, ended)
	if err := <-started; err != nil {
		r.event(core.EventTypeWarning, "Failed", err.Error())
		return 128, "StartError", err.Error()
	}
	probing, stopProbing := context.WithCancel(r.ctx)
	defer stopProbing()
	r.running(probing, container, attempt)
	code, reason = r.await(container, command, ended)
	if container.TerminationMessagePolicy == core.TerminationMessageFallbackToLogsOnError && code != 0 {
		message = output.tail()
	}
	return code, reason, message
}

// supervise keeps its thread, since a child is told of the end of the thread that started it.
func supervise(command *exec.Cmd, started, ended chan<- error) {
	lockThread()
	defer unlockThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	ended <- command.Wait()
}

func (r *runner) await(container core.Container, command *exec.Cmd, ended <-chan error) (int, string) {
	look := time.NewTicker(faultInterval)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return exitCode(err)
		case <-r.stopping:
			return r.terminate(container, command, ended)
		case <-r.ctx.Done():
			signalGroup(command, syscall.SIGKILL)
			<-ended
			return killedCode, ""
		case <-look.C:
			if code, reason, wanted := exitFault(r.fault()); wanted {
				signalGroup(command, syscall.SIGKILL)
				<-ended
				return code, reason
			}
		}
	}
}

// terminate asks the process to end and kills it when its time is over.
func (r *runner) terminate(container core.Container, command *exec.Cmd, ended <-chan error) (int, string) {
	r.event(core.EventTypeNormal, "Killing", "Stopping container "+container.Name)
	deadline := time.After(r.grace)
	if hook := container.Lifecycle; hook != nil && hook.PreStop != nil && hook.PreStop.Exec != nil {
		ctx, cancel := context.WithTimeout(r.ctx, r.grace)
		_ = r.execute(ctx, container, hook.PreStop.Exec.Command)
		cancel()
	}
	signalGroup(command, syscall.SIGTERM)
	select {
	case err := <-ended:
		return exitCode(err)
	case <-deadline:
	case <-r.ctx.Done():
	}
	signalGroup(command, syscall.SIGKILL)
	return exitCode(<-ended)
}

func signalGroup(command *exec.Cmd, signal syscall.Signal) {
	_ = syscall.Kill(-command.Process.Pid, signal)
}

// exitCode is what a container runtime tells: 128 and the signal for a process that was killed.
func exitCode(err error) (int, string) {
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return 0, "Completed"
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), "Error"
		}
		return exit.ExitCode(), "Error"
	default:
		return 128, "Error"
	}
}

// command is the container's process, not started yet. Images are not looked into, so a container has to name what it runs.
func (r *runner) command(container core.Container) (*exec.Cmd, error) {
	environment, err := r.environment(container)
	if err != nil {
		return nil, err
	}
	words := r.words(container, environment)
	if len(words) == 0 {
		return nil, errors.New("no command specified, and a simulated node does not look into images")
	}
	home := filepath.Join(r.dir, "containers", container.Name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	all := append(os.Environ(), "HOME="+home, r.mark(), containerMark+container.Name, dirMark(r.fleet.dir), "KUBELAB_NODE="+r.fleet.dir+"/"+r.node.name)
	all = append(all, environment.list()...)
	all = append(all, deviceEnvironment(r.devices, container)...)
	command := exec.Command(words[0], words[1:]...)
	command.Env, command.Dir = all, home
	if dir := r.rewrite(container, container.WorkingDir); dir != "" {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			command.Dir = dir
		}
	}
	command.WaitDelay = outputDelay
	command.SysProcAttr = childAttributes()
	return command, nil
}

// execute runs a command in the container's surroundings, for hooks and probes.
func (r *runner) execute(ctx context.Context, container core.Container, words []string) error {
	container.Command, container.Args = words, nil
	command, err := r.command(container)
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		signalGroup(command, syscall.SIGKILL)
		<-ended
		return ctx.Err()
	}
}

func (r *runner) waiting(name, reason, message string) {
	r.change(name, func(status *core.ContainerStatus) {
		if status.State.Terminated != nil {
			status.LastTerminationState = status.State
		}
		status.Ready, status.Started = false, ptr.To(false)
		status.State = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: reason, Message: message}}
	})
	r.readiness()
	r.report()
}

// running reports the start, and readiness as soon as the probes say so.
func (r *runner) running(ctx context.Context, container core.Container, attempt int) {
	r.change(container.Name, func(status *core.ContainerStatus) {
		if status.State.Terminated != nil {
			status.LastTerminationState = status.State
		}
		status.ContainerID = r.containerID(container.Name, attempt)
		status.ImageID = container.Image
		status.Started = ptr.To(container.StartupProbe == nil)
		status.State = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: meta.Now()}}
	})
	r.event(core.EventTypeNormal, "Started", "Container started: "+container.Name)
	go r.probe(ctx, container)
	r.readiness()
	r.report()
}

func (r *runner) terminated(name string, attempt, code int, reason, message string) {
	r.change(name, func(status *core.ContainerStatus) {
		ended := &core.ContainerStateTerminated{
			ExitCode: int32(code), Reason: reason, Message: message, FinishedAt: meta.Now(), ContainerID: r.containerID(name, attempt),
		}
		if status.State.Running != nil {
			ended.StartedAt = status.State.Running.StartedAt
		}
		status.Ready, status.Started = false, ptr.To(false)
		status.State = core.ContainerState{Terminated: ended}
	})
	r.readiness()
}

// ready sets whether one container is; reports only what changed.
func (r *runner) ready(name string, ready bool) {
	changed := false
	r.change(name, func(status *core.ContainerStatus) {
		changed = status.State.Running != nil && (status.Ready != ready || !ptr.Deref(status.Started, false))
		if changed {
			status.Ready, status.Started = ready, ptr.To(true)
		}
	})
	if changed {
		r.readiness()
		r.report()
	}
}

// readiness derives the pod's from its containers'.
func (r *runner) readiness() {
	all := true
	r.mu.Lock()
	for _, container := range r.pod.Spec.Containers {
		all = all && r.containers[container.Name].Ready
	}
	r.mu.Unlock()
	r.condition(core.ContainersReady, all)
	r.condition(core.PodReady, all)
}

func (r *runner) change(name string, act func(*core.ContainerStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	act(r.containers[name])
}

func (r *runner) containerID(name string, attempt int) string {
	return fmt.Sprintf("kubelab://%s/%s/%d", r.pod.UID, name, attempt)
}

func (r *runner) logFile(name string, attempt int) string {
	return filepath.Join(r.dir, "logs", name, fmt.Sprintf("%d.log", attempt))
}
