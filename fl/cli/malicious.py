"""What a malicious client of a run over processes has in its folder, beside what every client has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fl.cohort.layout import Layout
from fl.config.run import RunConfig
from fl.config.secret import CLIENT, RunSecrets, kept, put
from fl.config.section import ConfigError
from fl.data.files import write_atomically
from fl.data.shard import FILE, read_shard, write_shard
from secagg.errors import ClientId

if TYPE_CHECKING:
    from fl.federation.attacking import Attacker, Member

ATTACK: Final = "attack.json"  # who attacks
MEMBERS: Final = "members"  # a folder for each whose data it has: itself, and where they collude all
POISONED: Final = "poisoned"  # folder of what one trains on in an attack on data, in that of a member


class _Who(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    attackers: list[int]


def lay_out(own: Path, config: RunConfig, layout: Layout, u: ClientId, secrets: RunSecrets) -> None:
    """Write what makes client u an attacker into its folder: colluding is sharing."""
    dataset = layout.serving.dataset
    write_atomically(own / ATTACK, msgspec.json.encode(_Who(sorted(layout.attackers))))
    for v in layout.attackers if config.attack.colluding else {u}:
        member = own / MEMBERS / str(v)
        member.mkdir(parents=True)
        write_shard(member, *layout.examples(v), dataset.classes, dataset.name)
        put(member / CLIENT, secrets.client(v))
        if v in layout.poisoned:
            (member / POISONED).mkdir()
            write_shard(member / POISONED, *layout.poisoned_examples(v), dataset.classes, dataset.name)


def found_in(own: Path, config: RunConfig) -> Attacker | None:
    """What `lay_out` wrote, if this client is an attacker.

    Raises: DataError, ConfigError for a damaged file.
    """
    from fl.federation.attacking import Attacker, Attackers

    if not (own / ATTACK).exists():
        return None
    try:
        who = msgspec.json.decode((own / ATTACK).read_bytes(), type=_Who)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{own / ATTACK} does not say who attacks ({error}): begin the run anew, with --force"
        ) from error
    members = {int(path.name): _member(path) for path in sorted((own / MEMBERS).iterdir())}
    known = {v: member.secret for v, member in members.items()}
    attackers = Attackers(config.attack, frozenset(who.attackers), known, clients=config.cohort.clients)
    return Attacker(attackers, members)


def _member(folder: Path) -> Member:
    from fl.federation.attacking import Member

    own, poisoned = read_shard(folder), None
    if (folder / POISONED / FILE).exists():
        shard = read_shard(folder / POISONED)
        poisoned = shard.x, shard.y
    return Member(kept(folder / CLIENT), (own.x, own.y), poisoned)
