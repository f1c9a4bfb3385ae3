package rabbit

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestComposeFileDefaultsToTheBuiltImage(t *testing.T) {
	tag, err := exec.CommandContext(t.Context(), "sh", "debian/image.sh", "tag").Output()
	if err != nil {
		t.Fatal(err)
	}
	compose, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	if want := "${RABBITMQ_IMAGE:-" + strings.TrimSpace(string(tag)) + "}"; !strings.Contains(string(compose), want) {
		t.Errorf("docker-compose.yml does not contain %s", want)
	}
}
