"""What tells that the machine at the other end has gone: its kernel no longer answers ours.

Heartbeats of ZMTP would tell, too, but are for no socket whose queue can fill: libzmq 4.3.5 aborts a process
where one is due while it is full and the neighbour has just left (stream_engine_base.cpp, `!_io_error`), or
where a new connection takes over from one whose input stood still (github.com/zeromq/libzmq/issues/3937).
"""

import zmq

# Options of a socket, set before it is bound or connected. Where the other end was there: 5 s.
ALIVE: dict[int, int] = {
    zmq.TCP_KEEPALIVE: 1,  # on
    zmq.TCP_KEEPALIVE_IDLE: 2,  # s
    zmq.TCP_KEEPALIVE_INTVL: 1,  # s
    zmq.TCP_KEEPALIVE_CNT: 3,
}
