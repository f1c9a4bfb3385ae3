"""What a client written with py-amqp sees of the broker at AMQP_URL. SUFFIX keeps the names of this run apart."""

import datetime
import decimal
import os
import socket
import urllib.parse

import amqp
import amqp.exceptions

URL = urllib.parse.urlparse(os.environ["AMQP_URL"])
SUFFIX = os.environ["SUFFIX"]
TYPES = ("classic", "quorum")


def connect(**changes):
    settings = {"host": f"{URL.hostname}:{URL.port}", "userid": URL.username, "password": URL.password, "virtual_host": "/"}
    connection = amqp.Connection(**{**settings, **changes})
    connection.connect()
    return connection


def shown(value):
    """A value with its type. Moments differ from run to run unless they are the script's own."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {'a time' if k == 'time' else shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return f"{type(value).__name__} {value!r}"


def properties(message):
    return ", ".join(f"{k}={shown(v)}" for k, v in sorted(message.properties.items()))


def queue(channel, name, kind, **arguments):
    arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
    channel.queue_declare(name + SUFFIX, durable=True, auto_delete=False, arguments={"x-queue-type": kind, **arguments})
    return name + SUFFIX


def get(connection, channel, name):
    """The next message of a queue, from a consumer that is gone afterwards."""
    got = []
    tag = channel.basic_consume(name, callback=got.append)
    while not got:
        connection.drain_events(timeout=10)
    channel.basic_cancel(tag)
    return got[0]


def attempt(what, act):
    """Does something on a channel of its own and prints the error of the broker."""
    connection = connect()
    channel = connection.channel()
    try:
        act(channel)
        connection.close()
        print(f"{what}: ok")
    except amqp.ChannelError as e:
        print(f"{what}: channel closed {type(e).__name__} {e.reply_code} {e.reply_text}")
    except amqp.ConnectionError as e:
        print(f"{what}: connection closed {type(e).__name__} {e.reply_code} {e.reply_text}")
    if connection.connected:
        connection.close()


def handshake():
    print("# handshake")
    connection = connect()
    told = connection.server_properties
    print(f"product {told['product']}, capabilities {sorted(told['capabilities'].items())}")
    print(f"frame-max {connection.frame_max}, channel-max {connection.channel_max}, heartbeat {connection.heartbeat}")
    connection.close()
    connect(login_method="AMQPLAIN").close()
    print("AMQPLAIN: ok")
    for what, changes in (("wrong password", {"password": "wrong"}), ("missing virtual host", {"virtual_host": "missing"})):
        try:
            connect(**changes)
        except amqp.AMQPError as e:
            print(f"{what}: {type(e).__name__} {e.reply_code} {e.reply_text}")


HEADERS = {
    "text": "text", "bytes": b"\x00\xff", "true": True, "false": False, "small": 7, "negative": -7, "large": 2**40, "float": 0.5,
    "decimal": decimal.Decimal("1.25"), "moment": datetime.datetime(2001, 9, 9, 1, 46, 40), "nothing": None, "list": [1, "two", None, [True, 2**40]],
    "table": {"z": 1, "a": {"n": 2**40}, "t": True}, "A": 1,
}


def messages():
    for kind in TYPES:
        print(f"# messages in a {kind} queue")
        connection = connect(confirm_publish=True)
        channel = connection.channel()
        name = queue(channel, f"amqp-{kind}", kind)
        everything = {
            "content_type": "text/plain", "content_encoding": "utf-8", "application_headers": HEADERS, "delivery_mode": 2, "priority": 3,
            "correlation_id": "correlation", "reply_to": "reply", "expiration": "60000", "message_id": "message", "timestamp": 1_000_000_000,
            "type": "type", "user_id": "guest", "app_id": "app", "cluster_id": "cluster"}
        for props in ({}, {"application_headers": {}}, everything):
            channel.basic_publish(amqp.Message(b"body", **props), "", name)
            message = get(connection, channel, name)
            print(f"{message.body} {message.delivery_info['redelivered']} {message.delivery_info['exchange']!r} {properties(message)}")
            channel.basic_reject(message.delivery_tag, requeue=True)
            message = get(connection, channel, name)
            print(f"again {message.delivery_info['redelivered']} {properties(message)}")
            channel.basic_ack(message.delivery_tag)
        large = bytes(range(256)) * 2000
        channel.basic_publish(amqp.Message(large), "", name)
        message = get(connection, channel, name)
        print("a body of several frames:", message.body == large)
        channel.basic_ack(message.delivery_tag)
        print("empty:", channel.basic_get(name))
        print("deleted:", channel.queue_delete(name))
        connection.close()


def confirms():
    print("# confirms")
    connection = connect(confirm_publish=True)
    channel = connection.channel()
    returned = []
    channel.events["basic_return"].add(lambda error, exchange, key, message: returned.append((error, exchange, message)))
    channel.basic_publish(amqp.Message(b"body", application_headers=HEADERS), "", "nobody" + SUFFIX, mandatory=True)
    for error, exchange, message in returned:
        print(f"returned: {error.reply_code} {error.reply_text} {exchange!r} {message.body} {properties(message)}")
    full = queue(channel, "amqp-full", "classic", x_max_length=1, x_overflow="reject-publish")
    channel.basic_publish(amqp.Message(b"1"), "", full)
    try:
        channel.basic_publish(amqp.Message(b"2"), "", full)
    except amqp.exceptions.MessageNacked:
        print("nacked")
    print("deleted:", channel.queue_delete(full))
    connection.close()


def burst():
    print("# many messages before their confirms")
    connection = connect()
    channel = connection.channel()
    channel.queue_declare("amqp-burst" + SUFFIX, exclusive=True)
    channel.confirm_select()
    seen = {}

    def confirmed(tag, multiple):
        for t in range(max(seen, default=0) + 1 if multiple else tag, tag + 1):
            seen.setdefault(t, "ack")

    channel.events["basic_ack"].add(confirmed)
    for _ in range(300):
        channel.basic_publish(amqp.Message(b"body"), "", "amqp-burst" + SUFFIX)
    while len(seen) < 300:
        connection.drain_events(timeout=10)
    print("confirmed:", len(seen), set(seen.values()))
    connection.close()


def dead_letters():
    for kind in TYPES:
        print(f"# dead letters of a {kind} queue")
        connection = connect()
        channel = connection.channel()
        dead = queue(channel, f"amqp-dead-{kind}", kind)
        name = queue(channel, f"amqp-{kind}", kind, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        channel.basic_publish(amqp.Message(b"body", application_headers={"z": 1, "a": True}, delivery_mode=2, expiration="60000"), "", name)
        channel.basic_reject(get(connection, channel, name).delivery_tag, requeue=False)
        while not channel.queue_declare(dead, passive=True).message_count:
            pass  # a consumer that waits gets it as new
        message = get(connection, channel, dead)
        print("dead-lettered:", message.delivery_info["redelivered"], properties(message))
        channel.queue_delete(name)
        channel.queue_delete(dead)
        connection.close()


def cancellations():
    for kind in TYPES:
        print(f"# a {kind} queue deleted under its consumers")
        connection = connect()
        channel = connection.channel()
        name = queue(channel, f"amqp-{kind}", kind)
        for tag in ("b", "a"):
            channel.basic_consume(name, consumer_tag=tag, on_cancel=lambda t: print("cancelled:", t))
        print("deleted:", channel.queue_delete(name))
        try:
            while channel.callbacks:
                connection.drain_events(timeout=10)
        except socket.timeout:
            print("not cancelled:", sorted(channel.callbacks))
        connection.close()


def errors():
    print("# errors")
    attempt("a missing queue", lambda c: c.queue_declare("missing" + SUFFIX, passive=True))
    attempt("consuming from a missing queue", lambda c: c.basic_consume("missing" + SUFFIX))
    attempt("an exclusive queue that is declared durable", lambda c: (c.queue_declare("q1" + SUFFIX, exclusive=True), c.queue_declare("q1" + SUFFIX, durable=True)))
    attempt("an argument of another type", lambda c: c.queue_declare("q" + SUFFIX, arguments={"x-max-length": 1.5}))
    attempt("an argument of 64 bits", lambda c: c.queue_declare("q2" + SUFFIX, exclusive=True, arguments={"x-max-length": 2**40}))
    attempt("a binding argument", lambda c: (c.queue_declare("q3" + SUFFIX, exclusive=True), c.queue_bind("q3" + SUFFIX, "amq.headers", arguments={"x-match": 1})))
    attempt("an unknown type of exchange", lambda c: c.exchange_declare("x" + SUFFIX, "x" + SUFFIX))
    attempt("an unknown delivery tag", lambda c: (c.basic_ack(77), c.queue_declare("", exclusive=True)))
    attempt("a missing exchange", lambda c: (c.basic_publish(amqp.Message(b""), "missing" + SUFFIX), c.queue_declare("", exclusive=True)))
    attempt("a prefetch in bytes", lambda c: c.basic_qos(1, 0, False))
    attempt("another user's id", lambda c: (c.basic_publish(amqp.Message(b"", user_id="other"), "", ""), c.queue_declare("", exclusive=True)))
    attempt("tx after confirm", lambda c: (c.confirm_select(), c.tx_select()))
    attempt("channel.flow", lambda c: c.flow(True))
    attempt("basic.recover", lambda c: c.basic_recover(requeue=True))
    attempt("basic.recover without requeue", lambda c: c.basic_recover(requeue=False))


for part in (handshake, messages, confirms, burst, dead_letters, cancellations, errors):
    part()
