"""The networks of this instance in memory: how a name finds one, who is on it, and which addresses are given away."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from sampan.engine.store import NetworkRow
from sampan.errors import Conflict, Failed, InvalidInput, NotFound, NotPermitted
from sampan.network.ipam import Pool, mac_of, overlap
from sampan.spec.decoding import convert, decode_json
from sampan.spec.network import DEFAULT, Endpoint, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.engine.store import Store


def _always_there(name: str, driver: str) -> Network:
    """Return a network that is not made but always there. Its id is the same in every instance."""
    id = hashlib.sha256(f"sampan network {name}".encode()).hexdigest()
    return convert({"id": id, "name": name, "created_ns": 0, "driver": driver, "ipv4": False}, Network)


class _Entry:
    """A network with what of it changes. Under the registry's lock, but for `making`."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.pools = tuple(Pool(subnet) for subnet in network.subnets)
        self.endpoints: dict[str, Endpoint] = {}  # by container
        self.leaving: dict[str, tuple[Endpoint, float]] = {}  # by endpoint, and since when
        self.up = False
        self.making = threading.Lock()


class Networks:
    """All networks. Every method may be called from any thread; none waits for the kernel, but for `ensure_up`."""

    def __init__(self, store: Store) -> None:
        self.freeing = False  # whether somebody is about to look after those that have left
        self._store = store
        self._lock = threading.Lock()
        rows = store.networks()
        known = [decode_json(row.document, Network) for row in rows]
        known += [_always_there("host", "host"), _always_there("none", "null")]
        self._entries = {network.id: _Entry(network) for network in known}

    def __iter__(self) -> Iterator[Network]:
        with self._lock:
            return iter([entry.network for entry in self._entries.values()])

    def get(self, id: str) -> Network | None:
        """Return the network of a whole id."""
        entry = self._entries.get(id)
        return entry.network if entry else None

    def find(self, ref: str) -> Network:
        """Return the network of an id, a name, or an id's beginning that only one has; in this order, as Docker."""
        if found := self.get(ref):
            return found
        named = [network for network in self if network.name == ref]
        begins = [network for network in self if ref and network.id.startswith(ref)]
        if not named and len(begins) > 1:
            raise InvalidInput(f"network {ref} is ambiguous ({len(begins)} matches found based on ID prefix)")
        if not named and not begins:
            raise NotFound(f"network {ref} not found", "`sampan network ls` lists them")
        return (named or begins)[0]

    @property
    def default(self) -> Network:
        """The network of containers whose user named none."""
        return self.find(DEFAULT)

    # -- making and removing

    def add(self, make: Callable[[list[str]], Network]) -> Network:
        """Take in what `make` returns, which is given the subnets of all others. Raises Conflict for a name in use."""
        with self._lock:
            others = [entry.network for entry in self._entries.values()]
            subnets = [subnet.subnet for other in others for subnet in other.subnets]
            network = make(subnets)
            for other in others:
                if other.name == network.name:
                    raise Conflict(f"network with name {network.name} already exists", "choose another name")
                if network.parent and other.parent == network.parent:
                    raise NotPermitted(
                        f"network {other.name} is already using parent interface {network.parent}",
                        "a VLAN of it, as in -o parent=eth0.50, may be another network's",
                    )
                if network.link and other.link == network.link:
                    raise NotPermitted(
                        f"network {network.id} ({network.link}): conflicts with network {other.id} ({other.link}): "
                        "networks have same bridge name"
                    )
            for subnet in network.subnets:
                if overlap(subnet.subnet, subnets):
                    raise NotPermitted(
                        "invalid pool request: Pool overlaps with other one on this address space",
                        self._whose(subnet.subnet),
                    )
            row = NetworkRow(network.id, network.name, network.created_ns, msgspec.json.encode(network))
            self._store.add_network(row)
            self._entries[network.id] = _Entry(network)
        return network

    def _whose(self, subnet: str) -> str:
        for entry in self._entries.values():
            if other := overlap(subnet, [s.subnet for s in entry.network.subnets]):
                return f"{subnet} overlaps {other} of the network {entry.network.name}: choose another, or none"
        return ""

    def remove(self, network: Network) -> None:
        """Forget a network, once what is being made of it is made. Raises NotPermitted while somebody is on it."""
        entry = self._entry(network.id)
        with entry.making, self._lock:
            self._entry(network.id)  # another may have been faster
            if entry.endpoints:
                raise in_use(network, len(entry.endpoints), next(iter(entry.endpoints.values())))
            self._store.delete_network(network.id)
            del self._entries[network.id]

    def ensure_up(self, network: Network, make: Callable[[Network], None]) -> None:
        """Call `make` unless it was called since this server began, or since `is_down`; one thread at a time."""
        entry = self._entry(network.id)
        with entry.making:
            self._entry(network.id)
            if not entry.up:
                make(network)
                entry.up = True

    def is_down(self, network: Network) -> None:
        """Its bridge has turned out to be gone."""
        if entry := self._entries.get(network.id):
            entry.up = False

    def up(self) -> list[Network]:
        """Return those that `ensure_up` has made."""
        with self._lock:
            return [entry.network for entry in self._entries.values() if entry.up]

    # -- who is on it

    def endpoints(self, id: str) -> list[Endpoint]:
        """Return the places of running containers on a network."""
        with self._lock:
            entry = self._entries.get(id)
            return list(entry.endpoints.values()) if entry else []

    def join(self, endpoint: Endpoint, wanted: tuple[str, ...] = ()) -> Endpoint:
        """Give an endpoint its addresses: those `wanted` of it, else the lowest; and a MAC if it has none."""
        with self._lock, ExitStack() as undo:
            entry = self._entry(endpoint.network)
            addresses, gateways = [], []
            for version in sorted({pool.version for pool in entry.pools}):
                pools = [pool for pool in entry.pools if pool.version == version]
                pool, asked = _choose(pools, wanted)
                addresses.append(pool.take(asked))
                undo.callback(pool.give_back, addresses[-1])
                gateways.append(pool.gateway)
            mac = endpoint.mac or (mac_of(addresses[0]) if addresses else "")
            endpoint = msgspec.structs.replace(
                endpoint, addresses=tuple(addresses), gateways=tuple(filter(None, gateways)), mac=mac
            )
            entry.endpoints[endpoint.container] = endpoint
            undo.pop_all()
        return endpoint

    def rejoin(self, endpoint: Endpoint) -> None:
        """Note that a container that runs has these addresses: a server before this one gave them."""
        with self._lock:
            entry = self._entries.get(endpoint.network)
            if entry is None:
                return
            entry.endpoints[endpoint.container] = endpoint
            for address in endpoint.addresses:
                for pool in entry.pools:
                    if address in pool:
                        pool.hold(address)

    def leave(self, endpoint: Endpoint) -> None:
        """Take an endpoint off its network; its addresses are held until `give_back`. Once more does nothing."""
        with self._lock:
            entry = self._entries.get(endpoint.network)
            known = entry.endpoints.get(endpoint.container) if entry else None
            if entry is not None and known is not None and known.id == endpoint.id:
                del entry.endpoints[endpoint.container]
                entry.leaving[endpoint.id] = endpoint, time.monotonic()

    def leaving(self) -> list[tuple[Endpoint, float]]:
        """Return the endpoints that have left and may have a link still, with the time since when."""
        with self._lock:
            return [each for entry in self._entries.values() for each in entry.leaving.values()]

    def give_back(self, endpoint: Endpoint) -> None:
        """Let the addresses of one that has left be given to others: nothing comes from its link any more."""
        with self._lock:
            entry = self._entries.get(endpoint.network)
            if entry is None or endpoint.id not in entry.leaving:
                return
            left, since = entry.leaving[endpoint.id]
            entry.leaving[endpoint.id] = msgspec.structs.replace(left, addresses=()), since
            for address in left.addresses:
                for pool in entry.pools:
                    if address in pool:
                        pool.give_back(address)

    def free(self, endpoint: Endpoint) -> None:
        """Forget one that has left: its link is gone. Its addresses are given back if they were not."""
        self.give_back(endpoint)
        with self._lock:
            if entry := self._entries.get(endpoint.network):
                entry.leaving.pop(endpoint.id, None)

    def _entry(self, id: str) -> _Entry:
        entry = self._entries.get(id)
        if entry is None:
            raise NotFound(f"network {id} not found", "it was removed meanwhile")
        return entry


def _choose(pools: list[Pool], wanted: tuple[str, ...]) -> tuple[Pool, str]:
    """Return which of a version's pools to take from, and the address wanted of it; "" for any."""
    for pool in pools:
        for address in wanted:
            if address in pool:
                return pool, address
    for pool in pools[:-1]:
        try:
            pool.lowest()
        except Failed:
            continue
        return pool, ""
    return pools[-1], ""


def in_use(network: Network, number: int, endpoint: Endpoint) -> NotPermitted:
    """Return Docker's refusal to remove a network that somebody is on."""
    more = f" and {number - 1} more" if number > 1 else ""
    return NotPermitted(
        f"error while removing network: network {network.name} has active endpoints "
        f'(name:"{endpoint.names[0] if endpoint.names else ""}" id:"{endpoint.id[:12]}"){more}',
        "stop its containers, or take them off it with `network disconnect -f`",
    )
