#!/bin/sh
# image.sh [tag]: build a Docker image of RabbitMQ from Debian packages, without a container registry.
#
# Prints the image's name on standard output and everything else on standard error. The name ends in a
# hash of this recipe, so an image is built once and reused until the recipe changes. With the argument
# `tag` it only prints the name. Needs docker and mmdebstrap, and takes about a minute.
set -eu

suite=${AMQPKIT_SUITE:-forky}
recipe=$(sha256sum "$0" | cut -c1-12)
image=amqpkit/rabbitmq:$suite-$recipe

exists() { docker image inspect "$image" >/dev/null 2>&1; }

if [ "${1:-}" = tag ] || exists; then
	echo "$image"
	exit 0
fi

# One build at a time: whoever waited finds the image and is done.
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
echo "building $image from Debian packages, once (about a minute) ..." >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Check-Valid-Until: a mirror may serve a dated snapshot.
# shellcheck disable=SC2016 # $1 is mmdebstrap's: the root of the new file system.
mmdebstrap --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
	--include=rabbitmq-server,ca-certificates \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--customize-hook='echo "[rabbitmq_management]." >"$1/etc/rabbitmq/enabled_plugins"' \
	--customize-hook='mkdir -p "$1/etc/rabbitmq/conf.d"' \
	--customize-hook='echo "loopback_users.guest = false" >"$1/etc/rabbitmq/conf.d/10-guest.conf"' \
	"$suite" "$work/rootfs.tar" >&2 </dev/null

echo "importing $image ..." >&2
# The server's own script, as its own user, rather than the package's wrapper: the wrapper keeps the log to
# itself and does not pass on the signal of `docker stop`.
docker import --change 'USER rabbitmq' --change 'CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]' \
	--change 'ENV LANG=C.UTF-8 HOME=/var/lib/rabbitmq RABBITMQ_LOGS=-' --change 'EXPOSE 5672 15672' \
	--change 'WORKDIR /var/lib/rabbitmq' --change 'VOLUME /var/lib/rabbitmq' \
	"$work/rootfs.tar" "$image" >/dev/null
echo "$image"
