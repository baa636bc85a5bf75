#!/usr/bin/env bash
# libzmq 4.3.5 (pyzmq 27.3.0) over ipc:// loses the last messages of a PUSH socket that is closed with an unlimited
# linger, where the receiver is slower: the sender waits until the kernel has taken all, and at its end the receiver
# drops what it had not read from the connection yet. The same over tcp:// loses nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyzmq==27.3.0

cat > try.py <<'END'
import sys
import threading
import time

import zmq

SENT = 20_000


def send(endpoint):
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = -1
        push.sndhwm = 0
        push.connect(endpoint)
        for number in range(SENT):
            push.send(b"%100d" % number)


def received(bind):
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.rcvhwm = 10
        pull.rcvtimeo = 3000
        pull.bind(bind)
        sender = threading.Thread(target=send, args=[pull.last_endpoint.decode()])
        sender.start()
        count = 0
        try:
            while True:
                pull.recv()
                count += 1
                if count == 5:
                    time.sleep(0.5)  # so that the queues on the way are full
        except zmq.Again:
            sender.join()
            return count


print("libzmq", zmq.zmq_version())
tcp, ipc = received("tcp://127.0.0.1:*"), received("ipc://socket")
print(f"sent {SENT}: {tcp} came over tcp, {ipc} over ipc")
sys.exit(0 if tcp == SENT and 0 < ipc < SENT else "it is no longer so")
END

venv/bin/python try.py
echo "as it was: the end of what is sent over ipc is lost"
