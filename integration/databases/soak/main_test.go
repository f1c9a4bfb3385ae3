package soak

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if IsWorker() {
		os.Exit(Work())
	}
	goleak.VerifyTestMain(m)
}
