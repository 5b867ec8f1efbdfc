"""The firewall of one instance: sampan's own nftables table, and what it must ask of the host around it.

One table, `inet sampan-INSTANCE`, whose rules never change (`firewall_rules`): networks and published ports are
elements of its sets and maps (`firewall_plan`), so that every change is one transaction, as long as what changes.

Beside the table there are three things of the host: its switches (`forwarding`), at most one accept in another's chain
that drops what is forwarded (`gates`, `legacy`), and UDP flows that connection tracking remembers (`flows`). Each is
recorded and undone. What others change is followed (`watch`): a reload of theirs may take ours away.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from sampan.errors import Conflict, Unsupported, doing
from sampan.kernel import nftables
from sampan.kernel.netlink import NetlinkError
from sampan.kernel.nfnetlink import Nfnetlink
from sampan.network import firewall_perform as perform, firewall_plan as plan, flows, gates, host, legacy
from sampan.network.audit import Facts
from sampan.network.firewall_ops import RedirectNames, RemoveTable
from sampan.network.forwarding import Switches, forwarded, write
from sampan.network.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sampan.network.firewall_ops import Element, FirewallOperation
    from sampan.network.firewall_plan import Contents
    from sampan.spec.network import Network, PublishedPort

T = TypeVar("T")

_LOST = frozenset({errno.ENOENT, errno.EEXIST, errno.EBUSY})
"""What the kernel says where the table isn't as we remember it."""

_NONE = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT})
"""What it says where it has no nftables."""

