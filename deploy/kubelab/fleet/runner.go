package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var errPrepare = errors.New("the driver was told to refuse")

// What is tried again and again, such as preparing devices, is tried this often.
const tryAgain = time.Second

// runner is the life of one pod on its node.
type runner struct {
	fleet *Fleet
	node  *node
	// pod is how it was when it came; its spec does not change.
	pod    *core.Pod
	dir    string
	ip     string
	ctx    context.Context
	cancel context.CancelCauseFunc

	// stopping is closed when the pod is to end; grace says how much time it has.
	stopping chan struct{}
	grace    time.Duration
	asked    sync.Once

	devices []prepared
	mounts  []mount

	mu         sync.Mutex
	phase      core.PodPhase
	conditions map[core.PodConditionType]core.PodCondition
	containers map[string]*core.ContainerStatus
	// reporting lets one report at a time go out, so that an older one never comes after a younger one.
	reporting sync.Mutex
}

func (f *Fleet) newRunner(ctx context.Context, n *node, pod *core.Pod) *runner {
	ctx, cancel := context.WithCancelCause(ctx)
	made := &runner{
		fleet: f, node: n, pod: pod, ctx: ctx, cancel: cancel,
		dir:        filepath.Join(f.dir, "pods", string(pod.UID)),
		ip:         f.address(),
		stopping:   make(chan struct{}),
		phase:      core.PodPending,
		conditions: map[core.PodConditionType]core.PodCondition{},
		containers: map[string]*core.ContainerStatus{},
	}
	for _, container := range append(append([]core.Container(nil), pod.Spec.InitContainers...), pod.Spec.Containers...) {
		made.containers[container.Name] = &core.ContainerStatus{
			Name: container.Name, Image: container.Image, Started: ptr.To(false),
			State: core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}
	}
	return made
}

// update takes over what changed in the object. Only its end matters.
func (r *runner) update(pod *core.Pod) {
	if pod.DeletionTimestamp == nil {
		return
	}
	r.asked.Do(func() {
		r.grace = time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, core.DefaultTerminationGracePeriodSeconds)) * time.Second
		close(r.stopping)
	})
}

// latest is the object as it is now.
func (r *runner) latest() *core.Pod {
	known, err := r.fleet.informed.Core().V1().Pods().Lister().Pods(r.pod.Namespace).Get(r.pod.Name)
	if err != nil || known.UID != r.pod.UID {
		return r.pod
	}
	return known
}

// run is the whole life: until the object is gone, or the lab ends.
func (r *runner) run() {
	defer os.RemoveAll(r.dir)
	defer r.fleet.ledger.release(r.pod.UID)
	defer endMarked(r.mark())
	if finished := r.pod.Status.Phase; finished != core.PodSucceeded && finished != core.PodFailed {
		r.live()
		endMarked(r.mark())
		r.fleet.ledger.release(r.pod.UID)
	}
	r.wait(r.stopping)
	for r.fault() == faultLinger && pause(r.ctx, tryAgain) {
		// The annotation goes, or the object is removed by force.
		continue
	}
	r.remove()
}

// live runs the containers to their end and reports the phase in which they ended.
func (r *runner) live() {
	for r.fault() == faultStall {
		// The annotation goes, or the pod is told to end.
		if !r.sleep(tryAgain) {
			return
		}
	}
	r.report()
	if !r.prepare() {
		r.end(core.PodFailed)
		return
	}
	for _, container := range r.pod.Spec.InitContainers {
		if r.runContainer(container, true) != 0 {
			r.end(core.PodFailed)
			return
		}
	}
	r.condition(core.PodInitialized, true)
	r.setPhase(core.PodRunning)
	r.end(r.runContainers())
}

func (r *runner) runContainers() core.PodPhase {
	codes := make(chan int, len(r.pod.Spec.Containers))
	for _, container := range r.pod.Spec.Containers {
		go func() { codes <- r.runContainer(container, false) }()
	}
	phase := core.PodSucceeded
	for range r.pod.Spec.Containers {
		if <-codes != 0 {
			phase = core.PodFailed
		}
	}
	return phase
}

