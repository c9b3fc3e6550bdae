// Package fleet simulates nodes with GPUs: kubelets that run pods as local processes, a DRA driver for each kind of
// device, and a provisioner of volumes. One process plays all nodes.
//
// It refuses to allocate anything: kube-scheduler does. It only checks, as a driver must, that no device is prepared for
// more than it has. It enforces no limit and isolates nothing: a pod's processes run as whoever started the lab.
package fleet

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/pflag"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"orrery/kubelab/controlplane"
)

// Options say how many nodes of each kind there are.
type Options struct {
	shared, whole, partitioned, plain int
}

// AddFlags lets a command line set them.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.IntVar(&o.shared, "shared", 2, "nodes whose GPUs are shared by consumable cores and memory")
	flags.IntVar(&o.whole, "whole", 1, "nodes whose GPUs have one user each")
	flags.IntVar(&o.partitioned, "partitioned", 1, "nodes whose GPUs can be had whole or in partitions")
	flags.IntVar(&o.plain, "plain", 1, "nodes without GPUs")
}

// Fleet is the running simulation.
type Fleet struct {
	client   kubernetes.Interface
	dir      string
	apiHost  string
	nodes    map[string]*node
	order    []string
	ledger   *ledger
	recorder record.EventRecorder
	informed informers.SharedInformerFactory
	server   *kubelet
	usage    usage
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	runners map[string]*runner
	pods    uint32
}

// Start registers the nodes, publishes their devices and begins to run pods.
func Start(ctx context.Context, access controlplane.Access, options Options) (*Fleet, error) {
	client, err := kubernetes.NewForConfig(access.Config)
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"pods", "volumes"} {
		if err := os.MkdirAll(filepath.Join(access.Dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	fleet := &Fleet{
		client:   client,
		dir:      access.Dir,
		apiHost:  access.Config.Host,
		nodes:    map[string]*node{},
		runners:  map[string]*runner{},
		informed: informers.NewSharedInformerFactory(client, 0),
	}
	fleet.addNodes(options)
	fleet.ledger = newLedger(fleet)
	// What an earlier lab in this folder left, if it was killed.
	endMarked(dirMark(access.Dir))
	fleet.server, err = serveKubelet(fleet, access)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	fleet.cancel = cancel
	fleet.record(running)
	if err := fleet.join(ctx, running); err != nil {
		fleet.Stop()
		return nil, err
	}
	return fleet, nil
}

func (f *Fleet) record(ctx context.Context) {
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: f.client.CoreV1().Events("")})
	f.recorder = events.NewRecorder(scheme.Scheme, core.EventSource{Component: "kubelet"})
}

func (f *Fleet) join(ctx, running context.Context) error {
	if err := f.publishClasses(ctx); err != nil {
		return err
	}
	if err := f.announceUsage(ctx); err != nil {
		return err
	}
	for _, name := range f.order {
		if err := f.register(ctx, f.nodes[name]); err != nil {
			return err
		}
	}
	if err := f.watch(running); err != nil {
		return err
	}
	f.background(func() { f.beat(running) })
	return nil
}

// NodeNames are the names of the nodes in the order in which they were made.
func (f *Fleet) NodeNames() []string {
	return f.order
}

// Stop ends every process of every pod and waits for that. The nodes stop answering.
func (f *Fleet) Stop() {
	f.cancel()
	f.running.Wait()
	endMarked(dirMark(f.dir))
	f.server.stop()
}

const (
	// podMark and containerMark begin lines that every process of a container has in its environment.
	podMark       = "KUBELAB_POD="
	containerMark = "KUBELAB_CONTAINER="
)

// background runs work that Stop waits for.
func (f *Fleet) background(work func()) {
	f.running.Add(1)
	go func() {
		defer f.running.Done()
		work()
	}()
}

// keepTrying does something until it succeeds, so that an API server that is away for a while harms nothing.
func keepTrying(ctx context.Context, act func() error) {
	for ctx.Err() == nil && act() != nil {
		pause(ctx, 300*time.Millisecond)
	}
}

// pause tells whether the whole duration went by.
func pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(duration):
		return true
	}
}

func named(name string) meta.ObjectMeta {
	return meta.ObjectMeta{Name: name}
}
