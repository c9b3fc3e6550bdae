package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	// Brings along how a query is read as options.
	_ "k8s.io/kubernetes/pkg/apis/core/install"

	"orrery/kubelab/controlplane"
)

// kubelet answers the API server for all nodes, and for what their pods use, at one port. Only the API server may ask.
type kubelet struct {
	port   int32
	server *http.Server
}

func serveKubelet(f *Fleet, access controlplane.Access) (*kubelet, error) {
	authority, err := os.ReadFile(access.ClientCA)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(authority) {
		return nil, errors.New("the lab's authority cannot be read")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", f.serveLog)
	f.serveUsage(routes)
	server := &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs:  clients,
			VerifyConnection: func(state tls.ConnectionState) error {
				if caller := state.PeerCertificates[0].Subject.CommonName; caller != access.ClientName {
					return fmt.Errorf("%s may not call a kubelet", caller)
				}
				return nil
			},
		},
	}
	go func() { _ = server.ServeTLS(listener, access.Certificate, access.Key) }()
	return &kubelet{port: int32(listener.Addr().(*net.TCPAddr).Port), server: server}, nil
}

func (k *kubelet) stop() {
	_ = k.server.Close()
}

// serveLog answers `kubectl logs`, with all of its options.
func (f *Fleet) serveLog(response http.ResponseWriter, request *http.Request) {
	options, err := logOptions(request.URL.Query())
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	name := request.PathValue("container")
	running := f.find(request.PathValue("namespace"), request.PathValue("pod"))
	if running == nil {
		http.Error(response, "no such pod on this node", http.StatusNotFound)
		return
	}
	running.mu.Lock()
	status, known := running.containers[name]
	var id, previous string
	if known {
		id = status.ContainerID
		if ended := status.LastTerminationState.Terminated; ended != nil {
			previous = ended.ContainerID
		}
	}
	running.mu.Unlock()
	if options.Previous {
		id = previous
	}
	attempt, err := strconv.Atoi(id[strings.LastIndexByte(id, '/')+1:])
	if !known || err != nil {
		http.Error(response, fmt.Sprintf("container %q did not start yet", name), http.StatusBadRequest)
		return
	}
	writer := &flushing{response}
	_ = logs.ReadLogs(request.Context(), running.logFile(name, attempt), id, forReader(options), containerStates{fleet: f}, writer, writer)
}

func logOptions(query url.Values) (*core.PodLogOptions, error) {
	options := &core.PodLogOptions{}
	return options, legacyscheme.ParameterCodec.DecodeParameters(query, core.SchemeGroupVersion, options)
}

func forReader(options *core.PodLogOptions) *logs.LogOptions {
	read := &logs.LogOptions{
		TailLines: options.TailLines, LimitBytes: options.LimitBytes, Follow: options.Follow, Timestamp: options.Timestamps,
	}
	if options.SinceTime != nil {
		read.Since = options.SinceTime.Time
	} else if options.SinceSeconds != nil {
		read.Since = time.Now().Add(-time.Duration(*options.SinceSeconds) * time.Second)
	}
	return read
}

func (f *Fleet) find(namespace, name string) *runner {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, running := range f.runners {
		if running.pod.Namespace == namespace && running.pod.Name == name {
			return running
		}
	}
	return nil
}

// flushing sends every line at once, for readers that follow.
type flushing struct{ http.ResponseWriter }

func (w *flushing) Write(text []byte) (int, error) {
	written, err := w.ResponseWriter.Write(text)
	if flusher, can := w.ResponseWriter.(http.Flusher); can {
		flusher.Flush()
	}
	return written, err
}

// containerStates is the one question that the reader of logs asks a runtime: does this container run?
type containerStates struct {
	internalapi.RuntimeService
	fleet *Fleet
}

// ContainerStatus answers from what the runners know.
func (s containerStates) ContainerStatus(_ context.Context, id string, _ bool) (*cri.ContainerStatusResponse, error) {
	state := cri.ContainerState_CONTAINER_EXITED
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	for _, running := range s.fleet.runners {
		running.mu.Lock()
		for _, status := range running.containers {
			if status.ContainerID == id && status.State.Running != nil {
				state = cri.ContainerState_CONTAINER_RUNNING
			}
		}
		running.mu.Unlock()
	}
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{Id: id, State: state}}, nil
}
