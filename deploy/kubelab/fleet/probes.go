package fleet

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe follows a container's start and readiness until ctx ends. Liveness is not looked at.
func (r *runner) probe(ctx context.Context, container core.Container) {
	if container.StartupProbe != nil && !r.untilPassed(ctx, container, container.StartupProbe) {
		return
	}
	readiness := container.ReadinessProbe
	if readiness == nil {
		// Without a probe a container is ready as long as it runs; only the fault is followed.
		readiness = &core.Probe{}
	}
	if !pause(ctx, seconds(readiness.InitialDelaySeconds, 0)) {
		return
	}
	failures := int32(0)
	for {
		if err := r.ask(ctx, container, readiness); err == nil {
			failures = 0
			r.ready(container.Name, true)
		} else if failures++; failures >= max(readiness.FailureThreshold, 1) {
			r.event(core.EventTypeWarning, "Unhealthy", "Readiness probe failed: "+err.Error())
			r.ready(container.Name, false)
		}
		// A container that is not ready yet is asked more often than a kubelet would, so that tests are quick.
		interval := seconds(readiness.PeriodSeconds, 1)
		if failures > 0 {
			interval = min(interval, 200*time.Millisecond)
		}
		if !pause(ctx, interval) {
			return
		}
	}
}

func (r *runner) untilPassed(ctx context.Context, container core.Container, probe *core.Probe) bool {
	for r.ask(ctx, container, probe) != nil {
		if !pause(ctx, min(seconds(probe.PeriodSeconds, 1), time.Second)) {
			return false
		}
	}
	return true
}

func (r *runner) ask(ctx context.Context, container core.Container, probe *core.Probe) error {
	if r.fault() == faultUnready {
		return fmt.Errorf("told to fail")
	}
	ctx, cancel := context.WithTimeout(ctx, seconds(probe.TimeoutSeconds, 1))
	defer cancel()
	switch {
	case probe.Exec != nil:
		return r.execute(ctx, container, probe.Exec.Command)
	case probe.HTTPGet != nil:
		return r.get(ctx, container, probe.HTTPGet)
	case probe.TCPSocket != nil:
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", r.target(container, probe.TCPSocket.Host, probe.TCPSocket.Port))
		if err == nil {
			_ = connection.Close()
		}
		return err
	}
	return nil
}

// probeClient follows no redirects, and like a kubelet believes any certificate.
var probeClient = &http.Client{
	Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (r *runner) get(ctx context.Context, container core.Container, probe *core.HTTPGetAction) error {
	scheme := "http"
	if probe.Scheme == core.URISchemeHTTPS {
		scheme = "https"
	}
	address := scheme + "://" + r.target(container, probe.Host, probe.Port) + "/" + trimSlash(probe.Path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	for _, header := range probe.HTTPHeaders {
		request.Header.Add(header.Name, header.Value)
	}
	response, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", response.StatusCode)
	}
	return nil
}

func (r *runner) target(container core.Container, host string, port intstr.IntOrString) string {
	if host == "" {
		host = r.ip
	}
	number := port.IntValue()
	for _, known := range container.Ports {
		if port.Type == intstr.String && known.Name == port.StrVal {
			number = int(known.ContainerPort)
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(number))
}

func trimSlash(path string) string {
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	return path
}

func seconds(given, otherwise int32) time.Duration {
	if given == 0 {
		given = otherwise
	}
	return time.Duration(given) * time.Second
}
