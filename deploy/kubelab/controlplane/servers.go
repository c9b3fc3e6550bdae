package controlplane

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
)

// The addresses of Services. Nothing routes them: pods are reached by their own loopback addresses.
const serviceRange = "10.96.0.0/16"

var serviceIP = net.IPv4(10, 96, 0, 1)

// A node whose lease is older than this is NotReady. The default of 50 s would make each test of a lost node slow.
const nodeGracePeriod = "12s"

// gates are what this lab is for. Named although they are on by default, so that a version in which they are not fails
// loudly instead of dropping fields silently.
var gates = []string{"DRAConsumableCapacity=true", "DRAPartitionableDevices=true", "DRADeviceTaints=true"}

// controllers are those that somebody meets here. Each one more costs memory and watches.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"device-taint-eviction-controller",
	"garbage-collector-controller",
	"job-controller",
	"namespace-controller",
	"node-lifecycle-controller",
	"persistentvolume-binder-controller",
	"persistentvolumeclaim-protection-controller",
	"persistentvolume-protection-controller",
	"pod-garbage-collector-controller",
	"resourceclaim-controller",
	"resourcequota-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"taint-eviction-controller",
	"ttl-after-finished-controller",
}

// ports are free ones of the loopback, chosen when the lab starts.
type ports struct {
	api, etcd, etcdPeer int
}

func choosePorts() (ports, error) {
	var chosen [3]int
	for i := range chosen {
		// Held until all are chosen, so that they differ.
		listener, err := listenBelowConnections()
		if err != nil {
			return ports{}, err
		}
		defer listener.Close()
		chosen[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports{api: chosen[0], etcd: chosen[1], etcdPeer: chosen[2]}, nil
}

// listenBelowConnections finds a port below those that Linux takes for connections (32,768 and up), so that no connection
// has it before the server does.
func listenBelowConnections() (net.Listener, error) {
	var last error
	for range 100 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(20_000)))
		if err == nil {
			return listener, nil
		}
		last = err
	}
	return nil, last
}

func (p ports) apiURL() string {
	return fmt.Sprintf("https://127.0.0.1:%d", p.api)
}

func (p *Plane) etcdArguments() []string {
	client := fmt.Sprintf("https://127.0.0.1:%d", p.ports.etcd)
	peer := fmt.Sprintf("https://127.0.0.1:%d", p.ports.etcdPeer)
	return []string{
		"--name=kubelab",
		"--data-dir=" + filepath.Join(p.dir, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=kubelab=" + peer,
		"--client-cert-auth", "--trusted-ca-file=" + p.pki("ca.crt"),
		"--cert-file=" + p.pki("etcd.crt"), "--key-file=" + p.pki("etcd.key"),
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + p.pki("ca.crt"),
		"--peer-cert-file=" + p.pki("etcd.crt"), "--peer-key-file=" + p.pki("etcd.key"),
		// Nothing here outlives the lab, so nothing waits for the disk.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func (p *Plane) apiserverArguments() []string {
	return []string{
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", p.ports.api),
		// The loopback is no address that endpoints may have.
		"--endpoint-reconciler-type=none",
		fmt.Sprintf("--etcd-servers=https://127.0.0.1:%d", p.ports.etcd),
		"--etcd-cafile=" + p.pki("ca.crt"), "--etcd-certfile=" + p.pki("etcd.crt"), "--etcd-keyfile=" + p.pki("etcd.key"),
		"--client-ca-file=" + p.pki("ca.crt"),
		"--tls-cert-file=" + p.pki("apiserver.crt"), "--tls-private-key-file=" + p.pki("apiserver.key"),
		"--kubelet-certificate-authority=" + p.pki("ca.crt"),
		"--kubelet-client-certificate=" + p.pki("kubelet-client.crt"), "--kubelet-client-key=" + p.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		// The fleet answers for what pods use, too.
		"--proxy-client-cert-file=" + p.pki("kubelet-client.crt"), "--proxy-client-key-file=" + p.pki("kubelet-client.key"),
		"--authorization-mode=RBAC", "--anonymous-auth=false",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.pki("tokens.pub"), "--service-account-signing-key-file=" + p.pki("tokens.key"),
		"--service-cluster-ip-range=" + serviceRange,
		"--enable-priority-and-fairness=false", "--profiling=false",
		p.gateArgument(),
	}
}

func (p *Plane) controllerManagerArguments() []string {
	return []string{
		"--kubeconfig=" + p.pki("controller-manager.kubeconfig"),
		"--controllers=" + strings.Join(controllers, ","),
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--use-service-account-credentials",
		"--root-ca-file=" + p.pki("ca.crt"), "--service-account-private-key-file=" + p.pki("tokens.key"),
		"--node-monitor-grace-period=" + nodeGracePeriod, "--node-monitor-period=1s",
		// Half of this fleet may be lost in a test; its pods must still be evicted.
		"--node-eviction-rate=100", "--secondary-node-eviction-rate=100", "--large-cluster-size-threshold=0",
		p.gateArgument(),
	}
}

func (p *Plane) schedulerArguments() []string {
	return []string{
		"--kubeconfig=" + p.pki("scheduler.kubeconfig"),
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		p.gateArgument(),
	}
}

func (p *Plane) gateArgument() string {
	all := gates
	if p.featureGates != "" {
		all = append(append([]string(nil), gates...), p.featureGates)
	}
	return "--feature-gates=" + strings.Join(all, ",")
}
