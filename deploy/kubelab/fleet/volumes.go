package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// mount is a volume of the pod and the folder that stands for it.
//
// Nothing is mounted: that would need rights and namespaces. Where a container's command, variables or working folder
// name a path below a mount, they get the folder's path instead.
type mount struct {
	volume, folder string
}

// prepareVolumes makes the folders and fills those that have given contents.
func (r *runner) prepareVolumes(ctx context.Context) ([]mount, error) {
	var mounts []mount
	for _, volume := range r.pod.Spec.Volumes {
		folder, err := r.prepareVolume(ctx, volume)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", volume.Name, err)
		}
		mounts = append(mounts, mount{volume: volume.Name, folder: folder})
	}
	return mounts, nil
}

func (r *runner) prepareVolume(ctx context.Context, volume core.Volume) (string, error) {
	own := filepath.Join(r.dir, "volumes", volume.Name)
	switch {
	case volume.PersistentVolumeClaim != nil:
		return r.claimedFolder(ctx, volume.PersistentVolumeClaim.ClaimName)
	case volume.HostPath != nil:
		return volume.HostPath.Path, nil
	case volume.ConfigMap != nil:
		values, err := r.configMap(volume.ConfigMap.Name, volume.ConfigMap.Optional)
		if err != nil {
			return "", err
		}
		return own, writeFiles(own, asBytes(values), volume.ConfigMap.Items)
	case volume.Secret != nil:
		values, err := r.secret(volume.Secret.SecretName, volume.Secret.Optional)
		if err != nil {
			return "", err
		}
		return own, writeFiles(own, values, volume.Secret.Items)
	case volume.Projected != nil:
		return own, r.project(own, volume.Projected.Sources)
	}
	return own, os.MkdirAll(own, 0o700)
}

// project writes what a projected volume shows, but no tokens: no pod that needs one is meant to run here.
func (r *runner) project(folder string, sources []core.VolumeProjection) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, source := range sources {
		if from := source.ConfigMap; from != nil {
			values, err := r.configMap(from.Name, from.Optional)
			if err := errors.Join(err, writeFiles(folder, asBytes(values), from.Items)); err != nil {
				return err
			}
		}
		if from := source.Secret; from != nil {
			values, err := r.secret(from.Name, from.Optional)
			if err := errors.Join(err, writeFiles(folder, values, from.Items)); err != nil {
				return err
			}
		}
	}
	return nil
}

func asBytes(values map[string]string) map[string][]byte {
	made := map[string][]byte{}
	for name, value := range values {
		made[name] = []byte(value)
	}
	return made
}

func writeFiles(folder string, values map[string][]byte, items []core.KeyToPath) error {
	if items == nil {
		for name := range values {
			items = append(items, core.KeyToPath{Key: name, Path: name})
		}
	}
	for _, item := range items {
		path := filepath.Join(folder, item.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, values[item.Key], os.FileMode(ptr.Deref(item.Mode, 0o600))); err != nil {
			return err
		}
	}
	return os.MkdirAll(folder, 0o700)
}

func (r *runner) claimedFolder(ctx context.Context, name string) (string, error) {
	claim, err := r.fleet.client.CoreV1().PersistentVolumeClaims(r.pod.Namespace).Get(ctx, name, meta.GetOptions{})
	if err != nil {
		return "", err
	}
	if claim.Status.Phase != core.ClaimBound {
		return "", fmt.Errorf("claim %s is not bound", name)
	}
	folder := r.fleet.volumeFolder(claim.Spec.VolumeName)
	return folder, os.MkdirAll(folder, 0o700)
}

func (f *Fleet) volumeFolder(volume string) string {
	return filepath.Join(f.dir, "volumes", volume)
}

// rewrite replaces paths below the container's mounts, the longest first.
func (r *runner) rewrite(container core.Container, text string) string {
	mounts := append([]core.VolumeMount(nil), container.VolumeMounts...)
	sort.Slice(mounts, func(a, b int) bool { return len(mounts[a].MountPath) > len(mounts[b].MountPath) })
	for _, wanted := range mounts {
		path := strings.TrimRight(wanted.MountPath, "/")
		for _, have := range r.mounts {
			if have.volume == wanted.Name && path != "" {
				text = replacePath(text, path, filepath.Join(have.folder, wanted.SubPath))
			}
		}
	}
	return text
}