_LACKS = frozenset({errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""What it says of expressions that it wasn't built with, and of NAT in an inet table before Linux 5.2."""

_NEEDS = (
    "networks need Linux 5.2 or newer with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ and "
    "CONFIG_NFT_FIB_INET; without them there are --network host, none and container:NAME"
)


class Firewall:
    """The table of one instance and what belongs to it. Every method is atomic and idempotent; any thread may call it.

    `record` is a file under RUN in which changes of the host outside the table are written before they are made. The
    firewall works in the network namespace of the thread that first uses it. `tell` is called with the name and value
    of every switch of the host that is set for containers to reach the world.
    """

    def __init__(
        self, instance: str, record: str, tell: Callable[[str, str], None] = lambda _name, _value: None
    ) -> None:
        self.instance = instance
        self.table = plan.table_name(instance)
        self._lock = Lock()
        self._netlink: Nfnetlink | None = None
        self._switches = Switches(record, tell)
        self._networks: dict[str, Network] = {}
        self._wanted: Contents | None = None  # None: neither synced nor changed yet
        self._watch: Watch | None = None

    def sync(
        self, networks: Iterable[Network], published: Iterable[tuple[Sequence[str], Sequence[PublishedPort]]] = ()
    ) -> None:
        """Make or repair everything in one transaction, and remember it as what is wanted: what is not named here goes.

        `published` is (addresses of a container, its ports) of every running container. Without networks the table and
        all that was changed of the host go away.
        """
        with self._lock, doing("can't set up the firewall"):
            self._networks = {n.id: n for n in networks if plan.network_elements(n)}
            if not self._networks:
                self._forget_all()
                return
            elements = [e for n in self._networks.values() for e in plan.network_elements(n)]
            elements += (e for addresses, ports in published for e in plan.port_elements(addresses, ports))
            self._repair({**plan.contents(elements), **self._look().elements})
            self._switches.set(plan.forwarding(self._networks.values()))
            self._settle()
            self._open_loopback(elements)

    def add_network(self, network: Network) -> None:
        """Let a bridge network (made before or after, by its `link`) reach what it may. Others need no firewall."""
        with self._lock, doing(f"can't let network {network.name} through the firewall"):
            elements = plan.network_elements(network)
            if elements:
                self._add(elements)
                self._networks[network.id] = network
                self._switches.set(plan.forwarding((network,)))
                self._settle()

    def remove_network(self, network: Network) -> None:
        """Take it back; its containers are gone already. With the last everything goes, as at `forget_all`."""
        with self._lock, doing(f"can't take network {network.name} out of the firewall"):
            if self._networks.pop(network.id, None) is not None and not self._networks:
                self._forget_all()
            else:
                self._remove(plan.network_elements(network))

    def publish(self, addresses: Sequence[str], ports: Sequence[PublishedPort]) -> None:
        """Lead ports of the host to a container, all in one transaction, and flush UDP flows that began before.

        `addresses` are the container's on the network of its default route, with or without prefix; each port goes to
        the one of its host address's version, and nowhere if there is none ("::" with an IPv4-only container: the
        shim relays that). A port whose host address and number lead elsewhere already raises Conflict.
        """
        elements = plan.port_elements(addresses, ports)
        if not elements:
            return
        with self._lock, doing(f"can't publish {_ports(ports)}"):
            self._add(elements)
            self._open_loopback(elements)
            flows.forget_behind(elements, ending=False)

    def unpublish(self, addresses: Sequence[str], ports: Sequence[PublishedPort]) -> None:
        """Take the same back. Ports that lead elsewhere by now, or nowhere, are left alone."""
        elements = plan.port_elements(addresses, ports)
        with self._lock, doing(f"can't end the publication of {_ports(ports)}"):
            flows.forget_behind(self._remove(elements), ending=True)

    def redirect_names(self, namespace: Enterable, udp_port: int, tcp_port: int) -> None:
        """In a container's namespace: lead 127.0.0.11:53 to these ports of 127.0.0.11, where names are answered."""
        with doing("can't lead the container's names to where they are answered"):
            with namespace.call(Nfnetlink) as netlink:
                try:
                    perform.commit(netlink, (RedirectNames(udp_port, tcp_port),))
                except NetlinkError as e:
                    if e.errno != errno.EEXIST:
                        raise
                    perform.commit(netlink, (RedirectNames(udp_port, tcp_port, anew=True),))

    def recheck(self) -> None:
        """Look whether all is still there, and whether others drop what is forwarded; put right what isn't so."""
        with self._lock, doing("can't put the firewall right"):
            if self._networks:
                self._repair(self._wanted or {})
                self._settle()

    def forget_all(self) -> None:
        """Remove the table and undo every recorded change of the host."""
        with self._lock, doing("can't remove the firewall"):
            self._networks.clear()
            self._forget_all()

    def facts(self) -> Facts:
        """Return what the kernel has, for `audit`."""
        with self._lock, doing("can't look at the firewall"):
            netlink = self._socket()
            others, old = gates.look(netlink, self.table), legacy.gates()
            obstacles = (*gates.obstacles(netlink, others.gates, self.table), *legacy.obstacles(old, self.table))
            accepts = (f"{o.chain} accepts packets that our table let pass" for o in obstacles if o.accepted)
            return Facts(
                self.table,
                perform.find(netlink, self.table),
                obstacles,
                forwarded(),
                host.addresses(frozenset(n.link for n in self._networks.values())),
                (*self._switches.told(), *accepts),
            )

    def close(self) -> None:
        """End what follows others' changes, and close what is open; the table stays."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        with self._lock:
            if self._netlink is not None:
                self._netlink.close()
                self._netlink = None

    # With the lock held

    def _add(self, elements: Sequence[Element]) -> None:
        if self._wanted is None:  # nothing that a server before this one left is wanted
            self._repair({})
        wanted = self._wanted or {}
        taken = plan.taken(elements, wanted)
        if taken is not None:
            raise Conflict(f"port {taken.key[-1]}/{taken.key[-2]} leads to {':'.join(taken.data)} already")
        new = tuple(e for e in elements if (e.set, e.key) not in wanted)
        self._change((), new, {**wanted, **plan.contents(new)})

    def _remove(self, elements: Sequence[Element]) -> tuple[Element, ...]:
        wanted = self._wanted or {}
        gone = tuple(e for e in elements if wanted.get((e.set, e.key)) == e.data)
        keys = {(e.set, e.key) for e in gone}
        self._change(gone, (), {key: data for key, data in wanted.items() if key not in keys})
        return gone

    def _change(self, gone: tuple[Element, ...], new: tuple[Element, ...], wanted: Contents) -> None:
        """Change the table by one transaction; where it isn't as we remember it, make it so."""
        if not gone and not new:
            return
        try:
            self._commit(plan.change(self.instance, gone, new))
            self._wanted = wanted
        except NetlinkError as e:
            if e.errno not in _LOST:
                raise
            self._repair(wanted)

    def _repair(self, wanted: Contents) -> None:
        found = perform.find(self._socket(), self.table)
        if found is not None:
            self._commit(plan.change(self.instance, *plan.difference(wanted, found)))
        else:
            self._make(wanted)
        self._wanted = wanted

    def _make(self, wanted: Contents) -> None:
        try:
            self._commit(plan.whole(self.instance, wanted))
        except NetlinkError as e:
            if e.errno in _LACKS:
                raise Unsupported(f"this kernel's nftables lacks something: {e}", _NEEDS) from e
            if e.errno != errno.EEXIST:
                raise
            self._commit(plan.whole(self.instance, wanted, anew=True))

    def _settle(self) -> None:
        """Adapt to what else there is on the host that deals with forwarded packets."""
        if self._watch is None:
            self._watch = Watch(self.recheck, blind=legacy.any_in_use)
        around = self._look()
        known = self._wanted or {}
        change = plan.difference(around.elements, plan.surroundings_in(known))
        self._change(*change, {**plan.without_surroundings(known), **around.elements})
        perform.open_others(self._socket(), self.table)
        gates.put(self._socket(), around.gates, self.table)
        legacy.put(around.old, self.table)

    def _look(self) -> _Around:
        others, old = gates.look(self._socket(), self.table), legacy.gates()
        marked = [*(v for gate in others.gates for v in gate.versions), *(gate.version for gate in old)]
        alone = [] if others.forwarding else [v for v in self._switches.forwarding() if not legacy.in_use(v)]
        return _Around(others.gates, old, plan.contents(plan.surroundings(marked, alone)))

    def _commit(self, operations: Iterable[FirewallOperation]) -> None:
        perform.commit(self._socket(), operations)

    def _socket(self) -> Nfnetlink:
        if self._netlink is None:
            try:
                netlink = Nfnetlink()
                netlink.dump(nftables.dump(nftables.Message.GETTABLE))
            except OSError as e:
                if e.errno not in _NONE:
                    raise
                raise _no_nftables() from e
            self._netlink = netlink
        return self._netlink

    def _open_loopback(self, elements: Sequence[Element]) -> None:
        """Let the host's 127.0.0.1 be led to containers, on the bridges of these elements' addresses."""
        addresses = {e.data[0] for e in elements if plan.is_from_loopback(e)}
        for network in self._networks.values():
            if any(plan.is_on(network, address) for address in addresses):
                switch = plan.local_routes(network)
                with suppress(FileNotFoundError):  # the bridge isn't there yet; it goes with the bridge
                    write(switch.name, switch.value)

    def _forget_all(self) -> None:
        if perform.exists(self._socket(), self.table):
            self._commit((RemoveTable(self.table),))
        self._wanted = {}
        gates.put(self._socket(), (), self.table)
        legacy.take_away(self.table)
        self._switches.undo(needed=gates.look(self._socket(), self.table).forwarding)


class _Around(NamedTuple):
    """What else deals with forwarded packets, and what the table must know of it."""

    gates: tuple[gates.Gate, ...]
    old: list[legacy.Gate]
    elements: Contents


class Enterable(Protocol):
    """A network namespace: `network.namespace.Namespace`."""

    def call(self, function: Callable[[], T]) -> T:
        """Call it in the namespace."""


def _no_nftables() -> Unsupported:
    only = " (it has iptables' older kind only)" if legacy.any_in_use() else ""
    return Unsupported(f"this host's kernel has no nftables{only}", _NEEDS)


def _ports(ports: Sequence[PublishedPort]) -> str:
    named = list(dict.fromkeys(f"{p.host_port}/{p.protocol}" for p in ports))
    return ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
