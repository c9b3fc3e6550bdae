package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	dra "k8s.io/api/resource/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const (
	// A node renews its lease this often; the control plane allows a few misses.
	beatInterval = 3 * time.Second
	leaseSeconds = 12
	// More devices than this do not fit in one slice of a pool with counters.
	devicesPerSlice = 64
	// storageClass is the default one.
	storageClass = "kubelab"
	provisioner  = "kubelab/folders"
)

// node is one simulated node.
type node struct {
	name  string
	pools []pool
	// number is its place in the fleet and part of its pods' addresses.
	number int

	mu sync.Mutex
	// here is closed while the node can be reached, and replaced when it is lost.
	here  chan struct{}
	state string
	// changes is what was said about its devices; generation counts how often slices were published.
	changes    string
	generation int64
	lease      *coordination.Lease
}

func (f *Fleet) addNodes(options Options) {
	kinds := []struct {
		name  string
		count int
		pools func(node string, index int) []pool
	}{
		{"shared", options.shared, func(node string, index int) []pool {
			return []pool{sharedPool(node, []model{rtx6000, rtx5090}[index%2])}
		}},
		{"whole", options.whole, func(node string, _ int) []pool { return []pool{wholePool(node, h200)} }},
		{"partitioned", options.partitioned, func(node string, _ int) []pool { return []pool{partitionedPool(node, a100, a100Profiles)} }},
		{"plain", options.plain, func(string, int) []pool { return nil }},
	}
	for _, kind := range kinds {
		for index := range kind.count {
			name := fmt.Sprintf("%s-%d", kind.name, index)
			here := make(chan struct{})
			close(here)
			f.nodes[name] = &node{name: name, number: len(f.order), pools: kind.pools(name, index), here: here}
			f.order = append(f.order, name)
		}
	}
}

// publishClasses makes the device classes and the default storage class.
func (f *Fleet) publishClasses(ctx context.Context) error {
	for name, selector := range deviceClasses {
		class := &dra.DeviceClass{ObjectMeta: named(name), Spec: dra.DeviceClassSpec{
			Selectors: []dra.DeviceSelector{{CEL: &dra.CELDeviceSelector{Expression: selector}}},
		}}
		if _, err := f.client.ResourceV1().DeviceClasses().Create(ctx, class, meta.CreateOptions{}); err != nil {
			return err
		}
	}
	// As most providers' classes: who asks for more gets it.
	class := &storage.StorageClass{ObjectMeta: named(storageClass), Provisioner: provisioner, AllowVolumeExpansion: ptr.To(true)}
	class.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	_, err := f.client.StorageV1().StorageClasses().Create(ctx, class, meta.CreateOptions{})
	return err
}

// register makes the node, its status, its lease and its slices.
func (f *Fleet) register(ctx context.Context, n *node) error {
	made := &core.Node{ObjectMeta: named(n.name)}
	made.Labels = map[string]string{
		core.LabelHostname: n.name, core.LabelOSStable: "linux", core.LabelArchStable: "amd64", "type": "kubelab",
	}
	if _, err := f.client.CoreV1().Nodes().Create(ctx, made, meta.CreateOptions{}); err != nil {
		return err
	}
	n.renew(ctx, f)
	if err := f.reportReady(ctx, n); err != nil {
		return err
	}
	return f.publishSlices(ctx, n)
}

