// Package controlplane runs the real servers of Kubernetes on the loopback, with TLS and RBAC, each as a process.
//
// It refuses to know what nodes there are; that is the fleet's.
package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// How long the API server may take on a busy machine with two cores.
const startTimeout = 3 * time.Minute

// Options say where a lab lives and what differs from the defaults.
type Options struct {
	// Dir holds everything of one lab. It is emptied at the start.
	Dir string
	// Users is a file on which whoever uses the lab holds a shared lock. None is needed when it is empty.
	Users string
	// FeatureGates are added to all servers, in the form of their flag.
	FeatureGates string
}

// Plane is a running control plane.
type Plane struct {
	dir          string
	featureGates string
	ports        ports
	processes    []*process
	cancel       context.CancelFunc
	lock         *os.File
	version      string
}

// identity is who a certificate stands for.
type identity struct {
	file    string
	subject pkix.Name
}

// Each server is known by the name that RBAC's default roles expect.
var identities = []identity{
	{"apiserver", pkix.Name{CommonName: "kube-apiserver"}},
	{"etcd", pkix.Name{CommonName: "etcd"}},
	{"kubelet-client", pkix.Name{CommonName: kubeletClient}},
	{"kubelet-server", pkix.Name{CommonName: "kubelab-fleet"}},
	{"controller-manager", pkix.Name{CommonName: "system:kube-controller-manager"}},
	{"scheduler", pkix.Name{CommonName: "system:kube-scheduler"}},
	{"fleet", pkix.Name{CommonName: fleetUser}},
	{"executor", pkix.Name{CommonName: executorUser}},
	{"admin", pkix.Name{CommonName: "kubelab-admin", Organization: []string{"system:masters"}}},
}

const (
	// kubeletClient is how the API server calls at the fleet.
	kubeletClient = "kube-apiserver-kubelet-client"
	fleetUser     = "kubelab:fleet"
	executorUser  = "orrery:executor"
)

// Start brings the servers up and waits until the API server is ready and the objects that everybody needs are there.
// Whatever was started is stopped again when this fails.
func Start(ctx context.Context, options Options) (*Plane, error) {
	plane, err := prepare(options)
	if err != nil {
		return nil, err
	}
	// The servers end by Stop, after the fleet, and not with the signal.
	running, cancel := context.WithCancel(context.Background())
	plane.cancel = cancel
	if err := plane.start(ctx, running); err != nil {
		plane.Stop()
		return nil, err
	}
	return plane, nil
}

func prepare(options Options) (*Plane, error) {
	if options.Dir == "" {
		return nil, errors.New("--dir is missing: name a folder for this lab")
	}
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, err
	}
	lock, err := takeFolder(dir)
	if err != nil {
		return nil, err
	}
	chosen, err := choosePorts()
	if err != nil {
		return nil, err
	}
	plane := &Plane{dir: dir, featureGates: options.FeatureGates, ports: chosen, lock: lock}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return nil, err
	}
	return plane, plane.writeIdentities()
}

// takeFolder locks the folder for this process and removes what an earlier lab left.
func takeFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("a lab runs in %s already", dir)
	}
	// Whoever wants to end a lab reads here whom to signal.
	if err := lock.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(lock, os.Getpid()); err != nil {
		return nil, err
	}
	for _, left := range []string{"etcd", "pki", "logs", "pods", "volumes", readyFile} {
		if err := os.RemoveAll(filepath.Join(dir, left)); err != nil {
			return nil, err
		}
	}
	return lock, nil
}

func (p *Plane) writeIdentities() error {
	authority, err := newAuthority(filepath.Join(p.dir, "pki"))
	if err != nil {
		return err
	}
	if err := authority.signingKey("tokens"); err != nil {
		return err
	}
	for _, who := range identities {
		if err := authority.issue(who.file, who.subject); err != nil {
			return err
		}
	}
	for _, name := range []string{"controller-manager", "scheduler", "fleet", "executor", "admin"} {
		if err := p.writeKubeconfig(name); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes `<name>.kubeconfig` with the keys inside, so that the file can be copied anywhere.
func (p *Plane) writeKubeconfig(name string) error {
	var read [3][]byte
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		content, err := os.ReadFile(p.pki(file))
		if err != nil {
			return err
		}
		read[i] = content
	}
	config := api.NewConfig()
	config.Clusters["kubelab"] = &api.Cluster{Server: p.ports.apiURL(), CertificateAuthorityData: read[0]}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: read[1], ClientKeyData: read[2]}
	config.Contexts["kubelab"] = &api.Context{Cluster: "kubelab", AuthInfo: name, Namespace: "default"}
	config.CurrentContext = "kubelab"
	return clientcmd.WriteToFile(*config, p.kubeconfig(name))
}

