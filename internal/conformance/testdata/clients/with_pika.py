"""What a client written with pika sees of the broker at AMQP_URL. SUFFIX keeps the names of this run apart."""

import datetime
import decimal
import os

import pika
import pika.exceptions

URL = os.environ["AMQP_URL"] + "?heartbeat=30"
SUFFIX = os.environ["SUFFIX"]
TYPES = ("classic", "quorum")


def connect():
    return pika.BlockingConnection(pika.URLParameters(URL))


def shown(value):
    """A value with its type. Moments differ from run to run unless they are the script's own."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {'a time' if k == 'time' else shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return f"{type(value).__name__} {value!r}"


def properties(p):
    return ", ".join(f"{k}={shown(v)}" for k, v in sorted(vars(p).items()) if v is not None and not k.startswith("_"))


def queue(channel, name, kind, **arguments):
    arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
    channel.queue_declare(name + SUFFIX, durable=True, arguments={"x-queue-type": kind, **arguments})
    return name + SUFFIX


def get(channel, name):
    for method, props, body in channel.consume(name, inactivity_timeout=10):
        channel.cancel()
        return method, props, body


def attempt(what, act):
    """Does something on a channel of its own and prints the error of the broker."""
    connection = connect()
    channel = connection.channel()
    try:
        act(channel)
        connection.close()
        print(f"{what}: ok")
    except pika.exceptions.ChannelClosedByBroker as e:
        print(f"{what}: channel closed {e.reply_code} {e.reply_text}")
    except pika.exceptions.ConnectionClosedByBroker as e:
        print(f"{what}: connection closed {e.reply_code} {e.reply_text}")
    except pika.exceptions.AMQPError as e:
        print(f"{what}: {type(e).__name__}")
    if connection.is_open:
        connection.close()


def handshake():
    print("# handshake")
    connection = connect()
    told = connection._impl.server_properties
    print(f"product {told['product']}, capabilities {sorted(told['capabilities'])}")
    print(f"frame-max {connection._impl.params.frame_max}, channel-max {connection._impl.params.channel_max}")
    connection.close()
    for what, url in (("wrong password", URL.replace(":guest@", ":wrong@")), ("missing virtual host", URL.replace("/?", "/missing?"))):
        try:
            pika.BlockingConnection(pika.URLParameters(url))
        except pika.exceptions.AMQPConnectionError as e:
            cause = e.args[0] if e.args else e
            print(f"{what}: {type(e).__name__} {getattr(cause, 'reply_code', '')} {getattr(e, 'reply_text', '')}".rstrip())


HEADERS = {
    "text": "text", "bytes": b"\x00\xff", "true": True, "false": False, "small": 7, "negative": -7, "large": 2**40, "decimal": decimal.Decimal("-1.25"),
    "moment": datetime.datetime(2001, 9, 9, 1, 46, 40), "nothing": None, "list": [1, "two", None, [True, 2**40]],
    "table": {"z": 1, "a": {"n": 2**40}, "t": True}, "A": 1,
}


def messages():
    for kind in TYPES:
        print(f"# messages in a {kind} queue")
        connection = connect()
        channel = connection.channel()
        name = queue(channel, f"pika-{kind}", kind)
        channel.confirm_delivery()
        everything = pika.BasicProperties(
            content_type="text/plain", content_encoding="identity", headers=HEADERS, delivery_mode=2, priority=3,
            correlation_id="correlation", reply_to="reply", expiration="60000", message_id="message", timestamp=1_000_000_000, type="type",
            user_id="guest", app_id="app", cluster_id="cluster")
        for props in (None, pika.BasicProperties(headers={}), everything):
            channel.basic_publish("", name, b"body", props, mandatory=True)
            method, got, body = get(channel, name)
            print(f"{body} {method.redelivered} {method.exchange!r} {method.routing_key == name} {properties(got)}")
            channel.basic_nack(method.delivery_tag)
            method, got, body = get(channel, name)
            print(f"again {method.redelivered} {properties(got)}")
            channel.basic_ack(method.delivery_tag)
        large = bytes(range(256)) * 2000
        channel.basic_publish("", name, large)
        print("a body of several frames:", get(channel, name)[2] == large)
        print("deleted:", channel.queue_delete(name).method)
        connection.close()


def confirms():
    print("# confirms")
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", "nobody" + SUFFIX, b"body", pika.BasicProperties(headers=HEADERS), mandatory=True)
    except pika.exceptions.UnroutableError as e:
        for m in e.messages:
            print(f"returned: {m.method.reply_code} {m.method.reply_text} {m.body} {properties(m.properties)}")
    full = queue(channel, "pika-full", "classic", x_max_length=1, x_overflow="reject-publish")
    channel.basic_publish("", full, b"1")
    try:
        channel.basic_publish("", full, b"2")
    except pika.exceptions.NackError as e:
        print("nacked:", len(e.messages), "returned")
    print("deleted:", channel.queue_delete(full).method)
    connection.close()


def burst():
    print("# many messages before their confirms")
    seen = {}

    def confirmed(frame):
        method = frame.method
        first = max(seen, default=0) + 1 if method.multiple else method.delivery_tag
        for tag in range(first, method.delivery_tag + 1):
            seen.setdefault(tag, method.NAME)
        if len(seen) == 300:
            connection.close()

    def on_channel(channel):
        channel.queue_declare("pika-burst" + SUFFIX, exclusive=True)
        channel.confirm_delivery(confirmed, lambda _: [channel.basic_publish("", "pika-burst" + SUFFIX, b"body") for _ in range(300)])

    connection = pika.SelectConnection(
        pika.URLParameters(URL), on_open_callback=lambda c: c.channel(on_open_callback=on_channel),
        on_close_callback=lambda c, _: c.ioloop.stop())
    connection.ioloop.start()
    print("confirmed:", len(seen), set(seen.values()))


def dead_letters():
    for kind in TYPES:
        print(f"# dead letters of a {kind} queue")
        connection = connect()
        channel = connection.channel()
        dead = queue(channel, f"pika-dead-{kind}", kind)
        name = queue(channel, f"pika-{kind}", kind, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        channel.basic_publish("", name, b"body", pika.BasicProperties(headers={"z": 1, "a": True}, delivery_mode=2))
        method, _, _ = get(channel, name)
        channel.basic_reject(method.delivery_tag, requeue=True)
        method, props, _ = get(channel, name)
        print("rejected with requeue:", method.redelivered, properties(props))
        channel.basic_reject(method.delivery_tag, requeue=False)
        while not channel.queue_declare(dead, passive=True).method.message_count:
            pass  # a consumer that waits gets it as new
        method, props, _ = get(channel, dead)
        print("dead-lettered:", method.redelivered, method.routing_key == dead, properties(props))
        channel.queue_delete(name)
        channel.queue_delete(dead)
        connection.close()


def cancellations():
    for kind in TYPES:
        print(f"# a {kind} queue deleted under its consumers")
        connection = connect()
        channel = connection.channel()
        name = queue(channel, f"pika-{kind}", kind)
        channel.add_on_cancel_callback(lambda frame: print("cancelled:", frame.method.consumer_tag))
        for tag in ("b", "a"):
            channel.basic_consume(name, lambda *_: None, consumer_tag=tag)
        print("deleted:", channel.queue_delete(name).method)
        connection.process_data_events(0.2)
        print("open:", channel.is_open, channel.consumer_tags)
        connection.close()


def errors():
    print("# errors")
    attempt("a missing queue", lambda c: c.queue_declare("missing" + SUFFIX, passive=True))
    attempt("consuming from a missing queue", lambda c: c.basic_consume("missing" + SUFFIX, print))
    attempt("a reserved name", lambda c: c.queue_declare("amq.mine" + SUFFIX))
    attempt("an argument of another type", lambda c: c.queue_declare("q" + SUFFIX, arguments={"x-max-length": "1"}))
    attempt("a transient quorum queue", lambda c: c.queue_declare("q" + SUFFIX, arguments={"x-queue-type": "quorum"}))
    attempt("an unknown type of exchange", lambda c: c.exchange_declare("x" + SUFFIX, "x" + SUFFIX))
    attempt("the default exchange", lambda c: c.exchange_declare("", "direct"))
    attempt("an unknown delivery tag", lambda c: (c.basic_ack(77), c.queue_declare("", exclusive=True)))
    attempt("a missing exchange", lambda c: (c.basic_publish("missing" + SUFFIX, "", b""), c.queue_declare("", exclusive=True)))
    attempt("a prefetch in bytes", lambda c: c.basic_qos(prefetch_size=1))
    attempt("another user's id", lambda c: (c.basic_publish("", "", b"", pika.BasicProperties(user_id="other")), c.queue_declare("", exclusive=True)))
    attempt("an expiration", lambda c: (c.basic_publish("", "", b"", pika.BasicProperties(expiration="soon")), c.queue_declare("", exclusive=True)))
    attempt("tx after confirm", lambda c: (c.confirm_delivery(), c.tx_select()))
    attempt("channel.flow", lambda c: c.flow(True))
    attempt("basic.recover", lambda c: c.basic_recover(requeue=True))


def transactions():
    print("# transactions")
    connection = connect()
    channel = connection.channel()
    name = queue(channel, "pika-tx", "classic")
    channel.tx_select()
    channel.basic_publish("", name, b"1")
    channel.tx_rollback()
    channel.basic_publish("", name, b"2")
    channel.tx_commit()
    print("stored:", channel.queue_declare(name, passive=True).method.message_count)
    method, _, body = get(channel, name)
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    print("taken:", body)
    print("deleted:", channel.queue_delete(name).method)
    connection.close()


for part in (handshake, messages, confirms, burst, dead_letters, cancellations, errors, transactions):
    part()
