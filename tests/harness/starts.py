# SPDX-License-Identifier: Apache-2.0
"""Pods that start and end, many at a time: each thread is one pod after the other.  A thread enters a new
network namespace for each pod, so a start costs a call of the plugin and little else."""

import ctypes
import errno
import os
import queue
import selectors
import socket
import struct
import threading
import time

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def enter_new_netns():
    """The calling thread's own; returns its path."""
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    return f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"


class Attempt:
    """A connection that is opened without waiting for it."""

    def __init__(self, addr, port):
        self.began = time.monotonic()
        self.addr = addr
        self.sock = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
        self.sock.setblocking(False)
        try:
            self.sock.connect((addr, port))
        except BlockingIOError:
            pass
        except OSError as error:  # a new pod's address is not yet usable
            if error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH):
                raise

    def sent_again(self):
        """Whether the first SYN was lost: TCP_INFO's tcpi_total_retrans."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return struct.unpack_from("I", info, 100)[0] > 0

    def opened(self):
        try:
            self.sock.getpeername()
            return True
        except OSError:
            return False


def wait_opened(attempts, timeout):
    """Waits until all of them are, or the time is up; returns those that are not, or not at once."""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for one in attempts:
            selector.register(one.sock, selectors.EVENT_WRITE, one)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(deadline - time.monotonic()):
                selector.unregister(key.fileobj)
    return [one for one in attempts if not one.opened() or one.sent_again()]


class Starts:
    """Calls start(number) count times, in so many threads; raises what one of them raised."""

    def __init__(self, start, count, threads):
        self.start, self.numbers, self.failure = start, queue.SimpleQueue(), None
        for number in range(count):
            self.numbers.put(number)
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def run(self):
        try:
            while not self.failure:
                self.start(self.numbers.get_nowait())
        except queue.Empty:
            pass
        except BaseException as error:  # for the thread that waits
            self.failure = error

    def finish(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        if self.failure:
            raise self.failure
