// Kubelab is a Kubernetes for tests and for people without GPUs: the real etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler on the loopback, and a fleet of simulated GPU nodes
// that run pods as local processes. One binary holds all of them, so that one link serves all.
//
// It refuses to be a production cluster: it keeps nothing, isolates nothing and enforces no limit.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"orrery/kubelab/controlplane"
	"orrery/kubelab/fleet"
)

// programs are the servers and tools that this binary becomes when its first argument names one.
var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": func() *cobra.Command { return controllermanager.NewControllerManagerCommand() },
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"serve":                   serveCommand,
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: kubelab serve|etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl [flags]")
	}
	name := os.Args[1]
	os.Args = append([]string{name}, os.Args[2:]...)
	if name == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	program, known := programs[name]
	if !known {
		fail("kubelab: unknown program " + name)
	}
	if name == "kubectl" {
		if err := cli.RunNoErrOutput(program()); err != nil {
			fail(err.Error())
		}
		return
	}
	os.Exit(cli.Run(program()))
}

func serveCommand() *cobra.Command {
	var lab controlplane.Options
	var nodes fleet.Options
	command := &cobra.Command{
		Use:          "serve",
		Short:        "Runs the control plane and the fleet until it is told to stop",
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			// It outlives the terminal that started it.
			signal.Ignore(syscall.SIGHUP)
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return serve(ctx, lab, nodes)
		},
	}
	flags := command.Flags()
	flags.StringVar(&lab.Dir, "dir", "", "folder of this lab; what an earlier one left there is removed")
	flags.StringVar(&lab.Users, "users", "", "end when nobody has held a shared lock on this file for two minutes")
	flags.StringVar(&lab.FeatureGates, "feature-gates", "", "further feature gates of all servers, such as DRAConsumableCapacity=false")
	nodes.AddFlags(flags)
	return command
}

func serve(ctx context.Context, lab controlplane.Options, nodes fleet.Options) error {
	plane, err := controlplane.Start(ctx, lab)
	if err != nil {
		return err
	}
	defer plane.Stop()
	access, err := plane.Fleet()
	if err != nil {
		return err
	}
	simulated, err := fleet.Start(ctx, access, nodes)
	if err != nil {
		return fmt.Errorf("the fleet did not start: %w", err)
	}
	defer simulated.Stop()
	if err := plane.Announce(simulated.NodeNames()); err != nil {
		return err
	}
	controlplane.WaitForUsers(ctx, lab.Users)
	return nil
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
