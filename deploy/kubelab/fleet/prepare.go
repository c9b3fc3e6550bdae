package fleet

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync"

	core "k8s.io/api/core/v1"
	dra "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ledger is the drivers' own record of what is prepared. It shares nothing with the scheduler's, so it is a witness: a
// device that was given away twice is refused here, and said aloud.
type ledger struct {
	mu       sync.Mutex
	devices  map[deviceID]dra.Device
	counters map[deviceID]map[string]dra.Counter
	held     map[deviceID]map[string]share
}

type deviceID struct{ driver, pool, name string }

// share is what one claim has of a device.
type share struct {
	consumed map[dra.QualifiedName]resource.Quantity
	pods     map[types.UID]bool
}

func newLedger(f *Fleet) *ledger {
	made := &ledger{
		devices:  map[deviceID]dra.Device{},
		counters: map[deviceID]map[string]dra.Counter{},
		held:     map[deviceID]map[string]share{},
	}
	for _, n := range f.nodes {
		for _, pool := range n.pools {
			for _, device := range pool.devices {
				made.devices[deviceID{pool.driver, n.name, device.Name}] = device
			}
			for _, set := range pool.counters {
				made.counters[deviceID{pool.driver, n.name, set.Name}] = set.Counters
			}
		}
	}
	return made
}

// take prepares one result of a claim for a pod. Doing it again changes nothing.
func (l *ledger) take(claim *dra.ResourceClaim, result dra.DeviceRequestAllocationResult, pod types.UID) (dra.Device, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := deviceID{result.Driver, result.Pool, result.Device}
	device, known := l.devices[id]
	if !known {
		return device, fmt.Errorf("device %s/%s/%s does not exist", id.driver, id.pool, id.name)
	}
	key := string(claim.UID) + "/" + result.Request
	if result.ShareID != nil {
		key += "/" + string(*result.ShareID)
	}
	if mine, taken := l.held[id][key]; taken {
		mine.pods[pod] = true
		return device, nil
	}
	if err := l.fits(id, device, result.ConsumedCapacity); err != nil {
		log.Printf("VIOLATION: %s/%s: %v", claim.Namespace, claim.Name, err)
		return device, err
	}
	if l.held[id] == nil {
		l.held[id] = map[string]share{}
	}
	l.held[id][key] = share{consumed: result.ConsumedCapacity, pods: map[types.UID]bool{pod: true}}
	return device, nil
}

func (l *ledger) fits(id deviceID, device dra.Device, wanted map[dra.QualifiedName]resource.Quantity) error {
	if device.AllowMultipleAllocations == nil || !*device.AllowMultipleAllocations {
		if len(l.held[id]) > 0 {
			return fmt.Errorf("device %s of %s is in use already", id.name, id.pool)
		}
		return l.countersFit(id, device)
	}
	for name, capacity := range device.Capacity {
		sum := wanted[name].DeepCopy()
		for _, other := range l.held[id] {
			sum.Add(other.consumed[name])
		}
		if sum.Cmp(capacity.Value) > 0 {
			return fmt.Errorf("device %s of %s would have %s of %s %s in use", id.name, id.pool, sum.String(), capacity.Value.String(), name)
		}
	}
	return nil
}

// countersFit adds up what all devices of the pool that are in use take of the counters that this one needs.
func (l *ledger) countersFit(id deviceID, device dra.Device) error {
	for _, needed := range device.ConsumesCounters {
		set := l.counters[deviceID{id.driver, id.pool, needed.CounterSet}]
		for name, counter := range needed.Counters {
			sum := counter.Value.DeepCopy()
			for other, holders := range l.held {
				if other.driver != id.driver || other.pool != id.pool || len(holders) == 0 {
					continue
				}
				for _, used := range l.devices[other].ConsumesCounters {
					if used.CounterSet == needed.CounterSet {
						sum.Add(used.Counters[name].Value)
					}
				}
			}
			if limit := set[name]; sum.Cmp(limit.Value) > 0 {
				return fmt.Errorf("device %s of %s overlaps with one that is in use: %s of %s %s", id.name, id.pool, sum.String(), limit.Value.String(), name)
			}
		}
	}
	return nil
}

// release gives back everything that was prepared for a pod and that no other pod uses.
func (l *ledger) release(pod types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, holders := range l.held {
		for key, held := range holders {
			delete(held.pods, pod)
			if len(held.pods) == 0 {
				delete(holders, key)
			}
		}
	}
}

// prepared is a device as a container sees it.
type prepared struct {
	claim, request string
	device         dra.Device
	consumed       map[dra.QualifiedName]resource.Quantity
}

// prepareClaims does what a kubelet and its drivers do before containers start: every claim must be allocated and
// reserved for this pod.
func (r *runner) prepareClaims(ctx context.Context) ([]prepared, error) {
	var all []prepared
	for _, wanted := range r.pod.Spec.ResourceClaims {
		name := r.claimName(wanted)
		claim, err := r.fleet.client.ResourceV1().ResourceClaims(r.pod.Namespace).Get(ctx, name, meta.GetOptions{})
		if err != nil {
			return nil, err
		}
		if claim.Status.Allocation == nil || !reserved(claim, r.pod.UID) {
			return nil, fmt.Errorf("claim %s is not allocated and reserved for this pod", name)
		}
		for _, result := range claim.Status.Allocation.Devices.Results {
			device, err := r.fleet.ledger.take(claim, result, r.pod.UID)
			if err != nil {
				return nil, err
			}
			request, _, _ := strings.Cut(result.Request, "/")
			all = append(all, prepared{claim: wanted.Name, request: request, device: device, consumed: result.ConsumedCapacity})
		}
	}
	return all, nil
}

func (r *runner) claimName(wanted core.PodResourceClaim) string {
	if wanted.ResourceClaimName != nil {
		return *wanted.ResourceClaimName
	}
	for _, status := range r.latest().Status.ResourceClaimStatuses {
		if status.Name == wanted.Name && status.ResourceClaimName != nil {
			return *status.ResourceClaimName
		}
	}
	return ""
}

func reserved(claim *dra.ResourceClaim, pod types.UID) bool {
	for _, consumer := range claim.Status.ReservedFor {
		if consumer.UID == pod {
			return true
		}
	}
	return false
}

// deviceEnvironment is what the drivers inject into a container that names these claims.
func deviceEnvironment(devices []prepared, container core.Container) []string {
	var uuids, environment []string
	for _, one := range devices {
		if !uses(container, one) {
			continue
		}
		if uuid := one.device.Attributes["uuid"].StringValue; uuid != nil {
			uuids = append(uuids, *uuid)
		}
		index := len(uuids) - 1
		if cores, found := one.consumed["cores"]; found {
			environment = append(environment, fmt.Sprintf("CUDA_DEVICE_SM_LIMIT_%d=%s", index, cores.String()))
		}
		if memory, found := one.consumed["memory"]; found {
			environment = append(environment, fmt.Sprintf("CUDA_DEVICE_MEMORY_LIMIT_%d=%dm", index, memory.Value()>>20))
		}
	}
	if len(uuids) > 0 {
		environment = append(environment, "NVIDIA_VISIBLE_DEVICES="+strings.Join(uuids, ","))
	}
	return environment
}

func uses(container core.Container, one prepared) bool {
	for _, claim := range container.Resources.Claims {
		if claim.Name == one.claim && (claim.Request == "" || claim.Request == one.request) {
			return true
		}
	}
	return false
}
