package fleet

import (
	"context"
	"fmt"
	"net/url"
	"sort"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresource "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// environment is what a container's own definition sets.
type environment map[string]string

func (e environment) list() []string {
	var lines []string
	for name, value := range e {
		lines = append(lines, name+"="+value)
	}
	sort.Strings(lines)
	return lines
}

// environment resolves a container's variables, with paths of its mounts rewritten.
func (r *runner) environment(container core.Container) (environment, error) {
	made := environment{"HOSTNAME": r.pod.Name}
	if server, err := url.Parse(r.fleet.apiHost); err == nil {
		made["KUBERNETES_SERVICE_HOST"], made["KUBERNETES_SERVICE_PORT"] = server.Hostname(), server.Port()
	}
	for _, source := range container.EnvFrom {
		values, err := r.allValues(source)
		if err != nil {
			return nil, err
		}
		for name, value := range values {
			made[source.Prefix+name] = value
		}
	}
	mapping := expansion.MappingFuncFor(made)
	for _, variable := range container.Env {
		value := expansion.Expand(variable.Value, mapping)
		if variable.ValueFrom != nil {
			var err error
			if value, err = r.valueFrom(container, variable.ValueFrom); err != nil {
				return nil, err
			}
		}
		made[variable.Name] = r.rewrite(container, value)
	}
	return made, nil
}

// words is the container's command line, with `$(NAME)` expanded and paths rewritten.
func (r *runner) words(container core.Container, variables environment) []string {
	mapping := expansion.MappingFuncFor(variables)
	var made []string
	for _, words := range [][]string{container.Command, container.Args} {
		for _, word := range words {
			made = append(made, expansion.Expand(r.rewrite(container, word), mapping))
		}
	}
	return made
}

func (r *runner) allValues(source core.EnvFromSource) (map[string]string, error) {
	if from := source.ConfigMapRef; from != nil {
		values, err := r.configMap(from.Name, from.Optional)
		return values, err
	}
	if from := source.SecretRef; from != nil {
		secret, err := r.secret(from.Name, from.Optional)
		values := map[string]string{}
		for name, value := range secret {
			values[name] = string(value)
		}
		return values, err
	}
	return nil, nil
}

func (r *runner) valueFrom(container core.Container, source *core.EnvVarSource) (string, error) {
	switch {
	case source.FieldRef != nil:
		return r.field(source.FieldRef.FieldPath)
	case source.ResourceFieldRef != nil:
		return podresource.ExtractContainerResourceValue(source.ResourceFieldRef, &container)
	case source.ConfigMapKeyRef != nil:
		from := source.ConfigMapKeyRef
		values, err := r.configMap(from.Name, from.Optional)
		return value(values, from.Key, from.Optional, err)
	case source.SecretKeyRef != nil:
		from := source.SecretKeyRef
		values, err := r.secret(from.Name, from.Optional)
		found, err := value(values, from.Key, from.Optional, err)
		return string(found), err
	}
	return "", nil
}

// field is one of the pod's own: what a kubelet knows before it is in the object's status comes from here.
func (r *runner) field(path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return r.node.name, nil
	case "spec.serviceAccountName":
		return r.pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return "127.0.0.1", nil
	case "status.podIP", "status.podIPs":
		return r.ip, nil
	}
	return fieldpath.ExtractFieldPathAsString(r.pod, path)
}

func value[V any](values map[string]V, key string, optional *bool, err error) (V, error) {
	found, there := values[key]
	if err == nil && !there && (optional == nil || !*optional) {
		err = fmt.Errorf("couldn't find key %s", key)
	}
	return found, err
}

func (r *runner) configMap(name string, optional *bool) (map[string]string, error) {
	found, err := r.fleet.client.CoreV1().ConfigMaps(r.pod.Namespace).Get(context.Background(), name, meta.GetOptions{})
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	return found.Data, nil
}

func (r *runner) secret(name string, optional *bool) (map[string][]byte, error) {
	found, err := r.fleet.client.CoreV1().Secrets(r.pod.Namespace).Get(context.Background(), name, meta.GetOptions{})
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	return found.Data, nil
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return err
}
