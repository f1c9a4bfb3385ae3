package rabbit

import (
	"errors"
	"strings"
	"testing"
)

func TestValidateReportsAllInvalidOptions(t *testing.T) {
	err := Options{
		Keep:  true,
		Files: map[string][]byte{"relative.pem": nil, "/absolute.pem": nil},
		Ports: []int{5671, 0, 65536},
	}.validate()
	if err == nil {
		t.Fatal("validate = nil")
	}
	for _, want := range []string{"Keep", `"relative.pem"`, "Ports: 0 must", "Ports: 65536 must"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
	for _, valid := range []string{"/absolute.pem", "5671"} {
		if strings.Contains(err.Error(), valid) {
			t.Errorf("error contains %q, which is valid:\n%v", valid, err)
		}
	}
}

func TestValidOptions(t *testing.T) {
	for _, o := range []Options{
		{},
		{Keep: true},
		{Conf: "a = b", Plugins: []string{"rabbitmq_management"}, Files: map[string][]byte{"/a": nil}, Ports: []int{1, 65535}},
	} {
		if err := o.validate(); err != nil {
			t.Errorf("validate %+v: %v", o, err)
		}
	}
}

func TestStartDoesNotConfigureTheBrokerFromAMQPURL(t *testing.T) {
	t.Setenv("AMQP_URL", "amqp://127.0.0.1:1/")
	for name, o := range map[string]Options{
		"Conf":    {Conf: "a = b"},
		"Plugins": {Plugins: []string{}},
		"Files":   {Files: map[string][]byte{"/a": nil}},
		"Ports":   {Ports: []int{5671}},
	} {
		if _, err := Start(t.Context(), o); !errors.Is(err, ErrNotOwned) {
			t.Errorf("Start with %s = %v, want ErrNotOwned", name, err)
		}
	}
	if _, err := StartCluster(t.Context(), 3, Options{}); !errors.Is(err, ErrNotOwned) {
		t.Errorf("StartCluster = %v, want ErrNotOwned", err)
	}
}

func TestContainerFeaturesRequireDocker(t *testing.T) {
	t.Setenv("AMQP_URL", "")
	t.Setenv("AMQPKIT_DOCKER", "off")
	_, clusterErr := StartCluster(t.Context(), 3, Options{})
	_, filesErr := Start(t.Context(), Options{Files: map[string][]byte{"/a": nil}})
	_, portsErr := Start(t.Context(), Options{Ports: []int{5671}})
	for _, err := range []error{clusterErr, filesErr, portsErr} {
		var required *DockerRequiredError
		if !errors.As(err, &required) {
			t.Errorf("error = %v, want a DockerRequiredError", err)
			continue
		}
		for _, want := range []string{"apt-get install docker.io", "AMQPKIT_DOCKER=off"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error does not contain %q:\n%s", want, err)
			}
		}
	}
}

func TestStartClusterValidatesItsArguments(t *testing.T) {
	if _, err := StartCluster(t.Context(), 0, Options{}); err == nil {
		t.Error("StartCluster with 0 nodes = nil")
	}
	if _, err := StartCluster(t.Context(), 3, Options{Keep: true}); err == nil {
		t.Error("StartCluster with Keep = nil")
	}
}
