#!/bin/sh
# image.sh [tag]: build a Docker image of RabbitMQ from Debian packages, without a container registry.
#
# It prints the image's name on standard output and progress on standard error. The name ends with a hash of this
# file, so the image is built once and reused until this file changes. With the argument tag, it prints the name
# without building the image. It needs docker and mmdebstrap and takes about a minute. AMQPKIT_SUITE selects the
# Debian suite and defaults to forky.
set -eu

suite=${AMQPKIT_SUITE:-forky}
recipe=$(sha256sum "$0" | cut -c1-12)
image=amqpkit/rabbitmq:$suite-$recipe

exists() { docker image inspect "$image" >/dev/null 2>&1; }

if [ "${1:-}" = tag ] || exists; then
	echo "$image"
	exit 0
fi

# Only one process builds the image. The others wait and use it.
exec 9>"${TMPDIR:-/tmp}/amqpkit-image-$(id -u).lock"
if ! flock -n 9; then
	echo "waiting for another build of $image ..." >&2
	flock 9
fi
if exists; then
	echo "$image"
	exit 0
fi

sh "$(dirname "$0")/ensure.sh" mmdebstrap mmdebstrap
echo "building $image from Debian packages (once, about a minute) ..." >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Check-Valid-Until is off because a mirror may serve an old snapshot.
# shellcheck disable=SC2016 # mmdebstrap expands $1 to the root of the new file system.
mmdebstrap --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
	--include=rabbitmq-server,ca-certificates \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--customize-hook='echo "[rabbitmq_management]." >"$1/etc/rabbitmq/enabled_plugins"' \
	--customize-hook='mkdir -p "$1/etc/rabbitmq/conf.d"' \
	--customize-hook='echo "loopback_users.guest = false" >"$1/etc/rabbitmq/conf.d/10-guest.conf"' \
	"$suite" "$work/rootfs.tar" >&2 </dev/null

echo "importing $image ..." >&2
# CMD is the server's own script, run as the user rabbitmq. The package's wrapper neither writes the log to standard
# output nor forwards the signal of docker stop.
docker import --change 'USER rabbitmq' --change 'CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]' \
	--change 'ENV LANG=C.UTF-8 HOME=/var/lib/rabbitmq RABBITMQ_LOGS=-' --change 'EXPOSE 5672 15672' \
	--change 'WORKDIR /var/lib/rabbitmq' --change 'VOLUME /var/lib/rabbitmq' \
	"$work/rootfs.tar" "$image" >/dev/null
echo "$image"
