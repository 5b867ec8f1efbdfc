"""Advice on a build's Dockerfile: all that `--check` does, and what a build tells when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.build import ignore
from sampan.build.graph import Platforms, platform_arguments
from sampan.build.lint import Base, Surroundings, lint
from sampan.errors import InvalidInput, NotFound
from sampan.image import platforms
from sampan.spec.build import Location, Warned

if TYPE_CHECKING:
    from sampan.build.dockerfile.ast import Dockerfile
    from sampan.engine.building.contexts import Contexts
    from sampan.engine.building.telling import Telling
    from sampan.engine.core import Core
    from sampan.spec.build import BuildRequest
    from sampan.spec.distribution import Platform


def is_decisive(dockerfile: Dockerfile) -> bool:
    """Whether advice makes the build fail (`# check=error=true`): it is looked for before anything is done then."""
    return "error" in (dockerfile.directive("check") or "")


def advise(
    core: Core, request: BuildRequest, dockerfile: Dockerfile, platform: Platform, contexts: Contexts, telling: Telling
) -> None:
    """Tell what there is to be said. Raises InvalidInput for a fault, and where the directive makes advice an error.

    Base images are looked for here only, not at a registry: of what isn't here no variables are known, and nothing is
    said of them.
    """
    target = request.target or dockerfile.stages[-1].name
    predefined = platform_arguments(Platforms(build=platforms.own(), target=platform), target)
    report = lint(
        dockerfile,
        Surroundings(
            arguments=request.args,
            predefined=predefined,
            base=lambda image, wanted: _base(core, request, image, wanted or str(platform)),
            ignored=lambda path: _is_ignored(contexts, path),
        ),
    )
    for found in report.violations:
        telling.tell(
            Warned(
                message=found.message,
                rule=found.rule.name,
                description=found.rule.description,
                url=found.rule.url,
                location=Location(found.location.start, found.location.end),
                source=found.source,
            )
        )
    if report.error:
        raise report.error


def _base(core: Core, request: BuildRequest, image: str, platform: str) -> Base:
    if image in request.contexts:
        return Base(known=False)
    try:
        found = core.images.resolve(image, platform)
    except (NotFound, InvalidInput):
        return Base(known=False)
    return Base(config=found.config.execution, platform=found.config.platform)


def _is_ignored(contexts: Contexts, path: str) -> bool:
    return ignore.Matcher(contexts.place("").ignore).match(path)[0]
