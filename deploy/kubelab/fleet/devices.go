package fleet

import (
	"fmt"

	"github.com/google/uuid"
	dra "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// The drivers whose devices are imitated, with the names of attributes and capacities that they publish, so that what
// works here has a chance to work there.
const (
	wholeDriver  = "gpu.nvidia.com"
	sharedDriver = "hami-core-gpu.project-hami.io"
)

// deviceClasses are the classes that the drivers' charts install, by name, with their selectors.
var deviceClasses = map[string]string{
	"gpu.nvidia.com":                "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'",
	"mig.nvidia.com":                "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'",
	"hami-core-gpu.project-hami.io": "device.driver == 'hami-core-gpu.project-hami.io' && device.attributes['hami-core-gpu.project-hami.io'].type == 'hami-gpu'",
}

// pool is what one driver publishes for one node; its name is the node's.
type pool struct {
	driver   string
	devices  []dra.Device
	counters []dra.CounterSet
}

// model is a kind of GPU.
type model struct {
	product, architecture, compute string
	memory                         string
	perNode                        int
}

var (
	rtx6000 = model{"NVIDIA RTX PRO 6000 Blackwell Server Edition", "Blackwell", "12.0.0", "96Gi", 4}
	rtx5090 = model{"NVIDIA GeForce RTX 5090", "Blackwell", "12.0.0", "32Gi", 4}
	h200    = model{"NVIDIA H200", "Hopper", "9.0.0", "141Gi", 8}
	a100    = model{"NVIDIA A100-SXM4-80GB", "Ampere", "8.0.0", "80Gi", 2}
)

// sharedPool has GPUs that many claims can use by cores (hundredths of the whole) and memory.
func sharedPool(node string, of model) pool {
	made := pool{driver: sharedDriver}
	for i := range of.perNode {
		device := dra.Device{
			Name:                     fmt.Sprintf("hami-gpu-%d", i),
			Attributes:               attributes("hami-gpu", deviceUUID("GPU", node, i), i, of),
			AllowMultipleAllocations: ptr.To(true),
			Capacity: map[dra.QualifiedName]dra.DeviceCapacity{
				"cores":  stepped("100", "0", "100", "1"),
				"memory": stepped(of.memory, "1Mi", of.memory, "1Mi"),
			},
		}
		made.devices = append(made.devices, device)
	}
	return made
}

// wholePool has GPUs that one claim at a time can have.
func wholePool(node string, of model) pool {
	made := pool{driver: wholeDriver}
	for i := range of.perNode {
		made.devices = append(made.devices, wholeDevice(node, i, of))
	}
	return made
}

func wholeDevice(node string, index int, of model) dra.Device {
	return dra.Device{
		Name:       fmt.Sprintf("gpu-%d", index),
		Attributes: attributes("gpu", deviceUUID("GPU", node, index), index, of),
		Capacity:   map[dra.QualifiedName]dra.DeviceCapacity{"memory": {Value: resource.MustParse(of.memory)}},
	}
}

// profile is a size in which this model can be partitioned, and where such partitions may begin.
type profile struct {
	name            string
	id              int
	compute, memory int
	starts          []int
	bytes           string
}

var a100Profiles = []profile{
	{"1g.10gb", 19, 1, 1, []int{0, 1, 2, 3, 4, 5, 6}, "9728Mi"},
	{"2g.20gb", 14, 2, 2, []int{0, 2, 4}, "19968Mi"},
	{"3g.40gb", 9, 3, 4, []int{0, 4}, "40192Mi"},
	{"7g.80gb", 0, 7, 8, []int{0}, "81152Mi"},
}

const (
	computeSlices      = 7
	memorySlices       = 8
	processorsPerSlice = 14
)

// partitionedPool has GPUs that can be had whole or in partitions; counters keep overlapping ones from being used at once.
func partitionedPool(node string, of model, profiles []profile) pool {
	made := pool{driver: wholeDriver}
	for i := range of.perNode {
		set := fmt.Sprintf("gpu-%d-counter-set", i)
		made.counters = append(made.counters, dra.CounterSet{Name: set, Counters: counters(computeSlices, 0, memorySlices)})
		whole := wholeDevice(node, i, of)
		whole.ConsumesCounters = []dra.DeviceCounterConsumption{{CounterSet: set, Counters: counters(computeSlices, 0, memorySlices)}}
		made.devices = append(made.devices, whole)
		for _, profile := range profiles {
			for _, start := range profile.starts {
				made.devices = append(made.devices, partition(node, i, set, of, profile, start))
			}
		}
	}
	return made
}

func partition(node string, parent int, set string, of model, size profile, start int) dra.Device {
	name := fmt.Sprintf("gpu-%d-mig-%dg%sgb-%d-%d", parent, size.compute, gigabytes(size.name), size.id, start)
	described := attributes("mig", deviceUUID("MIG", node+name, parent), parent, of)
	described["parentUUID"] = dra.DeviceAttribute{StringValue: ptr.To(deviceUUID("GPU", node, parent))}
	described["profile"] = dra.DeviceAttribute{StringValue: ptr.To(size.name)}
	return dra.Device{
		Name:       name,
		Attributes: described,
		Capacity: map[dra.QualifiedName]dra.DeviceCapacity{
			"memory":          {Value: resource.MustParse(size.bytes)},
			"multiprocessors": {Value: *resource.NewQuantity(int64(size.compute*processorsPerSlice), resource.DecimalSI)},
		},
		ConsumesCounters: []dra.DeviceCounterConsumption{{CounterSet: set, Counters: counters(size.compute, start, size.memory)}},
	}
}

// counters counts processors, and each memory slice by itself, so that two partitions at one place exclude each other.
func counters(compute, firstMemory, memory int) map[string]dra.Counter {
	counted := map[string]dra.Counter{
		"multiprocessors": {Value: *resource.NewQuantity(int64(compute*processorsPerSlice), resource.DecimalSI)},
	}
	for slice := firstMemory; slice < firstMemory+memory; slice++ {
		counted[fmt.Sprintf("memory-slice-%d", slice)] = dra.Counter{Value: resource.MustParse("1")}
	}
	return counted
}

func gigabytes(profile string) string {
	var compute int
	var size string
	_, _ = fmt.Sscanf(profile, "%dg.%s", &compute, &size)
	return size[:len(size)-len("gb")]
}

func attributes(kind, uuid string, minor int, of model) map[dra.QualifiedName]dra.DeviceAttribute {
	text := func(value string) dra.DeviceAttribute { return dra.DeviceAttribute{StringValue: &value} }
	version := func(value string) dra.DeviceAttribute { return dra.DeviceAttribute{VersionValue: &value} }
	return map[dra.QualifiedName]dra.DeviceAttribute{
		"type":                            text(kind),
		"uuid":                            text(uuid),
		"minor":                           {IntValue: ptr.To(int64(minor))},
		"productName":                     text(of.product),
		"brand":                           text("Nvidia"),
		"architecture":                    text(of.architecture),
		"cudaComputeCapability":           version(of.compute),
		"driverVersion":                   version("580.95.5"),
		"resource.kubernetes.io/pcieRoot": text(fmt.Sprintf("pci0000:%02x", minor/2)),
		"resource.kubernetes.io/pciBusID": text(fmt.Sprintf("0000:%02x:00.0", minor+1)),
		"resource.kubernetes.io/numaNode": {IntValue: ptr.To(int64(minor / 4))},
	}
}

func stepped(value, least, most, step string) dra.DeviceCapacity {
	return dra.DeviceCapacity{
		Value: resource.MustParse(value),
		RequestPolicy: &dra.CapacityRequestPolicy{
			Default: ptr.To(resource.MustParse(value)),
			ValidRange: &dra.CapacityRequestPolicyRange{
				Min:  ptr.To(resource.MustParse(least)),
				Max:  ptr.To(resource.MustParse(most)),
				Step: ptr.To(resource.MustParse(step)),
			},
		},
	}
}

// deviceUUID is the same in every lab, so that a test can name a device.
func deviceUUID(prefix, node string, index int) string {
	name := fmt.Sprintf("%s/%s/%d", prefix, node, index)
	return prefix + "-" + uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)).String()
}
