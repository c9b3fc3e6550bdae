package fleet

import (
	"context"
	"errors"
	"fmt"

	core "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// watch begins to follow nodes, pods, namespaces and volumes, and returns when all of them were seen once.
func (f *Fleet) watch(ctx context.Context) error {
	objects := f.informed.Core().V1()
	handlers := []struct {
		informer cache.SharedIndexInformer
		seen     func(object any)
		gone     func(object any)
	}{
		{objects.Nodes().Informer(), func(object any) { f.onNode(ctx, object.(*core.Node)) }, nil},
		{objects.Namespaces().Informer(), nil, nil},
		{objects.Pods().Informer(), func(object any) { f.onPod(ctx, object.(*core.Pod)) }, func(object any) { f.onPodGone(object.(*core.Pod)) }},
		{objects.PersistentVolumeClaims().Informer(), func(object any) { f.onVolumeClaim(ctx, object.(*core.PersistentVolumeClaim)) }, nil},
		{objects.PersistentVolumes().Informer(), func(object any) { f.onVolume(ctx, object.(*core.PersistentVolume)) }, nil},
	}
	for _, handler := range handlers {
		if _, err := handler.informer.AddEventHandler(eventHandler(handler.seen, handler.gone)); err != nil {
			return err
		}
	}
	f.informed.Start(ctx.Done())
	for kind, synced := range f.informed.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%v cannot be watched", kind)
		}
	}
	return context.Cause(ctx)
}

func eventHandler(seen, gone func(any)) cache.ResourceEventHandlerFuncs {
	handler := cache.ResourceEventHandlerFuncs{}
	if seen != nil {
		handler.AddFunc = seen
		handler.UpdateFunc = func(_, object any) { seen(object) }
	}
	if gone != nil {
		handler.DeleteFunc = func(object any) {
			var unknown cache.DeletedFinalStateUnknown
			if missed, isMissed := object.(cache.DeletedFinalStateUnknown); isMissed {
				unknown = missed
				object = unknown.Obj
			}
			gone(object)
		}
	}
	return handler
}

// onPod begins to run a pod of ours, or tells its runner what changed.
func (f *Fleet) onPod(ctx context.Context, pod *core.Pod) {
	n, ours := f.nodes[pod.Spec.NodeName]
	if !ours || ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	running, known := f.runners[string(pod.UID)]
	if !known {
		running = f.newRunner(ctx, n, pod)
		f.runners[string(pod.UID)] = running
		f.background(running.run)
	}
	f.mu.Unlock()
	running.update(pod)
}

// onPodGone ends what is left of a pod that was removed by force.
func (f *Fleet) onPodGone(pod *core.Pod) {
	f.mu.Lock()
	running, known := f.runners[string(pod.UID)]
	delete(f.runners, string(pod.UID))
	f.mu.Unlock()
	if known {
		running.cancel(errGone)
	}
}

// errGone says that the object is there no more, so that there is nobody to report to.
var errGone = errors.New("the pod object is gone")

// address is the next of the pods' own loopback addresses: 127.64.0.0/10 has room for four million of them.
func (f *Fleet) address() string {
	f.pods++
	number := f.pods
	return fmt.Sprintf("127.%d.%d.%d", 64+number>>16&63, number>>8&255, number&255)
}
