package fleet

import (
	"context"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
)

// What goes wrong is said by annotations, so that whoever may change an object may break it, and nobody else.
const (
	// nodeFault is on a Node: `gone` is a node that nobody can reach while its processes go on, `crashed` one that
	// lost them too. Without it the node comes back.
	nodeFault = "kubelab/node"
	// deviceFault is on a Node: `gpu-0=removed,gpu-1=unhealthy`.
	deviceFault = "kubelab/devices"
	// podFault is on a Pod, else on its Namespace, else on its Node; its values are below.
	podFault = "kubelab/fault"
)

const (
	// The image cannot be had.
	faultImagePull = "image-pull"
	// Nothing is ever reported after the binding.
	faultStall = "stall"
	// The driver refuses to prepare the devices.
	faultPrepare = "prepare"
	// The process never becomes ready.
	faultUnready = "unready"
	// The end is not reported although the processes are gone.
	faultLinger = "linger"
	// The process is killed for the memory that it used.
	faultMemory = "oom"
	// `exit=3`: the process ends with that code.
	faultExit = "exit="
)

// fault is what is to go wrong with a pod now.
func (f *Fleet) fault(pod *core.Pod) string {
	core := f.informed.Core().V1()
	if known, err := core.Pods().Lister().Pods(pod.Namespace).Get(pod.Name); err == nil && known.UID == pod.UID {
		pod = known
	}
	if value := pod.Annotations[podFault]; value != "" {
		return value
	}
	if namespace, err := core.Namespaces().Lister().Get(pod.Namespace); err == nil && namespace.Annotations[podFault] != "" {
		return namespace.Annotations[podFault]
	}
	if node, err := core.Nodes().Lister().Get(pod.Spec.NodeName); err == nil {
		return node.Annotations[podFault]
	}
	return ""
}

// exitFault is the code with which a process is to end, and the reason that is told.
func exitFault(fault string) (code int, reason string, wanted bool) {
	if fault == faultMemory {
		return 137, "OOMKilled", true
	}
	if text, found := strings.CutPrefix(fault, faultExit); found {
		if code, err := strconv.Atoi(text); err == nil {
			return code, "", true
		}
	}
	return 0, "", false
}

// onNode applies what a node's annotations say.
func (f *Fleet) onNode(ctx context.Context, known *core.Node) {
	n, ours := f.nodes[known.Name]
	if !ours {
		return
	}
	state, changes := known.Annotations[nodeFault], known.Annotations[deviceFault]
	n.mu.Lock()
	lost := state != "" && n.state == ""
	back := state == "" && n.state != ""
	changed := changes != n.changes
	n.state, n.changes = state, changes
	if lost {
		n.here = make(chan struct{})
	}
	if back {
		close(n.here)
	}
	n.mu.Unlock()
	if changed {
		f.background(func() { keepTrying(ctx, func() error { return f.publishSlices(ctx, n) }) })
	}
	if state == "crashed" {
		endMarked("KUBELAB_NODE=" + f.dir + "/" + n.name)
	}
}