func (f *Fleet) reportReady(ctx context.Context, n *node) error {
	size := core.ResourceList{
		core.ResourceCPU:              resource.MustParse("64"),
		core.ResourceMemory:           resource.MustParse("512Gi"),
		core.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		core.ResourcePods:             resource.MustParse("110"),
	}
	condition := func(kind core.NodeConditionType, status core.ConditionStatus, reason string) core.NodeCondition {
		now := meta.Now()
		return core.NodeCondition{Type: kind, Status: status, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	status := core.NodeStatus{
		Capacity:    size,
		Allocatable: size,
		Addresses: []core.NodeAddress{
			{Type: core.NodeInternalIP, Address: "127.0.0.1"},
			{Type: core.NodeHostName, Address: n.name},
		},
		DaemonEndpoints: core.NodeDaemonEndpoints{KubeletEndpoint: core.DaemonEndpoint{Port: f.server.port}},
		NodeInfo:        core.NodeSystemInfo{KubeletVersion: "kubelab", OperatingSystem: "linux", Architecture: "amd64"},
		Conditions: []core.NodeCondition{
			condition(core.NodeReady, core.ConditionTrue, "KubeletReady"),
			condition(core.NodeMemoryPressure, core.ConditionFalse, "KubeletHasSufficientMemory"),
			condition(core.NodeDiskPressure, core.ConditionFalse, "KubeletHasNoDiskPressure"),
			condition(core.NodePIDPressure, core.ConditionFalse, "KubeletHasSufficientPID"),
		},
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = f.client.CoreV1().Nodes().Patch(ctx, n.name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status")
	return err
}

// beat renews the leases of all nodes that are there, and reports them ready again when they were given up.
func (f *Fleet) beat(ctx context.Context) {
	nodes := f.informed.Core().V1().Nodes().Lister()
	for pause(ctx, beatInterval) {
		for _, name := range f.order {
			n := f.nodes[name]
			if !n.isHere() {
				continue
			}
			n.renew(ctx, f)
			if known, err := nodes.Get(name); err == nil && !isReady(known) {
				_ = f.reportReady(ctx, n)
			}
		}
	}
}

func isReady(known *core.Node) bool {
	for _, condition := range known.Status.Conditions {
		if condition.Type == core.NodeReady {
			return condition.Status == core.ConditionTrue
		}
	}
	return false
}

// renew says that the node is alive. A failed try is followed by the next beat.
func (n *node) renew(ctx context.Context, f *Fleet) {
	leases := f.client.CoordinationV1().Leases(core.NamespaceNodeLease)
	now := meta.NowMicro()
	var err error
	if n.lease == nil {
		lease := &coordination.Lease{ObjectMeta: named(n.name), Spec: coordination.LeaseSpec{
			HolderIdentity: &n.name, LeaseDurationSeconds: ptr.To[int32](leaseSeconds), RenewTime: &now,
		}}
		n.lease, err = leases.Create(ctx, lease, meta.CreateOptions{})
	} else {
		next := n.lease.DeepCopy()
		next.Spec.RenewTime = &now
		// Nobody else writes it, so that the last answer is current.
		n.lease, err = leases.Update(ctx, next, meta.UpdateOptions{})
	}
	if err != nil {
		n.lease = nil
		if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
			n.lease, _ = leases.Get(ctx, n.name, meta.GetOptions{})
		}
	}
}

// publishSlices replaces what the drivers say about the node, in a new generation.
func (f *Fleet) publishSlices(ctx context.Context, n *node) error {
	n.mu.Lock()
	n.generation++
	generation, changes := n.generation, parseChanges(n.changes)
	n.mu.Unlock()
	for _, pool := range n.pools {
		specs := pool.slices(n.name, generation, changes)
		for i, spec := range specs {
			slice := &dra.ResourceSlice{ObjectMeta: named(fmt.Sprintf("%s-%s-%d", n.name, pool.driver, i)), Spec: spec}
			if err := f.putSlice(ctx, slice); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Fleet) putSlice(ctx context.Context, slice *dra.ResourceSlice) error {
	slices := f.client.ResourceV1().ResourceSlices()
	known, err := slices.Get(ctx, slice.Name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = slices.Create(ctx, slice, meta.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	known.Spec = slice.Spec
	_, err = slices.Update(ctx, known, meta.UpdateOptions{})
	return err
}

// slices renders the pool: counters have a slice of their own, devices follow, without those that are said to be gone.
func (p pool) slices(node string, generation int64, changes map[string]string) []dra.ResourceSliceSpec {
	var parts []dra.ResourceSliceSpec
	if len(p.counters) > 0 {
		parts = append(parts, dra.ResourceSliceSpec{SharedCounters: p.counters})
	}
	var devices []dra.Device
	for _, device := range p.devices {
		switch changes[device.Name] {
		case "removed":
			continue
		case "unhealthy":
			now := meta.Now()
			device.Taints = []dra.DeviceTaint{{Key: p.driver + "/xid", Value: "79", Effect: dra.DeviceTaintEffectNoSchedule, TimeAdded: &now}}
		}
		devices = append(devices, device)
	}
	for len(devices) > devicesPerSlice {
		parts = append(parts, dra.ResourceSliceSpec{Devices: devices[:devicesPerSlice]})
		devices = devices[devicesPerSlice:]
	}
	parts = append(parts, dra.ResourceSliceSpec{Devices: devices})
	for i := range parts {
		parts[i].Driver, parts[i].NodeName = p.driver, &node
		parts[i].Pool = dra.ResourcePool{Name: node, Generation: generation, ResourceSliceCount: int64(len(parts))}
	}
	return parts
}

// parseChanges reads `gpu-0=removed,gpu-1=unhealthy`.
func parseChanges(text string) map[string]string {
	changes := map[string]string{}
	for _, change := range strings.Split(text, ",") {
		if device, what, found := strings.Cut(strings.TrimSpace(change), "="); found {
			changes[device] = what
		}
	}
	return changes
}

func (n *node) isHere() bool {
	select {
	case <-n.reachable():
		return true
	default:
		return false
	}
}

func (n *node) reachable() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.here
}
