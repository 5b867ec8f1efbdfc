"""Devices that are asked for by name: `--gpus`, and `--device vendor.com/class=name`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine import cdi
from sampan.errors import InvalidInput, SampanError
from sampan.spec.cdi_names import split

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.engine.cdi import Found
    from sampan.engine.core import Core
    from sampan.spec.docker import DeviceRequest, HostConfig
    from sampan.spec.runtime import Spec

_ALL = "all"
_GPU = "gpu"
_VENDORS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}
_CAPABILITIES = frozenset({_GPU, "nvidia", "compute", "compat32", "graphics", "utility", "video", "display", *_VENDORS})


def given(core: Core, host_config: HostConfig, spec: Spec) -> Spec:
    """Return a container's configuration with the devices that it asks for, as the files describe them now."""
    if not host_config.device_requests:
        return spec
    found = cdi.find(directories(core))
    return cdi.edited(spec, cdi.edits_of(found, names(host_config.device_requests, found)))


def still_given(core: Core, host_config: HostConfig, spec: Spec) -> Spec:
    """Return the same for a program in a container that runs, which has them, whatever the files say by now."""
    try:
        return given(core, host_config, spec)
    except SampanError:
        return spec


def directories(core: Core) -> tuple[str, ...]:
    """Return where CDI files are; the last one's devices count."""
    return core.settings.read().devices.cdi_spec_dirs


def discovered(core: Core) -> Found:
    """Return what can be asked for; where the configuration can't be read, that as a fault."""
    try:
        return cdi.find(directories(core))
    except SampanError as e:
        return cdi.Found({}, (e.message,))


def names(requests: Iterable[DeviceRequest], found: Found) -> list[str]:
    """Return the full names of the devices that requests mean. Raises InvalidInput in Docker's words."""
    return [name for request in requests for name in _names(request, found)]


def _names(request: DeviceRequest, found: Found) -> list[str]:
    if request.driver == "cdi":
        if request.count:
            raise InvalidInput("unexpected count in CDI device request", "name the devices")
        if request.options:
            raise InvalidInput("unexpected options in CDI device request", "a CDI device has none")
        return list(request.device_ids or ())
    kind = _kind(request, found)
    if request.options:
        raise InvalidInput(f"can't give options to {kind}: a CDI device has none", "leave options out")
    if request.count and request.device_ids:
        raise InvalidInput("cannot set both Count and DeviceIDs on device request")
    if request.device_ids:
        return [id if split(id) else f"{kind}={id}" for id in request.device_ids]
    there = [name for name in found.of_kind(kind) if name != _ALL]
    if request.count < 0:
        return [f"{kind}={_ALL}"] if f"{kind}={_ALL}" in found.devices else [f"{kind}={name}" for name in there]
    numbered = [name for name in there if name.isdecimal()] or there  # else each may be there by its UUID once more
    if request.count > len(numbered):
        raise InvalidInput(f"can't give it {request.count} devices: {kind} has {len(numbered)}")
    return [f"{kind}={name}" for name in numbered[: request.count]]


def _kind(request: DeviceRequest, found: Found) -> str:
    """Return the kind of GPUs that are meant: the driver's; without one, that which is here."""
    driver, asked = request.driver, request.capabilities or ()
    kinds = found.kinds()
    if any(_GPU in group and set(group) <= _CAPABILITIES for group in asked):
        here = [kind for kind in _VENDORS.values() if kind in kinds]
        here += [kind for kind in kinds if kind.endswith(f"/{_GPU}") and kind not in here]
        wanted = [_VENDORS[driver]] if driver in _VENDORS else [] if driver else here
        if wanted and wanted[0] in kinds:
            return wanted[0]
    shown = " ".join(f"[{' '.join(group)}]" for group in asked)
    raise InvalidInput(
        f'could not select device driver "{driver}" with capabilities: [{shown}]',
        f"no CDI file describes such devices; {_advice(kinds)}",
    )


def _advice(kinds: list[str]) -> str:
    if kinds:
        return f"there is {', '.join(kinds)}"
    return "for NVIDIA's: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