// replacePath replaces whole path prefixes only: `/data` in `/data/x` and `--dir=/data`, not in `/database` or `/my/data`.
func replacePath(text, path, by string) string {
	var made strings.Builder
	for rest, before := text, byte(0); ; {
		at := strings.Index(rest, path)
		if at < 0 {
			made.WriteString(rest)
			return made.String()
		}
		if at > 0 {
			before = rest[at-1]
		}
		end := at + len(path)
		made.WriteString(rest[:at])
		if partOfName(before) || end < len(rest) && rest[end] != '/' && partOfName(rest[end]) {
			made.WriteString(path)
		} else {
			made.WriteString(by)
		}
		before = rest[end-1]
		rest = rest[end:]
	}
}

func partOfName(letter byte) bool {
	return letter == '_' || letter == '-' || letter == '.' || letter == '/' ||
		letter >= '0' && letter <= '9' || letter >= 'a' && letter <= 'z' || letter >= 'A' && letter <= 'Z'
}

// onVolumeClaim makes the volume for a claim that Kubernetes asks us for, and makes it larger when the claim asks for more.
func (f *Fleet) onVolumeClaim(ctx context.Context, claim *core.PersistentVolumeClaim) {
	if claim.Status.Phase == core.ClaimBound && claim.Annotations["volume.kubernetes.io/storage-provisioner"] == provisioner {
		f.grow(ctx, claim)
		return
	}
	if claim.Spec.VolumeName != "" || claim.Annotations["volume.kubernetes.io/storage-provisioner"] != provisioner {
		return
	}
	name := "pvc-" + string(claim.UID)
	volume := &core.PersistentVolume{ObjectMeta: named(name), Spec: core.PersistentVolumeSpec{
		Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
		AccessModes:                   claim.Spec.AccessModes,
		StorageClassName:              storageClass,
		PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
		ClaimRef:                      &core.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
		PersistentVolumeSource:        core.PersistentVolumeSource{HostPath: &core.HostPathVolumeSource{Path: f.volumeFolder(name)}},
	}}
	// With it, Kubernetes leaves the removal to us.
	volume.Annotations = map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}
	f.background(func() {
		keepTrying(ctx, func() error {
			_, err := f.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil
			}
			return err
		})
	})
}

// grow does what an external resizer and a kubelet do: first the volume has the size, then the claim says so.
func (f *Fleet) grow(ctx context.Context, claim *core.PersistentVolumeClaim) {
	asked := claim.Spec.Resources.Requests[core.ResourceStorage]
	if given := claim.Status.Capacity[core.ResourceStorage]; asked.Cmp(given) <= 0 {
		return
	}
	f.background(func() {
		keepTrying(ctx, func() error {
			size := fmt.Sprintf(`{"storage":%q}`, asked.String())
			patch := []byte(`{"spec":{"capacity":` + size + `}}`)
			volume := claim.Spec.VolumeName
			if _, err := f.client.CoreV1().PersistentVolumes().Patch(ctx, volume, types.MergePatchType, patch, meta.PatchOptions{}); err != nil {
				return unlessGone(err)
			}
			patch = []byte(`{"status":{"capacity":` + size + `}}`)
			claims := f.client.CoreV1().PersistentVolumeClaims(claim.Namespace)
			_, err := claims.Patch(ctx, claim.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
			return unlessGone(err)
		})
	})
}

// onVolume removes a volume whose claim is gone.
func (f *Fleet) onVolume(ctx context.Context, volume *core.PersistentVolume) {
	if volume.Status.Phase != core.VolumeReleased || volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner {
		return
	}
	f.background(func() {
		keepTrying(ctx, func() error {
			if err := os.RemoveAll(f.volumeFolder(volume.Name)); err != nil {
				return err
			}
			return unlessGone(f.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{}))
		})
	})
}
