"""Read messages with another client and print each one as a line of JSON: read.py CLIENT URL QUEUE COUNT"""
import base64
import datetime
import decimal
import json
import sys
from urllib.parse import urlparse


def plain(v):
    if isinstance(v, datetime.datetime):
        return "time " + v.isoformat()
    if isinstance(v, decimal.Decimal):
        return "decimal " + str(v)
    if isinstance(v, (bytes, bytearray)):
        return "bytes " + base64.b64encode(bytes(v)).decode()
    if isinstance(v, dict):
        return {str(k): plain(e) for k, e in v.items()}
    if isinstance(v, list):
        return [plain(e) for e in v]
    return v


def show(headers, **properties):
    print(json.dumps({"headers": plain(headers or {}), **plain(properties)}), flush=True)


def pika(url, queue, count):
    import pika
    ch = pika.BlockingConnection(pika.URLParameters(url)).channel()
    for i, (method, p, _) in enumerate(ch.consume(queue), 1):
        show(p.headers, message_id=p.message_id, timestamp=p.timestamp, key=method.routing_key)
        ch.basic_ack(method.delivery_tag)
        if i == count:
            return


def pyamqp(url, queue, count):
    import amqp
    u = urlparse(url)
    c = amqp.Connection(host="%s:%d" % (u.hostname, u.port), userid=u.username, password=u.password)
    c.connect()
    ch = c.channel()
    seen = []

    def on_message(m):
        p = m.properties
        show(p.get("application_headers"), message_id=p.get("message_id"), timestamp=p.get("timestamp"), key=m.delivery_info["routing_key"])
        ch.basic_ack(m.delivery_tag)
        seen.append(m)

    ch.basic_consume(queue, callback=on_message)
    while len(seen) < count:
        c.drain_events()


{"pika": pika, "amqp": pyamqp}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
