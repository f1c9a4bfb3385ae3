package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// environment describes the date, the versions and the machine of a measurement.
func environment(b *rabbit.Broker, dbs *databases) string {
	postgres := ""
	if dbs != nil {
		postgres = ", PostgreSQL " + dbs.postgres.Version
	}
	return fmt.Sprintf("%s, RabbitMQ %s%s, amqp091-go %s, %s on %s, %d CPUs%s.",
		time.Now().Format(time.DateOnly), b.Version(), postgres, libraryVersion(), runtime.Version(), runtime.GOOS, runtime.NumCPU(), processor())
}

func libraryVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/rabbitmq/amqp091-go" {
				return m.Version
			}
		}
	}
	return "of unknown version"
}

// processor returns the name of the processor in brackets, or an empty string if the system is not Linux.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return " (" + strings.TrimLeft(name, " \t:") + ")"
		}
	}
	return ""
}