func (p *Plane) start(ctx, running context.Context) error {
	servers := []struct {
		name      string
		arguments []string
	}{
		{"etcd", p.etcdArguments()},
		{"kube-apiserver", p.apiserverArguments()},
	}
	for _, server := range servers {
		if err := p.keepRunning(running, server.name, server.arguments); err != nil {
			return err
		}
	}
	client, err := p.client("admin")
	if err != nil {
		return err
	}
	err = waitFor(ctx, "kube-apiserver", startTimeout, func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("%w; see %s", err, filepath.Join(p.dir, "logs"))
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	p.version = version.GitVersion
	if err := bootstrap(ctx, client); err != nil {
		return err
	}
	if err := p.keepRunning(running, "kube-controller-manager", p.controllerManagerArguments()); err != nil {
		return err
	}
	return p.keepRunning(running, "kube-scheduler", p.schedulerArguments())
}

func (p *Plane) client(name string) (*kubernetes.Clientset, error) {
	config, err := p.restConfig(name)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (p *Plane) restConfig(name string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig(name))
	if err != nil {
		return nil, err
	}
	// The fleet speaks for many nodes; the server is the limit.
	config.QPS = -1
	return config, nil
}

// Access is what the fleet needs to join.
type Access struct {
	// Config is the fleet's own identity.
	Config *rest.Config
	// Dir is where it may keep files.
	Dir string
	// ClientCA, Certificate and Key serve the API server, which calls as ClientName.
	ClientCA, Certificate, Key, ClientName string
}

// Fleet gives access to whoever plays the nodes.
func (p *Plane) Fleet() (Access, error) {
	config, err := p.restConfig("fleet")
	return Access{
		Config:      config,
		Dir:         p.dir,
		ClientCA:    p.pki("ca.crt"),
		Certificate: p.pki("kubelet-server.crt"),
		Key:         p.pki("kubelet-server.key"),
		ClientName:  kubeletClient,
	}, err
}

// Stop ends the servers, waits for them, and gives the folder free.
func (p *Plane) Stop() {
	p.cancel()
	for _, process := range p.processes {
		<-process.done
	}
	_ = os.Remove(filepath.Join(p.dir, readyFile))
	_ = p.lock.Close()
}

const (
	lockFile  = "lock"
	readyFile = "ready.json"
)

// Announcement tells others where a lab is. It is there from the moment in which all of the lab can be used.
type Announcement struct {
	Pid                int      `json:"pid"`
	Program            string   `json:"program"`
	Kubeconfig         string   `json:"kubeconfig"`
	ExecutorKubeconfig string   `json:"executor_kubeconfig"`
	Server             string   `json:"server"`
	Version            string   `json:"version"`
	Nodes              []string `json:"nodes"`
}

// Announce writes the announcement as a whole or not at all.
func (p *Plane) Announce(nodes []string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(Announcement{
		Pid:                os.Getpid(),
		Program:            program,
		Kubeconfig:         p.kubeconfig("admin"),
		ExecutorKubeconfig: p.kubeconfig("executor"),
		Server:             p.ports.apiURL(),
		Version:            p.version,
		Nodes:              nodes,
	}, "", "  ")
	if err != nil {
		return err
	}
	final := filepath.Join(p.dir, readyFile)
	if err := os.WriteFile(final+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(final+".new", final)
}

func (p *Plane) pki(file string) string {
	return filepath.Join(p.dir, "pki", file)
}

func (p *Plane) kubeconfig(name string) string {
	return p.pki(name + ".kubeconfig")
}