// prepare makes devices and volumes ready; false when the pod is to end before they are.
func (r *runner) prepare() bool {
	steps := []struct {
		reason string
		act    func() error
	}{
		{"FailedPrepareDynamicResources", func() error {
			if r.fault() == faultPrepare {
				return errPrepare
			}
			devices, err := r.prepareClaims(r.ctx)
			r.devices = devices
			return err
		}},
		{"FailedMount", func() error {
			mounts, err := r.prepareVolumes(r.ctx)
			r.mounts = mounts
			return err
		}},
	}
	for _, step := range steps {
		for {
			err := step.act()
			if err == nil {
				break
			}
			r.event(core.EventTypeWarning, step.reason, err.Error())
			if !r.sleep(tryAgain) {
				return false
			}
		}
	}
	r.condition(core.PodReadyToStartContainers, true)
	return !r.isStopping()
}

// end reports a phase that is final.
func (r *runner) end(phase core.PodPhase) {
	r.mu.Lock()
	for _, status := range r.containers {
		status.Ready = false
		if status.State.Waiting != nil {
			status.State = core.ContainerState{Terminated: &core.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "it never ran"}}
		}
	}
	r.phase = phase
	r.mu.Unlock()
	r.condition(core.ContainersReady, false)
	r.condition(core.PodReady, false)
	r.report()
}

func (r *runner) setPhase(phase core.PodPhase) {
	r.mu.Lock()
	r.phase = phase
	r.mu.Unlock()
}

func (r *runner) condition(kind core.PodConditionType, holds bool) {
	status := core.ConditionFalse
	if holds {
		status = core.ConditionTrue
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conditions[kind].Status != status {
		r.conditions[kind] = core.PodCondition{Type: kind, Status: status, LastTransitionTime: meta.Now()}
	}
}

// report writes the status. It waits while the node or the API server cannot be reached.
func (r *runner) report() {
	r.reporting.Lock()
	defer r.reporting.Unlock()
	keepTrying(r.ctx, func() error {
		if !r.waitForNode() {
			return nil
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": r.pod.UID}, "status": r.status()})
		if err != nil {
			return nil
		}
		pods := r.fleet.client.CoreV1().Pods(r.pod.Namespace)
		_, err = pods.Patch(r.ctx, r.pod.Name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status")
		return unlessGone(err)
	})
}

func (r *runner) status() core.PodStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := core.PodStatus{
		Phase: r.phase, HostIP: "127.0.0.1", HostIPs: []core.HostIP{{IP: "127.0.0.1"}},
		PodIP: r.ip, PodIPs: []core.PodIP{{IP: r.ip}},
		StartTime: ptr.To(r.pod.CreationTimestamp),
	}
	for _, condition := range r.conditions {
		status.Conditions = append(status.Conditions, condition)
	}
	for _, container := range r.pod.Spec.InitContainers {
		status.InitContainerStatuses = append(status.InitContainerStatuses, *r.containers[container.Name])
	}
	for _, container := range r.pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, *r.containers[container.Name])
	}
	return status
}

// remove takes the object away, as a kubelet does when everything of a pod has ended.
func (r *runner) remove() {
	keepTrying(r.ctx, func() error {
		if !r.waitForNode() {
			return nil
		}
		uid := r.pod.UID
		return unlessGone(r.fleet.client.CoreV1().Pods(r.pod.Namespace).Delete(r.ctx, r.pod.Name, meta.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0), Preconditions: &meta.Preconditions{UID: &uid},
		}))
	})
}

// unlessGone drops errors that say that there is no such pod any more.
func unlessGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return err
}

func (r *runner) waitForNode() bool {
	select {
	case <-r.node.reachable():
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *runner) wait(what <-chan struct{}) {
	select {
	case <-what:
	case <-r.ctx.Done():
	}
}

// sleep tells whether the time went by without the pod being told to end.
func (r *runner) sleep(duration time.Duration) bool {
	select {
	case <-r.stopping:
		return false
	case <-r.ctx.Done():
		return false
	case <-time.After(duration):
		return true
	}
}

func (r *runner) isStopping() bool {
	select {
	case <-r.stopping:
		return true
	case <-r.ctx.Done():
		return true
	default:
		return false
	}
}

func (r *runner) fault() string {
	return r.fleet.fault(r.pod)
}

func (r *runner) event(kind, reason, message string) {
	r.fleet.recorder.Event(r.pod, kind, reason, message)
}

// mark is in the environment of every process of this pod.
func (r *runner) mark() string {
	return podMark + string(r.pod.UID)
}
