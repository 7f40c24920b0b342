// Decode reads Kubernetes objects from standard input and writes the kind of each. It fails if an object has a
// field that its Go type does not have, or one of another type.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	reader "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

var types = map[string]func() any{
	"apps/v1 StatefulSet":                     func() any { return &apps.StatefulSet{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
	"networking.k8s.io/v1 Ingress":            func() any { return &networking.Ingress{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() any { return &networking.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() any { return &policy.PodDisruptionBudget{} },
	"v1 ConfigMap":                            func() any { return &core.ConfigMap{} },
	"v1 Secret":                               func() any { return &core.Secret{} },
	"v1 Service":                              func() any { return &core.Service{} },
	"v1 ServiceAccount":                       func() any { return &core.ServiceAccount{} },
}

func main() {
	objects := reader.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		object, err := objects.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = decode(object)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func decode(object []byte) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(object, &kind); err != nil {
		return err
	}
	if kind.Kind == "" && len(bytes.TrimSpace(object)) == 0 {
		return nil
	}
	name := kind.APIVersion + " " + kind.Kind
	target, ok := types[name]
	if !ok {
		return fmt.Errorf("no type for %s", name)
	}
	if err := yaml.UnmarshalStrict(object, target()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Println(kind.Kind)
	return nil
}
