package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

const (
	// Between two measurements lies at least this; whoever asks sooner gets the former one.
	measureInterval = 2 * time.Second
	usagePath       = "/apis/metrics.k8s.io/v1beta1"
	usageService    = "kubelab-usage"
)

// container is one of a pod, as its processes are marked.
type container struct{ pod, name string }

// process is one of a container. Numbers come again: began tells the next one apart.
type process struct {
	container
	pid   int
	began string
}

// usage measures what containers compute, while somebody asks for it.
type usage struct {
	mu     sync.Mutex
	at     time.Time
	window time.Duration
	spent  map[process]time.Duration
	used   map[container]time.Duration
}

// measure tells what each container used in a time before now, and that time; none for the first who asks.
func (u *usage) measure() (map[container]time.Duration, time.Time, time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); now.Sub(u.at) >= measureInterval {
		spent, used := processorTimes(), map[container]time.Duration{}
		for one, now := range spent {
			used[one.container] += now - u.spent[one]
		}
		if !u.at.IsZero() {
			u.window = now.Sub(u.at)
		}
		u.at, u.spent, u.used = now, spent, used
	}
	return u.used, u.at, u.window
}

// serveUsage makes the fleet answer for metrics.k8s.io, as a metrics-server does.
func (f *Fleet) serveUsage(routes *http.ServeMux) {
	pods := meta.APIResource{Name: "pods", Namespaced: true, Kind: "PodMetrics", Verbs: meta.Verbs{"get", "list"}}
	all := &meta.APIResourceList{GroupVersion: metrics.SchemeGroupVersion.String(), APIResources: []meta.APIResource{pods}}
	all.TypeMeta = meta.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}
	routes.HandleFunc("GET "+usagePath, func(response http.ResponseWriter, _ *http.Request) { answer(response, http.StatusOK, all) })
	list := func(response http.ResponseWriter, request *http.Request) {
		items := f.measured(request.PathValue("namespace"), "")
		answer(response, http.StatusOK, &metrics.PodMetricsList{TypeMeta: usageKind("PodMetricsList"), Items: items})
	}
	routes.HandleFunc("GET "+usagePath+"/pods", list)
	routes.HandleFunc("GET "+usagePath+"/namespaces/{namespace}/pods", list)
	routes.HandleFunc("GET "+usagePath+"/namespaces/{namespace}/pods/{pod}", func(response http.ResponseWriter, request *http.Request) {
		name := request.PathValue("pod")
		if found := f.measured(request.PathValue("namespace"), name); len(found) > 0 {
			answer(response, http.StatusOK, &found[0])
			return
		}
		status := apierrors.NewNotFound(metrics.Resource("podmetrics"), name).Status()
		answer(response, http.StatusNotFound, &status)
	})
}

// measured is what the pods use whose nodes can be reached: of all namespaces and names where none is named.
func (f *Fleet) measured(namespace, name string) []metrics.PodMetrics {
	used, at, window := f.usage.measure()
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []metrics.PodMetrics{}
	for _, running := range f.runners {
		pod := running.pod
		if window == 0 || !running.node.isHere() || namespace != "" && namespace != pod.Namespace || name != "" && name != pod.Name {
			continue
		}
		if containers := running.uses(used, window); len(containers) > 0 {
			one := metrics.PodMetrics{TypeMeta: usageKind("PodMetrics"), Timestamp: meta.NewTime(at), Window: meta.Duration{Duration: window}, Containers: containers}
			one.ObjectMeta = meta.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels}
			all = append(all, one)
		}
	}
	return all
}

// uses tells of the containers that run. Nobody counts their memory.
func (r *runner) uses(used map[container]time.Duration, window time.Duration) []metrics.ContainerMetrics {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []metrics.ContainerMetrics
	for _, one := range r.pod.Spec.Containers {
		if r.containers[one.Name].State.Running == nil {
			continue
		}
		nano := float64(used[container{string(r.pod.UID), one.Name}]) / window.Seconds()
		cpu := *resource.NewScaledQuantity(int64(nano), resource.Nano)
		all = append(all, metrics.ContainerMetrics{Name: one.Name, Usage: core.ResourceList{core.ResourceCPU: cpu}})
	}
	return all
}

// announceUsage leads the API server to the fleet.
func (f *Fleet) announceUsage(ctx context.Context) error {
	service := &core.Service{ObjectMeta: named(usageService), Spec: core.ServiceSpec{Type: core.ServiceTypeExternalName, ExternalName: "localhost"}}
	if _, err := f.client.CoreV1().Services(meta.NamespaceSystem).Create(ctx, service, meta.CreateOptions{}); err != nil {
		return err
	}
	made := fmt.Sprintf(`{"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
		"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
		"insecureSkipTLSVerify": true, "service": {"namespace": %q, "name": %q, "port": %d}}}`,
		meta.NamespaceSystem, usageService, f.server.port)
	services := f.client.Discovery().RESTClient().Post().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices")
	return services.SetHeader("Content-Type", "application/json").Body([]byte(made)).Do(ctx).Error()
}

func usageKind(kind string) meta.TypeMeta {
	return meta.TypeMeta{Kind: kind, APIVersion: metrics.SchemeGroupVersion.String()}
}

func answer(response http.ResponseWriter, status int, object any) {
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(status)
	_ = json.NewEncoder(response).Encode(object)
}
