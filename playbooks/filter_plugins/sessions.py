"""What students may start: the inputs jupyterhub_kinds and jupyterhub_profiles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def session_problems(inputs: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the kinds and sizes of sessions, beyond names and types; a sentence each.

    Parameters
    ----------
    inputs
        `kinds` and `profiles` as the inventory has them, and `xpra`, whether the hub's machine is in that group.
    """
    found = []
    kinds, profiles = list(inputs["kinds"]), list(inputs["profiles"])
    if not kinds:
        found.append("jupyterhub_kinds is empty: name lab, notebook or desktop.")
    found += [f"jupyterhub_kinds has {kind} {count} times: write it once." for kind, count in _several(kinds)]
    if "desktop" in kinds and not inputs["xpra"]:
        found.append(
            "jupyterhub_kinds has desktop, but the hub's machine is not in the group xpra: put it there, or leave"
            " desktop out."
        )
    names = [str(profile["name"]) for profile in profiles]
    found += [f"jupyterhub_profiles has {name} {count} times: rename one." for name, count in _several(names)]
    for profile, name in zip(profiles, names, strict=True):
        what = f"The profile {name} of jupyterhub_profiles"
        if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
            found.append(
                f"jupyterhub_profiles has the name {name!r}: take lower-case letters, digits and hyphens, as it stands"
                " in addresses. What people read is title."
            )
        if float(profile["memory_mb"]) < 256:
            found.append(f"{what} has memory_mb {profile['memory_mb']}: no session starts with less than 256.")
        if float(profile["cpus"]) <= 0:
            found.append(f"{what} has cpus {profile['cpus']}: give a number above 0.")
        if float(profile.get("hours", 0)) < 0:
            found.append(f"{what} has hours {profile['hours']}: give a number of hours, or 0 for no end.")
        most = float(profile.get("max_hours", 0))
        if most and not 0 < float(profile.get("hours", 0)) <= most:
            found.append(
                f"{what} has max_hours {profile['max_hours']} and hours {profile.get('hours', 0)}: a session of hours"
                " can be extended to max_hours, which must be more, or 0."
            )
    if profiles and all(profile.get("groups") for profile in profiles):
        found.append(
            "Each of jupyterhub_profiles has groups: leave them out of one, so that everybody can have a session."
        )
    return found


def _several(names: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in Counter(names).items() if count > 1]


def session_profiles(profiles: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sizes as the hub takes them."""
    return [
        {
            "name": str(profile["name"]),
            "title": str(profile.get("title") or ""),
            "memory_mb": int(profile["memory_mb"]),
            "cpus": float(profile["cpus"]),
            "hours": float(profile.get("hours", 0)),
            "max_hours": float(profile.get("max_hours", 0)),
            "groups": [str(group) for group in profile.get("groups", [])],
        }
        for profile in profiles
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"session_problems": session_problems, "session_profiles": session_profiles}
