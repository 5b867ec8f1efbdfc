"""Performs a network's steps: what can go together goes to the kernel in one message.

A step that makes a link is sent alone, because the kernel goes on after a refusal: the steps that follow must not reach
another's link of that name. What was made is removed where a later step fails.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, assert_never

from sampan.errors import Conflict, SampanError, doing, from_os_error
from sampan.kernel import rtnetlink
from sampan.kernel.netlink import Netlink, NetlinkError, Request
from sampan.network import ops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sampan.network.namespace import Namespace
    from sampan.spec.operation import Operation

    Told = Callable[[Operation, int], None]

MAX_PORTS = 1023
"""Of a bridge: their numbers have ten bits, and none is 0; BR_PORT_BITS in net/bridge/br_private.h."""

_IPV6 = "/proc/sys/net/ipv6"


def perform(steps: Iterable[ops.Step], *, namespace: Namespace | None = None, told: Told | None = None) -> None:
    """Perform steps in their order, those that are `inside` in `namespace`.

    Raises SampanError that names the step; what was made until then is removed. `told` is called with each step and the
    nanoseconds that it took; then each goes to the kernel by itself.
    """
    made: list[ops.RemoveLink] = []
    try:
        for inside, group in itertools.groupby(steps, key=lambda step: step.inside):
            if inside and namespace is None:
                raise ValueError("what is to happen in a container would happen on the host")
            _perform_in(namespace if inside else None, tuple(group), _Place(namespace, made, told))
    except BaseException:
        _undo(made, namespace)
        raise


def _undo(made: list[ops.RemoveLink], namespace: Namespace | None) -> None:
    for step in reversed(made):
        try:
            perform((step,), namespace=namespace)
        except SampanError:
            pass  # the first error is the one that tells; what stays has our name on it, and repair removes it


def _perform_in(namespace: Namespace | None, steps: tuple[ops.Step, ...], place: _Place) -> None:
    if namespace is None:
        place.perform(steps)
    else:
        try:
            namespace.call(lambda: place.perform(steps))
        except OSError as e:  # a step's own is a SampanError, which tells enough
            raise from_os_error(e).within("can't enter the container's network namespace") from e


class _Place:
    """One network namespace, that of the thread which performs, with the requests that wait to be sent."""

    def __init__(self, namespace: Namespace | None, made: list[ops.RemoveLink], told: Told | None) -> None:
        """Send links into `namespace`; note in `made` how to remove them."""
        self._namespace = namespace
        self._made = made
        self._told = told
        self._waiting: list[tuple[ops.Step, Request]] = []
        self._indexes: dict[str, int] = {}
        self._others: set[str] = set()  # bridges that are not ours

    def perform(self, steps: Iterable[ops.Step]) -> None:
        with Netlink() as self._netlink:
            for step in steps:
                start = time.perf_counter_ns()
                with doing(f"can't {step.say()}"):
                    self._step(step)
                if self._told:
                    self._send_waiting()
                    self._told(step, time.perf_counter_ns() - start)
            self._send_waiting()

    def _step(self, step: ops.Step) -> None:
        match step:
            case ops.MakeBridge():
                self._make_bridge(step)
            case ops.MakeVlan():
                if self._look(step.link) is None:
                    on_parent = rtnetlink.settings(parent=self._index(step.parent))
                    self._make(step.link, "vlan", rtnetlink.vlan(step.number), on_parent, step.alias)
            case ops.MakeDummy():
                if self._look(step.link) is None:
                    self._make(step.link, "dummy", b"", b"", step.alias)
            case ops.MakeVeth():
                self._make_veth(step)
            case ops.MakeMacvlan() | ops.MakeIpvlan():
                self._make_on_parent(step)
            case ops.TakeDown():
                self._take_down(step)
            case ops.RemoveLink():
                self._remove(step)
            case ops.SetParameter():
                if step.interface not in self._others:
                    _set_parameter(step)
            case _:
                self._waiting += [(step, request) for request in self._requests(step)]

    def _requests(self, step: ops.Setting) -> Iterator[Request]:
        """Encode a step that changes what is there."""
        match step:
            case ops.JoinBridge(link, bridge, isolated):
                yield self._change(link, rtnetlink.settings(master=self._index(bridge)))
                yield rtnetlink.set_port(self._index(link), link, isolated=isolated)
            case ops.Describe(link, alias):
                yield self._change(link, rtnetlink.settings(alias=alias))
            case ops.SetAddressing(link):
                if os.path.exists(_IPV6):
                    yield self._change(link, rtnetlink.without_link_local())
            case ops.AddAddress(interface, address):
                yield rtnetlink.add_address(self._index(interface), address)
            case ops.BringUp(interface):
                yield rtnetlink.change_link(self._index(interface), interface, up=True)
            case ops.AddRoute():
                yield rtnetlink.replace_route(step.destination, step.gateway, self._index(step.interface))
            case ops.SetNeighbour():
                yield rtnetlink.replace_neighbour(self._index(step.link), step.address, step.mac)
            case _:
                assert_never(step)

    def _change(self, link: str, settings: bytes) -> Request:
        return rtnetlink.change_link(self._index(link), link, settings)

    def _index(self, name: str) -> int:
        """Return a link's index: what follows is about this link, even when the container gives its name to another."""
        if name not in self._indexes:
            self._indexes[name] = self._find(name).index
        return self._indexes[name]

    def _find(self, name: str) -> rtnetlink.Link:
        return rtnetlink.link(self._netlink.get(rtnetlink.get_link(name)))

    def _look(self, name: str) -> rtnetlink.Link | None:
        try:
            return self._find(name)
        except NetlinkError as e:
            if e.errno == errno.ENODEV:
                return None
            raise

    def _send(self, *requests: Request) -> None:
        self._netlink.batch(requests)

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._netlink.batch([request for _, request in waiting])
        except NetlinkError as e:
            step = waiting[e.index][0]
            with doing(f"can't {step.say()}"):
                if isinstance(step, ops.JoinBridge) and e.errno == errno.EXFULL:
                    raise _full(step.bridge) from e
                raise

    def _make_bridge(self, step: ops.MakeBridge) -> None:
        found = self._look(step.link)
        settings = rtnetlink.settings(mac=step.mac, mtu=step.mtu)
        if found is None:
            self._make(step.link, "bridge", b"", rtnetlink.settings(mac=step.mac), step.alias)
            # Not before it is there: only an MTU that is set later stays when ports come and go; br_change_mtu.
            self._send(self._change(step.link, settings))
        elif found.kind != "bridge":
            raise Conflict(f"{step.link} is {_article(found.kind)} already", "choose another name for it")
        elif found.alias == step.alias:
            self._send(self._change(step.link, settings))
        else:
            self._others.add(step.link)

    def _make(self, link: str, kind: str, data: bytes, settings: bytes, alias: str) -> None:
        self._send(rtnetlink.new_link(link, kind, data, settings=settings))
        self._made.append(ops.RemoveLink(link))
        self._send(self._change(link, rtnetlink.settings(alias=alias)))

    def _make_veth(self, step: ops.MakeVeth) -> None:
        peer = rtnetlink.settings(mac=step.mac, mtu=step.mtu, namespace_fd=self._target())
        data = rtnetlink.veth_peer(step.interface, peer)
        try:
            self._send(rtnetlink.new_link(step.link, "veth", data, settings=rtnetlink.settings(mtu=step.mtu)))
        except NetlinkError as e:
            if e.errno == errno.EEXIST and self._look(step.link) is None:
                raise Conflict(f"the container has an interface {step.interface} already") from e
            raise
        self._made.append(ops.RemoveLink(step.link))

    def _make_on_parent(self, step: ops.MakeMacvlan | ops.MakeIpvlan) -> None:
        mac = ""
        if isinstance(step, ops.MakeMacvlan):
            kind, data, mac = "macvlan", rtnetlink.macvlan(step.mode), step.mac
        else:
            kind, data = "ipvlan", rtnetlink.ipvlan(step.mode, step.flag)
        parent = self._index(step.parent)
        settings = rtnetlink.settings(mac=mac, mtu=step.mtu, parent=parent, namespace_fd=self._target())
        self._send(rtnetlink.new_link(step.interface, kind, data, settings=settings))
        self._made.append(ops.RemoveLink(step.interface, inside=True))

    def _target(self) -> int:
        if self._namespace is None:
            raise ValueError("links into a container need its namespace")
        return self._namespace.fd

    def _remove(self, step: ops.RemoveLink) -> None:
        found = self._look(step.link)
        if step.inside and (found is None or not _is_from_outside(found)):
            every = (rtnetlink.link(body) for body in self._netlink.dump(rtnetlink.get_links()))
            going = [link for link in every if _is_from_outside(link)]
        else:
            going = [found] if found is not None and found.alias.endswith(step.alias) else []
        for link in going:
            with _if_there():
                self._send(rtnetlink.remove_link(link.index, step.link))

    def _take_down(self, step: ops.TakeDown) -> None:
        if found := self._look(step.link):
            with _if_there():
                self._send(rtnetlink.change_link(found.index, step.link, up=False))


@contextmanager
def _if_there() -> Iterator[None]:
    """Let it be where the link is gone meanwhile, as links go with their namespace."""
    try:
        yield
    except NetlinkError as e:
        if e.errno != errno.ENODEV:
            raise


def _is_from_outside(link: rtnetlink.Link) -> bool:
    """Tell whether a container's link is on one of the host's: a container alone can't make such a link."""
    return link.kind in ("macvlan", "ipvlan") and link.elsewhere


def _full(bridge: str) -> Conflict:
    return Conflict(
        f"{bridge} has {MAX_PORTS:,} ports, and a bridge takes no more", "put some containers on another network"
    )


def _article(kind: str) -> str:
    return f"a {kind}" if kind else "a link of another kind"


def _set_parameter(step: ops.SetParameter) -> None:
    if step.name.startswith("net/ipv6/") and not os.path.exists(_IPV6):
        return  # a kernel without IPv6: what would be switched off isn't there
    fd = os.open(step.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, step.value.encode())
    finally:
        os.close(fd)
