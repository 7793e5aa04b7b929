"""Let modules import what they share, as Ansible does by its setting `module_utils`."""

from pathlib import Path

from ansible import module_utils

module_utils.__path__.append(str(Path(__file__).parents[2] / "playbooks" / "module_utils"))
