#!/usr/bin/env bash
# libzmq 4.3.5 (pyzmq 27.3.0): a PUSH socket that is closed with a linger of 0 drops what it has taken and the
# receiver has not, over tcp://. Over inproc:// all of it can still be received after the close: there the receiver
# reads from the very queue that was written to, and linger is the affair of a connection's own end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyzmq==27.3.0

cat > try.py <<'END'
import sys

import zmq

SENT, QUEUE = 5000, 10


def received(bind):
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.rcvhwm = QUEUE
        pull.rcvtimeo = 1000
        pull.bind(bind)
        with context.socket(zmq.PUSH) as push:
            push.linger = 0
            push.sndhwm = 0
            push.connect(pull.last_endpoint.decode().rstrip("\0"))
            push.send(bytes(1000))
            pull.recv()  # so that the connection stands
            for _ in range(SENT):
                push.send(bytes(10_000))
        count = 0
        try:
            while True:
                pull.recv()
                count += 1
        except zmq.Again:
            return count


print("libzmq", zmq.zmq_version())
tcp, inproc = received("tcp://127.0.0.1:*"), received("inproc://socket")
print(f"sent {SENT} and closed with linger 0: {tcp} came over tcp, {inproc} over inproc")
sys.exit(0 if tcp < SENT == inproc else "it is no longer so")
END

venv/bin/python try.py
echo "as it was: what is closed with linger 0 is lost over tcp, and not over inproc"
